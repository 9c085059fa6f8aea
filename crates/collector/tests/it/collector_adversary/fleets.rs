//! Simulated fleets for the adversary: for each of 90 days the exact numbers, and what would be published of them.
//!
//! It is days that are simulated and not pings: how pings become the numbers of a day is for other tests.

use std::collections::BTreeMap;

use jiff::civil::date;
use pulse_telemetry_collector::numbers::rounding::RoundingKey;
use pulse_telemetry_collector::numbers::{DayNumbers, DayTally, Lent, counted_fields};
use pulse_telemetry_core::contract::{Field, FieldKind};
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::{Map, Value, json};

const DAYS: u64 = 90;

/// Where the sizes of a histogram begin.
const SIZES: [u32; 10] = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001];

/// Releases, with the day of each.
const RELEASES: [(&str, u64); 4] = [("6.2.0", 0), ("6.3.0", 0), ("6.3.1", 31), ("6.4.0", 64)];

/// What a version decides.
const OF_A_VERSION: [&str; 2] = ["version_channel", "version_is_published_release"];

/// One installation: from when to when it pings, and what it says.
struct Installation {
    born: u64,
    dies: u64,
    /// How many days after a release it takes it; one that never does keeps its first version.
    lag: u64,
    /// A version and channel that nobody else has.
    odd: Option<(&'static str, &'static str)>,
    /// In the order of [`counted_fields`]; what is said of the version is that of the day.
    values: Vec<Lent<'static>>,
}

impl Installation {
    fn say(&mut self, field: &str, value: Lent<'static>) {
        let at = counted_fields().position(|counted| counted.name == field).unwrap();
        self.values[at] = value;
    }

    fn version(&self, day: u64) -> (&'static str, &'static str) {
        self.odd.unwrap_or_else(|| {
            let is_taken = |since: u64| since == 0 || since + self.lag <= day && self.lag < 35;
            let taken = RELEASES.iter().rfind(|(_, since)| is_taken(*since));
            (taken.map_or("6.2.0", |(version, _)| version), "stable")
        })
    }
}

/// A fleet that begins with that number of installations.
pub(super) fn fleet(size: u64, seed: &mut Seeded) -> Value {
    // From one per cent fewer to one per cent more a day, and what goes is replaced.
    let (arriving, leaving) = (seed.draw(11), seed.draw(11));
    let mut installations: Vec<Installation> = (0..size).map(|_| installation(seed, 0, leaving)).collect();
    for day in 1..DAYS {
        for _ in 0..size {
            if seed.draw(1000) < arriving {
                installations.push(installation(seed, day, leaving));
            }
        }
    }
    plant(&mut installations, seed);
    let key = RoundingKey::new(&std::array::from_fn(|_| u8::try_from(seed.draw(256)).unwrap()));
    let days: Vec<_> = (0..DAYS).map(|day| of_a_day(&mut installations, day, &key)).collect();
    json!({"size": size, "days": days, "secrets": secrets(&key)})
}

/// The names of all ranges that sizes can be joined to.
fn size_ranges() -> impl Iterator<Item = String> {
    let name = |from: usize, next: usize| match SIZES.get(next) {
        None => format!("{} and more", SIZES[from]),
        Some(next) if *next == SIZES[from] + 1 => SIZES[from].to_string(),
        Some(next) => format!("{} to {}", SIZES[from], next - 1),
    };
    (0..SIZES.len()).flat_map(move |from| (from + 1..=SIZES.len()).map(move |next| name(from, next)))
}

/// The offset and the threshold of each range of sizes, by which the adversary tries whether other sizes would have
/// been joined in the same way.
fn secrets(key: &RoundingKey) -> Value {
    let of_a_cell = |field: &str, cell: &str| {
        let shown = |ids| key.shown(field, cell, ids);
        let threshold = (0..).find(|ids| shown(*ids).is_some()).unwrap();
        let rounded_up = (21..).find(|ids| shown(*ids) == Some(25)).unwrap();
        json!([25 - rounded_up, threshold])
    };
    let sizes = counted_fields().filter(|field| field.kind == FieldKind::Count);
    let fields: Map<String, Value> = sizes
        .map(|field| {
            let cells = size_ranges().map(|cell| (cell.clone(), of_a_cell(field.name, &cell)));
            (field.name.to_owned(), Value::Object(cells.collect()))
        })
        .collect();
    fields.into()
}

fn installation(seed: &mut Seeded, born: u64, leaving: u64) -> Installation {
    let dies = (born..DAYS).find(|_| seed.draw(1000) < leaving).unwrap_or(DAYS);
    let values = counted_fields().map(|field| value(field, seed)).collect();
    Installation { born, dies: dies.max(born + 1), lag: seed.draw(40), odd: None, values }
}

