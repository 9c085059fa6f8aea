//! What a receiver of pings can link over a new ID: a simulation, and the assumptions that it stands on.
//!
//! A fleet of made-up installations sends its heartbeats. Some come to a new ID, and the receiver, who has every field
//! and the time of every ping, looks for the old ID that fits best. It knows all of the model, so that it does as well
//! as anybody could who has nothing but the pings. An ID is *linked* where the best candidate is the only best one and
//! the right one.
//!
//! **How estates look and how their counts change is assumed, not measured**: `Estate::draw` and `CHANGES`. The
//! schedule is the program's own.

#![allow(unreachable_pub, clippy::allow_attributes, reason = "shared by the test and the command")]

use std::collections::HashMap;

use crate::seeded::Seeded;

/// What the receiver looks at, apart from the time.
const LOOKS: [&str; 3] = ["everything", "no counts", "no counts, no version"];

/// When the first heartbeat of a new ID goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// At the old ID's time of day, as it was.
    Kept,
    /// At a random time of the next 12 to 36 hours, as it is.
    Drawn,
}

/// How an installation came to a new ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// After 30 days. The candidates are the IDs that fell silent, and the receiver waits until it knows which.
    Rotation,
    /// By hand. The receiver decides at once, so that every ID of the fleet is a candidate.
    Reset,
}

/// Share of new IDs that are linked, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Linked {
    /// From the dates of its pings.
    by_date: f64,
    /// From the times of its pings.
    by_time: f64,
}

/// The same figures in every run.
const SEED: u64 = 20_261_126;
const DAY: f64 = 24.0;
/// A heartbeat is at most this much earlier or later than 24 hours after the one before.
const JITTER: f64 = 0.5;

/// How many of the fields of an estate are counts.
const COUNTS: usize = 8;
/// In the order of the contract: nodes, PBS, PMG, guests, containers, Docker hosts, clusters, alerts.
/// On which part of the days a count that is not zero changes.
const CHANGES: [f64; COUNTS] = [0.04, 0.04, 0.04, 0.15, 0.20, 0.06, 0.04, 0.45];
/// On which part of the days a kind of system that was not there is added.
const ADDED: f64 = 0.001;
/// On which part of the days a flag is turned, and a new version installed.
const TURNED: f64 = 0.002;
const UPDATED: f64 = 0.02;
/// A change is by one in half of all cases, by two in half of the others, and so on.
const ONE_MORE: f64 = 0.5;
/// As many versions are in use; the newer ones more.
const VERSIONS: u16 = 30;
/// At most this many resets are looked at: they are all alike.
const RESETS: usize = 300;

/// What a ping tells, but for ID, event and time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Estate {
    counts: [u16; COUNTS],
    version: u16,
    /// Platform, operating system, architecture.
    machine: u8,
    flags: u8,
}

impl Estate {
    fn draw(chance: &mut Chance) -> Self {
        // Seven homes in ten, five firms in twenty, one large estate in twenty.
        let size = chance.part();
        let nodes = match size {
            _ if size < 0.70 => 1 + chance.geometric(0.35, 8),
            _ if size < 0.95 => 2 + chance.geometric(0.70, 20),
            _ => 8 + chance.geometric(0.93, 150),
        };
        let per_node = |chance: &mut Chance, mean: f64| -> u16 {
            (0..nodes).map(|_| chance.geometric(mean / (1.0 + mean), 60)).sum()
        };
        let some = |chance: &mut Chance, part: f64, more: f64, most| {
            if chance.part() < part { 1 + chance.geometric(more, most) } else { 0 }
        };
        let (vms, containers) = (per_node(chance, 5.0), per_node(chance, 6.0));
        let counts = [
            nodes,
            some(chance, 0.35, 0.2, 5),
            some(chance, 0.03, 0.1, 3),
            vms,
            containers,
            some(chance, 0.50, 0.5, 40),
            some(chance, 0.05, 0.2, 5),
            chance.geometric(0.75, 60) + nodes / 8,
        ];
        let version = chance.geometric(0.80, VERSIONS - 1);
        let machine = u8::from(chance.part() < 0.55) | u8::from(chance.part() < 0.10) << 1;
        let parts = [0.15, 0.05, 0.10, 0.02, 0.07, 0.70];
        let flags = parts.iter().fold(0, |flags, part| flags << 1 | u8::from(chance.part() < *part));
        Self { counts, version, machine, flags }
    }

