"""Solves for the sizes of groups with all that was published: all cells, tables and days at once.

    fleets 300 20 1 | adversary.py [SECONDS]

Each line of the input is a fleet with its exact numbers and what the program publishes of it. The adversary knows how
the numbers are made, which values there are, and that each table has the same total; it does not know the key, so each
cell has an offset and a threshold that it does not know. The solver is HiGHS. A group is pinned where every solution has
its size in 1 to 4, or the same change of it that is not zero. First it breaks six publishers that are wrong on purpose,
then it tries the program's. Exits with 1 where one of the six holds, or something of the program's is pinned.
"""

import json
import random
import sys

import highspy

STEP, THRESHOLD, SPREAD = 5, 10, 5
SIZES = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001]
OTHER = "other"


class Model:
    """What is known, as linear constraints over whole numbers."""

    def __init__(self, days):
        self.solver = highspy.Highs()
        self.solver.setOptionValue("output_flag", False)
        self.solver.setOptionValue("random_seed", 1)
        self.days = days
        self.columns = {}
        self.totals = [self.column(("total", day), 0, 10_000_000) for day in range(days)]
        self.solutions = []

    def column(self, name, low, high):
        if name not in self.columns:
            self.columns[name] = len(self.columns)
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

    def within(self, columns, low, high, seconds):
        """Whether the sum of the columns can be in that range."""
        self.row(low, high, columns)
        row = self.solver.getNumRow() - 1
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


class Fleet:
    """A fleet, with what everybody knows of it: which values there are."""

    def __init__(self, line):
        self.days = line["days"]
        self.sizes = {cell["field"] for day in self.days for cell in day["published"]["fields"]}
        self.truth = [{} for _ in self.days]
        self.fields = {}
        for day, at in zip(self.days, self.truth):
            for field, cells in day["exact"].items():
                is_size = all(value.isdigit() for value in cells) and field != "version"
                for value, count in cells.items():
                    group = (field, bin_of(int(value)) if is_size else value)
                    at[group] = at.get(group, 0) + count
                    self.fields.setdefault(field, set()).add(group[1])
        for field, values in self.fields.items():
            if all(isinstance(value, int) for value in values):
                values.update(range(len(SIZES)))
        self.total = [sum(n for (field, _), n in day.items() if field == "os") for day in self.truth]

    def count(self, group, day):
        return self.truth[day].get(group, 0)

    def groups(self):
        return [(field, value) for field, values in self.fields.items() for value in sorted(values, key=str)]


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
            name, cells = field["field"], {cell["value"]: cell["ids"] for cell in field["cells"]}
            values = fleet.fields[name]
            if all(isinstance(value, int) for value in values):
                for value, number in cells.items():
                    model.rounded([column(name, at_bin) for at_bin in RANGES[value]], number, (name, value))
                continue
            hidden = [value for value in sorted(values) if value not in cells]
            for value in values:
                if value in cells:
                    model.rounded([column(name, value)], cells[value], (name, value))
                else:
                    model.hidden([column(name, value)], (name, value))
            columns = [column(name, value) for value in hidden]
            if OTHER in cells:
                model.rounded(columns, cells[OTHER], (name, OTHER))
            elif columns and values != {"yes", "no"}:
                model.hidden(columns, (name, OTHER))
    return model


def base(fleet):
    model = Model(len(fleet.days))
    for at in range(len(fleet.days)):
        for field in ("os", "arch", "multi_tenant", "version"):
            model.add_up([model.group((field, value), at) for value in fleet.fields[field]], at)
    return model


def exact_total_beside_folded_cells(fleet):
    """The total is exact, and so are the cells of five and more; the others are folded away."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        model.exact([model.totals[at]], fleet.total[at])
        for value in fleet.fields["multi_tenant"]:
            count, column = fleet.count(("multi_tenant", value), at), model.group(("multi_tenant", value), at)
            model.exact([column], count) if count >= 5 else model.between([column], 0, 4)
    return model


def small_cell_folded_alone(fleet):
    """The cell `other` is exact, also where one value alone is in it; which that is, is known by name."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        small = [value for value in fleet.fields["version"] if 0 < fleet.count(("version", value), at) < 5]
        for value in fleet.fields["version"]:
            count, column = fleet.count(("version", value), at), model.group(("version", value), at)
            if value not in small:
                model.exact([column], count)
        model.exact([model.group(("version", value), at) for value in small[:1]], fleet.count(("version", small[0]), at)) if small else None
    return model


