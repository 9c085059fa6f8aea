"""Solves for the sizes of groups with all that was published: all cells, tables and days at once.

Each line of the input is a fleet with its exact numbers and what the program publishes of it, as the test
`collector_adversary` makes them; the first argument is how many seconds the solver has for a question (10). The
adversary knows how the numbers are made, which values there are, and that each table has the same total; it does not
know the key, so each cell has an offset and a threshold that it does not know, the same on each day. The solver is HiGHS.
A group is pinned where every solution has its size in 1 to 4, or the same change of it that is not zero. Which sizes were
joined tells something, too, which is no linear constraint: there a solution is looked for by which the same are joined.
First it breaks six publishers that are wrong on purpose, then it tries the program's. Exits with 1 where one of the six
holds, where something of the program's is pinned, or where it could not be decided of a fleet of up to 10,000.
"""

import json
import random
import sys

import highspy

STEP, THRESHOLD, SPREAD = 5, 10, 5
SIZES = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001]
OTHER = "other"
DECIDED = 10_000


class Model:
    """What is known, as linear constraints over whole numbers."""

    def __init__(self, days):
        self.solver = highspy.Highs()
        self.solver.setOptionValue("output_flag", False)
        self.solver.setOptionValue("random_seed", 1)
        self.days = days
        self.columns = {}
        self.bounds = []
        self.totals = [self.column(("total", day), 0, 10_000_000) for day in range(days)]
        self.solutions = []

    def column(self, name, low, high):
        if name not in self.columns:
            self.columns[name] = len(self.columns)
            self.bounds.append((low, high))
            self.solver.addVar(float(low), float(high))
            self.solver.changeColIntegrality(self.columns[name], highspy.HighsVarType.kInteger)
        return self.columns[name]

    def group(self, name, day):
        return self.column(("group", name, day), 0, 10_000_000)

    def row(self, low, high, terms):
        self.solver.addRow(float(low), float(high), len(terms), list(terms), [float(v) for v in terms.values()])

    def exact(self, columns, number):
        self.row(number, number, {column: 1 for column in columns})

    def between(self, columns, low, high):
        self.row(low, high, {column: 1 for column in columns})

    def rounded(self, columns, number, key):
        """Shown by a secret offset and above a secret threshold, both those of the cell."""
        offset, threshold = self.secrets(key)
        self.row(number, number + STEP - 1, {**{column: 1 for column in columns}, offset: 1})
        self.row(0, highspy.kHighsInf, {**{column: 1 for column in columns}, threshold: -1})

    def hidden(self, columns, key):
        _, threshold = self.secrets(key)
        self.row(-highspy.kHighsInf, -1, {**{column: 1 for column in columns}, threshold: -1})

    def secrets(self, key):
        return (
            self.column(("offset", key), 0, STEP - 1),
            self.column(("threshold", key), THRESHOLD, THRESHOLD + SPREAD - 1),
        )

    def add_up(self, columns, day):
        self.row(0, 0, {**{column: 1 for column in columns}, self.totals[day]: -1})

    def solve(self, seconds, objective=None, maximise=False):
        """The values of some solution, `None` where there is none; "undecided" where time ran out before one."""
        count = len(self.columns)
        costs = [0.0] * count
        for column, cost in (objective or {}).items():
            costs[column] = float(cost)
        self.solver.changeColsCost(count, list(range(count)), costs)
        sense = highspy.ObjSense.kMaximize if maximise else highspy.ObjSense.kMinimize
        self.solver.changeObjectiveSense(sense)
        self.solver.setOptionValue("time_limit", self.solver.getRunTime() + seconds)
        self.solver.run()
        status = self.solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return None
        if self.solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return "undecided"
        values = [round(value) for value in self.solver.getSolution().col_value]
        self.solutions.append(values)
        return values

    def hold(self, bounds):
        lows, highs = ([float(value) for value in side] for side in zip(*bounds))
        self.solver.changeColsBounds(len(bounds), list(range(len(bounds))), lows, highs)

    def within(self, columns, low, high, seconds, days):
        """Whether the sum of the columns, which are of those days, can be in that range.

        First all other days, and what is secret, stay as in a solution that is known: that leaves little to solve, and
        what it finds is a solution of the whole. Only where it finds none, all may change.
        """
        self.row(low, high, columns)
        row = self.solver.getNumRow() - 1
        found = None
        if self.solutions:
            is_free = lambda name: name[0] in ("group", "total") and name[-1] in days
            known = zip(self.columns, self.bounds, self.solutions[0])
            self.hold([bounds if is_free(name) else (value, value) for name, bounds, value in known])
            found = self.solve(seconds)
            self.hold(self.bounds)
        if found in (None, "undecided"):
            found = self.solve(seconds)
        self.solver.deleteRows(1, [row])
        return found if found in (None, "undecided") else True