    /// The same estate, `days` later.
    fn later(mut self, days: f64, chance: &mut Chance) -> Self {
        for (count, changes) in self.counts.iter_mut().zip(CHANGES) {
            if chance.part() < within(if *count > 0 { changes } else { ADDED }, days) {
                let step = 1 + chance.geometric(ONE_MORE, 30);
                *count = if chance.part() < 0.5 { count.saturating_add(step) } else { count.saturating_sub(step) };
            }
        }
        if chance.part() < within(UPDATED, days) {
            self.version = self.version.saturating_sub(1);
        }
        for flag in 0..6 {
            if chance.part() < within(TURNED, days) {
                self.flags ^= 1 << flag;
            }
        }
        self
    }
}

/// How likely something that happens on `part` of the days is within `days`.
fn within(part: f64, days: f64) -> f64 {
    1.0 - (1.0 - part).powf(days)
}

/// The logarithms of how likely each change is within a number of days.
struct Likely {
    same: [[f64; COUNTS]; 2],
    step: [[[f64; 32]; COUNTS]; 2],
    version: [f64; 2],
    flag: [f64; 2],
}

impl Likely {
    fn new(days: f64) -> Self {
        let of = |zero: usize, count: usize| within(if zero == 1 { ADDED } else { CHANGES[count] }, days);
        let pair = |part: f64| [(1.0 - within(part, days)).ln(), within(part, days).ln()];
        let step = |zero, count, step: usize| (of(zero, count) * 0.5 * 0.5_f64.powi(step as i32)).ln();
        Self {
            same: [0, 1].map(|zero| std::array::from_fn(|count| (1.0 - of(zero, count)).ln())),
            step: [0, 1].map(|z| std::array::from_fn(|c| std::array::from_fn(|s| step(z, c, s.max(1))))),
            version: pair(UPDATED),
            flag: pair(TURNED),
        }
    }

    /// How well the new estate fits the old one, by each of [`LOOKS`]. `None` where it does not at all.
    fn fit(&self, old: &Estate, new: &Estate) -> Option<[f64; 3]> {
        if old.machine != new.machine {
            return None;
        }
        let turned = (old.flags ^ new.flags).count_ones() as usize;
        let flags = turned as f64 * self.flag[1] + (6 - turned) as f64 * self.flag[0];
        let version = match old.version {
            version if version == new.version => self.version[0],
            version if version == new.version + 1 => self.version[1],
            _ => return Some([f64::NEG_INFINITY, f64::NEG_INFINITY, flags]),
        };
        let counts = old.counts.iter().zip(&new.counts).enumerate().map(|(count, (old, new))| {
            let zero = usize::from(*old == 0);
            match usize::from(old.abs_diff(*new)) {
                0 => self.same[zero][count],
                step => self.step[zero][count][step.min(31)],
            }
        });
        let without_counts = flags + version;
        Some([without_counts + counts.sum::<f64>(), without_counts, flags])
    }
}

/// Draws from a seed.
struct Chance(Seeded);

impl Chance {
    fn part(&mut self) -> f64 {
        self.0.draw(1 << 53) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + self.part() * (most - least)
    }

    /// How often in a row something of that likelihood happens.
    fn geometric(&mut self, more: f64, most: u16) -> u16 {
        let mut count = 0;
        while count < most && self.part() < more {
            count += 1;
        }
        count
    }