def rounding_drawn_anew(fleet):
    """The page of each day shows the days before again, rounded with new chance each time."""
    model = base(fleet)
    chance = random.Random(1)
    for at in range(len(fleet.days)):
        for value in fleet.fields["os"]:
            count, column = fleet.count(("os", value), at), model.group(("os", value), at)
            for _ in range(at, min(at + 30, len(fleet.days))):
                offset = chance.randrange(STEP)
                number = (count + offset) // STEP * STEP
                model.between([column], number - STEP + 1, number + STEP - 1)
    return model


def threshold_crossed_on_two_days(fleet):
    """Exact from five on, and so is `other`: what falls below the threshold joins what was hidden there before."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        hidden = []
        for value in fleet.fields["arch"]:
            count, column = fleet.count(("arch", value), at), model.group(("arch", value), at)
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
        for value in fleet.fields["version"]:
            count, column = fleet.count(("version", value), at), model.group(("version", value), at)
            channels.setdefault(version_class(value), []).append((count, column))
            model.exact([column], count) if count >= 5 else model.between([column], 0, 4)
        for cells in channels.values():
            if sum(count for count, _ in cells) >= 5:
                model.exact([column for _, column in cells], sum(count for count, _ in cells))
    return model


def shares_finer_than_the_counts(fleet):
    """Counts are rounded to five, but shares are told in hundredths of a per cent."""
    model = base(fleet)
    for at in range(len(fleet.days)):
        total = fleet.total[at]
        model.between([model.totals[at]], total // STEP * STEP, total // STEP * STEP + STEP - 1)
        for value in fleet.fields["os"]:
            count, column = fleet.count(("os", value), at), model.group(("os", value), at)
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


def attack(fleet, model, seconds, at_once=None):
    """Which groups are pinned, and about which the solver did not decide."""
    pinned, undecided = [], []
    known = [(group, at) for group in fleet.groups() for at in range(len(fleet.days)) if ("group", group, at) in model.columns]
    small = [(group, at) for group, at in known if 1 <= fleet.count(group, at) <= 4]
    columns = {key: model.columns[("group", *key)] for key in known}
    if model.solve(seconds) is None:
        raise SystemExit("what was published contradicts itself: the adversary's model is wrong")
    # Two solutions clear most groups of all days at once: one with none of them, one with many.
    model.solve(seconds, {columns[key]: 1 for key in small})
    model.solve(seconds, {columns[key]: 1 for key in small}, maximise=True)
    seen = lambda column: {values[column] for values in model.solutions if column < len(values)}
    for key in small:
        column = columns[key]
        if all(1 <= value <= 4 for value in seen(column)):
            outcomes = [model.within({column: 1}, 0, 0, seconds), model.within({column: 1}, 5, 10_000_000, seconds)]
            if True in outcomes:
                continue
            (undecided if "undecided" in outcomes else pinned).append(("size", *key))
            if at_once and len(pinned) >= at_once:
                return pinned, undecided
    for group, at in known:
        following = (group, at + 1)
        if following not in columns or fleet.count(group, at) > 4 or fleet.count(group, at + 1) > 4:
            continue
        change = fleet.count(group, at + 1) - fleet.count(group, at)
        first, second = columns[(group, at)], columns[following]
        if change == 0 or len({values[second] - values[first] for values in model.solutions}) > 1:
            continue
        terms = {second: 1, first: -1}
        outcomes = [
            model.within(terms, -10_000_000, change - 1, seconds),
            model.within(terms, change + 1, 10_000_000, seconds),
        ]
        if True in outcomes:
            continue
        (undecided if "undecided" in outcomes else pinned).append(("change", group, at))
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
        pinned, undecided = attack(fleet, ours(fleet), seconds)
        found = f"{len(pinned)} pinned {pinned[:5]}, {len(undecided)} undecided {undecided[:3]}"
        print(f"fleet {number}, {fleet.total[0]} installations on its first day: {found}", flush=True)
        failed |= bool(pinned)
    for publisher in standing:
        print(f"wrong on purpose, {publisher.__name__}: HOLDS")
    return 1 if failed or standing else 0


if __name__ == "__main__":
    sys.exit(main())