fn value(field: &Field, seed: &mut Seeded) -> Lent<'static> {
    let rare = seed.draw(1000);
    match (field.name, field.kind) {
        (_, FieldKind::Flag) => {
            let share = match field.name {
                "has_api_tokens" => 600,
                "ai_enabled" => 120,
                "paid_license" => 30,
                "multi_tenant" => 0,
                _ => 8,
            };
            Lent::Flag(rare < share)
        }
        ("active_alerts" | "vms" | "containers", _) => {
            let magnitude = seed.draw(11);
            Lent::Count(u32::try_from(seed.draw(1 + (1 << magnitude))).unwrap())
        }
        (_, FieldKind::Count) => {
            let most = match rare {
                0..600 => 1,
                600..900 => 3,
                900..990 => 12,
                _ => 200,
            };
            Lent::Count(u32::try_from(seed.draw(1 + most)).unwrap())
        }
        ("platform", _) => Lent::Text(if rare < 550 { "docker" } else { "binary" }),
        ("os", _) => Lent::Text(if rare < 985 {
            "linux"
        } else if rare < 994 {
            "freebsd"
        } else {
            "darwin"
        }),
        ("arch", _) => Lent::Text(if rare < 840 {
            "amd64"
        } else if rare < 988 {
            "arm64"
        } else {
            "arm"
        }),
        _ => Lent::Text(""),
    }
}

/// Groups of a few that nobody may find.
fn plant(installations: &mut [Installation], seed: &mut Seeded) {
    let all = installations.len() as u64;
    let mut some = |most: u64, change: &mut dyn FnMut(&mut Installation)| {
        for _ in 0..=seed.draw(most) {
            let at = usize::try_from(seed.draw(all)).unwrap();
            change(&mut installations[at]);
        }
    };
    some(4, &mut |one| one.say("os", Lent::Text("plan9")));
    some(4, &mut |one| one.say("arch", Lent::Text("riscv64")));
    some(4, &mut |one| one.say("kubernetes_clusters", Lent::Count(5000)));
    some(6, &mut |one| one.say("multi_tenant", Lent::Flag(true)));
    some(4, &mut |one| one.odd = Some(("6.4.0-rc.1", "rc")));
    some(4, &mut |one| one.odd = Some(("0.0.0-mine", "dev")));
    some(2, &mut |one| one.odd = Some(("6.1.9", "stable")));
}

fn of_a_day(installations: &mut [Installation], day: u64, key: &RoundingKey) -> Value {
    let mut tally = DayTally::default();
    let tables: Vec<(usize, &Field)> =
        counted_fields().enumerate().filter(|(_, field)| !OF_A_VERSION.contains(&field.name)).collect();
    let mut exact: Vec<Exact> = tables.iter().map(|_| Exact::default()).collect();
    for one in installations.iter_mut().filter(|one| (one.born..one.dies).contains(&day)) {
        let (version, channel) = one.version(day);
        one.say("version", Lent::Text(version));
        one.say("version_channel", Lent::Text(channel));
        one.say("version_is_published_release", Lent::Flag(channel == "stable"));
        tally.add(&one.values);
        for ((at, _), exact) in tables.iter().zip(&mut exact) {
            exact.add(one.values[*at]);
        }
    }
    let began = date(2026, 9, 1);
    let day = began.checked_add(jiff::Span::new().days(i64::try_from(day).unwrap())).unwrap();
    let exact: Map<String, Value> =
        tables.iter().zip(exact).map(|((_, field), exact)| (field.name.to_owned(), exact.into())).collect();
    json!({"exact": exact, "published": DayNumbers::new(day, &tally, key)})
}

/// How many have each value of a field. A program of its own counts them again by ranges of sizes.
#[derive(Default)]
struct Exact {
    words: BTreeMap<&'static str, u64>,
    counts: BTreeMap<u32, u64>,
}

impl Exact {
    fn add(&mut self, value: Lent<'static>) {
        let ids = match value {
            Lent::Text(word) => self.words.entry(word).or_default(),
            Lent::Flag(flag) => self.words.entry(if flag { "yes" } else { "no" }).or_default(),
            Lent::Count(count) => self.counts.entry(count).or_default(),
        };
        *ids += 1;
    }
}

impl From<Exact> for Value {
    fn from(Exact { words, counts }: Exact) -> Self {
        if counts.is_empty() { json!(words) } else { json!({"sizes": counts.into_iter().collect::<Vec<_>>()}) }
    }
}