    /// From the last heartbeat of the old ID to the first of the new one.
    fn gap(&mut self, way: Way, phase: Phase) -> f64 {
        let to_the_next = DAY + self.between(-JITTER, JITTER);
        match (way, phase) {
            (_, Phase::Kept) => to_the_next,
            (Way::Rotation, Phase::Drawn) => to_the_next + self.between(DAY / 2.0, DAY * 1.5),
            (Way::Reset, Phase::Drawn) => self.between(0.0, DAY) + self.between(DAY / 2.0, DAY * 1.5),
        }
    }
}

/// An ID: its last or its first heartbeat, in hours, and what that told.
struct Heartbeat {
    at: f64,
    estate: Estate,
}

/// How likely the dates of the last and the first heartbeat are, one after the other.
struct Dates(HashMap<i64, f64>);

const DRAWS: u32 = 100_000;

fn dates(old: f64, new: f64) -> i64 {
    (new / DAY).floor() as i64 - (old / DAY).floor() as i64
}

impl Dates {
    fn new(phase: Phase, chance: &mut Chance) -> Self {
        let mut parts = HashMap::new();
        for _ in 0..DRAWS {
            let (old, gap) = (chance.between(0.0, DAY), chance.gap(Way::Rotation, phase));
            *parts.entry(dates(old, old + gap)).or_insert(0.0) += 1.0 / f64::from(DRAWS);
        }
        Self(parts)
    }

    fn fit(&self, old: f64, new: f64) -> f64 {
        self.0.get(&dates(old, new)).map_or(f64::NEG_INFINITY, |part| part.ln())
    }
}

/// How likely a gap is at a rotation: evenly within the jitter, or evenly from a day and a half to two and a half, but
/// for the jitter at both ends.
fn gap_fit(phase: Phase, gap: f64) -> f64 {
    match phase {
        Phase::Kept if (gap - DAY).abs() <= JITTER => 0.0,
        Phase::Kept => f64::NEG_INFINITY,
        Phase::Drawn => {
            let (least, most) = (DAY * 1.5 - JITTER, DAY * 2.5 + JITTER);
            (gap - least).min(most - gap).clamp(0.0, 1.0).ln()
        }
    }
}

/// The best candidate so far, where no other one is as good.
#[derive(Clone, Copy)]
struct Best(f64, Option<usize>);

impl Best {
    const NONE: Self = Self(f64::NEG_INFINITY, None);

    fn look_at(&mut self, candidate: usize, fit: f64) {
        if fit > self.0 + 1e-9 {
            *self = Self(fit, Some(candidate));
        } else if fit > self.0 - 1e-9 {
            self.1 = None;
        }
    }
}

/// How many were found, by each of [`LOOKS`], without and with the time of day.
#[derive(Default)]
struct Found {
    found: [[u32; 2]; 3],
    all: u32,
}

impl Found {
    /// Looks for the old ID among all of them; `time` tells how well each fits by the date and by the time of day.
    fn look_for(&mut self, right: usize, new: &Heartbeat, olds: &[Heartbeat], likely: &Likely, time: Time<'_>) {
        let mut best = [[Best::NONE; 2]; 3];
        for (candidate, old) in olds.iter().enumerate() {
            let by_time = time(old);
            if by_time == [f64::NEG_INFINITY; 2] {
                continue;
            }
            let Some(fits) = likely.fit(&old.estate, &new.estate) else { continue };
            for (best, fit) in best.iter_mut().zip(fits) {
                best[0].look_at(candidate, fit + by_time[0]);
                best[1].look_at(candidate, fit + by_time[1]);
            }
        }
        self.all += 1;
        for (found, best) in self.found.iter_mut().zip(best) {
            for (found, best) in found.iter_mut().zip(best) {
                *found += u32::from(best.1 == Some(right));
            }
        }
    }

    fn percent(&self) -> [Linked; 3] {
        let part = |found: u32| 100.0 * f64::from(found) / f64::from(self.all.max(1));
        self.found.map(|[by_date, by_time]| Linked { by_date: part(by_date), by_time: part(by_time) })
    }
}

type Time<'a> = &'a dyn Fn(&Heartbeat) -> [f64; 2];