def bin_of(count):
    return max(at for at, start in enumerate(SIZES) if start <= count)


def size_name(first, last):
    if last + 1 == len(SIZES):
        return f"{SIZES[first]} and more"
    following = SIZES[last + 1]
    return str(SIZES[first]) if following == SIZES[first] + 1 else f"{SIZES[first]} to {following - 1}"


def ranges():
    return {size_name(a, b): range(a, b + 1) for a in range(len(SIZES)) for b in range(a, len(SIZES))}


RANGES = ranges()


def folded(counts, secrets):
    """The ranges of sizes as the program joins and shows them, where these are the counts of all."""
    sizes = [(at, at, count) for at, count in enumerate(counts)]
    while True:
        shown, hidden = [], []
        for at, (first, last, count) in enumerate(sizes):
            offset, threshold = secrets[(first, last)]
            if count >= threshold:
                shown.append(((first, last), (count + offset) // STEP * STEP))
            else:
                hidden.append((count, at))
        if not hidden:
            return shown
        if len(sizes) == 1:
            return []
        at = min(hidden)[1]
        to_left = at > 0 and (at + 1 == len(sizes) or sizes[at - 1][2] <= sizes[at + 1][2])
        left = at - 1 if to_left else at
        (first, _, one), (_, last, other) = sizes[left : left + 2]
        sizes[left : left + 2] = [(first, last, one + other)]


class Fleet:
    """A fleet, with what everybody knows of it: which values there are."""

    def __init__(self, line):
        self.days = line["days"]
        self.secrets = {
            field: {(at.start, at.stop - 1): cells[name] for name, at in RANGES.items()}
            for field, cells in line["secrets"].items()
        }
        self.truth = [{} for _ in self.days]
        self.fields = {}
        for day, at in zip(self.days, self.truth):
            for field, cells in day["exact"].items():
                if "sizes" in cells:
                    self.fields.setdefault(field, set(range(len(SIZES))))
                    cells = [(bin_of(size), count) for size, count in cells["sizes"]]
                else:
                    self.fields.setdefault(field, set()).update(cells)
                    cells = cells.items()
                for value, count in cells:
                    at[(field, value)] = at.get((field, value), 0) + count
        self.total = [sum(n for (field, _), n in day.items() if field == "os") for day in self.truth]
        for day in range(len(self.days)):
            for field in self.secrets:
                assert self.joined(field, day, self.sizes(field, day)), (field, day)

    def count(self, group, day):
        return self.truth[day].get(group, 0)

    def groups(self):
        return [(field, value) for field, values in self.fields.items() for value in sorted(values, key=str)]

    def sizes(self, field, day):
        return [self.count((field, value), day) for value in range(len(SIZES))]

    def joined(self, field, day, counts):
        """Whether these counts would be published as the true ones are."""
        published = self.days[day]["published"]
        if published["ids"] is None:
            return True
        cells = next(of["cells"] for of in published["fields"] if of["field"] == field)
        cells = [((RANGES[cell["value"]].start, RANGES[cell["value"]].stop - 1), cell["ids"]) for cell in cells]
        return folded(counts, self.secrets[field]) == cells

    def may_be_other(self, group, day, numbers):
        """Whether a group of sizes may have one of these numbers, which it has not, and all else be published so."""
        field, value = group
        counts = self.sizes(field, day)
        for number in numbers:
            for other in range(len(SIZES)):
                moved = list(counts)
                moved[value] = number
                moved[other] += counts[value] - number
                if other != value and moved[other] >= 0 and self.joined(field, day, moved):
                    return True
        # Where all are few, more than two of them have to be others.
        chance = random.Random(1)
        return any(self.joined(field, day, self.shuffled(group, day, numbers[at % len(numbers)], chance))
                   for at in range(20_000))

    def shuffled(self, group, day, number, chance):
        """Other counts by chance, by which each range that is shown has as many as it has, and the group that number."""
        field, value = group
        counts = self.sizes(field, day)
        shown = next(of["cells"] for of in self.days[day]["published"]["fields"] if of["field"] == field)
        moved = [0] * len(SIZES)
        for cells in [RANGES[cell["value"]] for cell in shown] or [range(len(SIZES))]:
            free = sum(counts[at] for at in cells)
            if value in cells:
                # More than there are in the range make no such table.
                moved[value] = number
                free -= number
            others = [at for at in cells if at != value]
            others = chance.sample(others, chance.randint(min(1, len(others)), len(others)))
            for _ in range(free if others else 0):
                moved[chance.choice(others)] += 1
        return moved


def version_class(version):
    return "dev not published" if "mine" in version else "rc not published" if "-rc" in version else "stable published"


def ours(fleet):
    """What the program publishes."""
    model = Model(len(fleet.days))
    for at, day in enumerate(fleet.days):
        published = day["published"]
        column = lambda field, value: model.group((field, value), at)
        if published["ids"] is None:
            model.hidden([model.totals[at]], "total")
            continue
        model.rounded([model.totals[at]], published["ids"], "total")
        for field in fleet.fields:
            model.add_up([column(field, value) for value in fleet.fields[field]], at)
        shown = {cell["version"]: cell["ids"] for cell in published["versions"] if cell["version"]}
        rest = {}
        for version in sorted(fleet.fields["version"]):
            if version in shown:
                model.rounded([column("version", version)], shown[version], ("version", version))
            else:
                model.hidden([column("version", version)], ("version", version))
                rest.setdefault(version_class(version), []).append(column("version", version))
        of_class = {
            f"{cell['channel']} {'published' if cell['published'] else 'not published'}": cell["ids"]
            for cell in published["versions"]
            if not cell["version"] and cell["channel"]
        }
        remaining = []
        for name, columns in rest.items():
            if name in of_class:
                model.rounded(columns, of_class[name], ("class", name))
            else:
                model.hidden(columns, ("class", name))
                remaining += columns
        other = [cell["ids"] for cell in published["versions"] if not cell["channel"]]
        if other:
            model.rounded(remaining, other[0], ("version", OTHER))
        elif remaining:
            model.hidden(remaining, ("version", OTHER))
        for field in published["fields"]:
            name, shown = field["field"], {cell["value"]: cell["ids"] for cell in field["cells"]}
            values = fleet.fields[name]
            if all(isinstance(value, int) for value in values):
                for value, number in shown.items():
                    model.rounded([column(name, at_bin) for at_bin in RANGES[value]], number, (name, value))
                continue
            hidden = [value for value in sorted(values) if value not in shown]
            for value in values:
                if value in shown:
                    model.rounded([column(name, value)], shown[value], (name, value))
                else:
                    model.hidden([column(name, value)], (name, value))
            columns = [column(name, value) for value in hidden]
            if OTHER in shown:
                model.rounded(columns, shown[OTHER], (name, OTHER))
            elif columns and values != {"yes", "no"}:
                model.hidden(columns, (name, OTHER))
    return model


def base(fleet):
    model = Model(len(fleet.days))
    for at in range(len(fleet.days)):
        for field in ("os", "arch", "multi_tenant", "version"):
            model.add_up([model.group((field, value), at) for value in fleet.fields[field]], at)
    return model


def cells(fleet, model, field, at):
    """Each value of a field with its number and its column."""
    return [(value, fleet.count((field, value), at), model.group((field, value), at)) for value in fleet.fields[field]]


def exact_total_beside_folded_cells(fleet):
    """The total is exact, and so are the cells of ten and more; the others are folded away."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        model.exact([model.totals[at]], fleet.total[at])
        for _, count, column in cells(fleet, model, "multi_tenant", at):
            model.exact([column], count) if count >= THRESHOLD else model.between([column], 0, THRESHOLD - 1)
    return model


def small_cell_folded_alone(fleet):
    """Exact from ten on; the others are exact together, also where only one is folded there."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        for field in ("os", "arch", "multi_tenant"):
            other = [(count, column) for _, count, column in cells(fleet, model, field, at) if count < THRESHOLD]
            for _, count, column in cells(fleet, model, field, at):
                model.exact([column], count) if count >= THRESHOLD else model.between([column], 0, THRESHOLD - 1)
            if other:
                model.exact([column for _, column in other], sum(count for count, _ in other))
    return model


def rounding_drawn_anew(fleet):
    """Rounded up or down by chance. The page of each day shows the 30 days before again, each time with new chance."""
    model = base(fleet)
    chance = random.Random(1)
    for at in range(len(fleet.days)):
        for _, count, column in cells(fleet, model, "os", at):
            for _ in range(min(30, len(fleet.days) - at)):
                number = (count + chance.randrange(STEP)) // STEP * STEP
                model.between([column], number - STEP + 1, number + STEP - 1)
    return model


def threshold_crossed_on_two_days(fleet):
    """Exact from five on, and so is `other`: what falls below five joins what was hidden before. Two days are shown
    where a value is on the one side on the first, and on the other on the second."""
    model = base(fleet)
    is_shown = lambda value, at: fleet.count(("arch", value), at) >= 5
    crossed = [at for at in range(1, len(fleet.days))
               if any(is_shown(value, at - 1) != is_shown(value, at) for value in fleet.fields["arch"])]
    for at in sorted({day for at in crossed for day in (at - 1, at)}):
        hidden = []
        for _, count, column in cells(fleet, model, "arch", at):
            if count >= 5:
                model.exact([column], count)
            else:
                model.between([column], 0, 4)
                hidden.append((count, column))
        other = sum(count for count, _ in hidden)
        columns = [column for _, column in hidden]
        model.exact(columns, other) if other >= 5 else model.between(columns, 0, 4)
    return model


def one_field_at_two_granularities(fleet):
    """Versions are exact from five on; so are their channels, of which each version has one."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        channels = {}
        for value, count, column in cells(fleet, model, "version", at):
            channels.setdefault(version_class(value), []).append((count, column))
            model.exact([column], count) if count >= 5 else model.between([column], 0, 4)
        for channel in channels.values():
            if sum(count for count, _ in channel) >= 5:
                model.exact([column for _, column in channel], sum(count for count, _ in channel))
    return model


def shares_finer_than_the_counts(fleet):
    """Counts are shown from ten on and rounded to five, but shares are told in hundredths of a per cent."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        total = fleet.total[at]
        model.rounded([model.totals[at]], total // STEP * STEP, "total")
        for value, count, column in cells(fleet, model, "multi_tenant", at):
            if count < THRESHOLD:
                model.between([column], 0, THRESHOLD - 1)
                continue
            model.between([column], count // STEP * STEP, count // STEP * STEP + STEP - 1)
            share = round(10_000 * count / total)
            model.row(-highspy.kHighsInf, 0, {column: 10_000, model.totals[at]: -(share + 0.5)})
            model.row(0, highspy.kHighsInf, {column: 10_000, model.totals[at]: -(share - 0.5)})
    return model


WRONG = [
    exact_total_beside_folded_cells,
    small_cell_folded_alone,
    rounding_drawn_anew,
    threshold_crossed_on_two_days,
    one_field_at_two_granularities,
    shares_finer_than_the_counts,
]


def attack(fleet, model, seconds, at_once=None, joins=False):
    """Which groups are pinned, and about which the solver did not decide. `joins`: whether sizes were joined."""
    pinned, undecided = [], []
    known = [(group, at) for group in fleet.groups() for at in range(len(fleet.days))]
    known = [key for key in known if ("group", *key) in model.columns]
    small = [(group, at) for group, at in known if 1 <= fleet.count(group, at) <= 4]
    columns = {key: model.columns[("group", *key)] for key in known}
    is_joined = lambda group: joins and group[0] in fleet.secrets
    # Where the number of one day may be another one, so may the change.
    others_of = lambda count: [number for number in range(max(0, count - STEP), count + 10) if number != count]
    may_differ = lambda group, at: fleet.may_be_other(group, at, others_of(fleet.count(group, at)))
    if model.solve(seconds) is None:
        raise SystemExit("what was published contradicts itself: the adversary's model is wrong")
    # Two solutions clear most groups of all days at once: one with none of them, one with many.
    model.solve(seconds, {columns[key]: 1 for key in small})
    model.solve(seconds, {columns[key]: 1 for key in small}, maximise=True)
    seen = lambda column: {values[column] for values in model.solutions if column < len(values)}

    def judge(terms, ranges, days, *what):
        outcomes = set()
        for low, high in ranges:
            outcomes.add(model.within(terms, low, high, seconds, days))
            if True in outcomes:
                return
        (undecided if "undecided" in outcomes else pinned).append(what)

    for key in small:
        column = columns[key]
        if is_joined(key[0]) and not fleet.may_be_other(*key, (0, 5, 6, 7, 8, 9)):
            undecided.append(("size by what was joined", *key))
        if any(not 1 <= value <= 4 for value in seen(column)):
            continue
        judge({column: 1}, [(0, 0), (5, 10_000_000)], {key[1]}, "size", *key)
        if at_once and len(pinned) >= at_once:
            return pinned, undecided
    for group, at in known:
        following = (group, at + 1)
        if following not in columns or min(fleet.count(group, at), fleet.count(*following)) > 4:
            continue
        change = fleet.count(*following) - fleet.count(group, at)
        if change == 0:
            continue
        first, second = columns[(group, at)], columns[following]
        if is_joined(group) and not may_differ(group, at) and not may_differ(*following):
            undecided.append(("change by what was joined", group, at))
        if len({values[second] - values[first] for values in model.solutions}) > 1:
            continue
        others = [(-10_000_000, change - 1), (change + 1, 10_000_000)]
        judge({second: 1, first: -1}, others, {at, at + 1}, "change", group, at)
    return pinned, undecided


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    failed = False
    standing = list(WRONG)
    for number, line in enumerate(sys.stdin):
        fleet = Fleet(json.loads(line))
        for publisher in list(standing):
            pinned, _ = attack(fleet, publisher(fleet), seconds, at_once=1)
            if pinned:
                print(f"wrong on purpose, {publisher.__name__}: broken by fleet {number}, {pinned[0]}", flush=True)
                standing.remove(publisher)
        pinned, undecided = attack(fleet, ours(fleet), seconds, joins=True)
        found = f"{len(pinned)} pinned {pinned[:5]}, {len(undecided)} undecided {undecided[:3]}"
        print(f"fleet {number}, {fleet.total[0]} installations on its first day: {found}", flush=True)
        failed |= bool(pinned) or (bool(undecided) and fleet.total[0] <= DECIDED)
    for publisher in standing:
        print(f"wrong on purpose, {publisher.__name__}: HOLDS")
    return 1 if failed or standing else 0


if __name__ == "__main__":
    sys.exit(main())