/// The figures, as Markdown. In each cell: with the time of day that was kept, and with the one that is drawn.
pub fn report(fleets: &[usize]) -> String {
    let columns: String = fleets.iter().map(|fleet| format!(" {} |", thousands(*fleet))).collect();
    let rule = "---|".repeat(3 + fleets.len());
    let mut report = format!("| new ID by | the receiver compares | and |{columns}\n|{rule}\n");
    for way in [Way::Rotation, Way::Reset] {
        let figures: Vec<_> =
            fleets.iter().map(|fleet| [Phase::Kept, Phase::Drawn].map(|p| linked(*fleet, way, p))).collect();
        for (number, looks) in LOOKS.iter().enumerate() {
            for (time, of) in [("date", by_date as fn(&Linked) -> f64), ("time", by_time)] {
                let cell = |[kept, drawn]: &[[Linked; 3]; 2]| {
                    format!(" {:.1}→{:.1}% |", of(&kept[number]), of(&drawn[number]))
                };
                let cells: String = figures.iter().map(cell).collect();
                report.push_str(&format!("| {} | {looks} | {time} |{cells}\n", way.words()));
            }
        }
    }
    report
}

fn by_date(linked: &Linked) -> f64 {
    linked.by_date
}

fn by_time(linked: &Linked) -> f64 {
    linked.by_time
}

fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

impl Way {
    fn words(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Reset => "reset",
        }
    }
}

/// What is linked in a fleet of that size, by each of [`LOOKS`].
fn linked(fleet: usize, way: Way, phase: Phase) -> [Linked; 3] {
    let mut chance = Chance(Seeded(SEED));
    match way {
        Way::Rotation => rotations(fleet, phase, &mut chance),
        Way::Reset => resets(fleet, phase, &mut chance),
    }
}

/// Each day a thirtieth of the fleet rotates. Of five days the middle one's are looked for.
fn rotations(fleet: usize, phase: Phase, chance: &mut Chance) -> [Linked; 3] {
    let olds = heartbeats(fleet / 30 * 5, 5.0 * DAY, chance);
    let by_date = Dates::new(phase, chance);
    let likely = Likely::new(if phase == Phase::Kept { 1.0 } else { 2.0 });
    let mut found = Found::default();
    for (right, old) in olds.iter().enumerate().filter(|(_, old)| (2.0 * DAY..3.0 * DAY).contains(&old.at)) {
        let new = old.after(chance.gap(Way::Rotation, phase), chance);
        let time = |old: &Heartbeat| [by_date.fit(old.at, new.at), gap_fit(phase, new.at - old.at)];
        found.look_for(right, &new, &olds, &likely, &time);
    }
    found.percent()
}

/// The whole fleet sent its last heartbeat within a day.
fn resets(fleet: usize, phase: Phase, chance: &mut Chance) -> [Linked; 3] {
    let olds = heartbeats(fleet, DAY, chance);
    let likely = Likely::new(if phase == Phase::Kept { 1.0 } else { 1.5 });
    let mut found = Found::default();
    for (right, old) in olds.iter().enumerate().take(RESETS) {
        let new = old.after(chance.gap(Way::Reset, phase), chance);
        let time = |old: &Heartbeat| {
            let apart = (new.at - old.at).rem_euclid(DAY);
            let fits = phase == Phase::Drawn || apart.min(DAY - apart) <= JITTER;
            [0.0, if fits { 0.0 } else { f64::NEG_INFINITY }]
        };
        found.look_for(right, &new, &olds, &likely, &time);
    }
    found.percent()
}

fn heartbeats(number: usize, within: f64, chance: &mut Chance) -> Vec<Heartbeat> {
    (0..number).map(|_| Heartbeat { at: chance.between(0.0, within), estate: Estate::draw(chance) }).collect()
}

impl Heartbeat {
    /// The first heartbeat of the new ID.
    fn after(&self, gap: f64, chance: &mut Chance) -> Self {
        Self { at: self.at + gap, estate: self.estate.clone().later(gap / DAY, chance) }
    }
}
