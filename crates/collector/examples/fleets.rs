//! Simulated fleets, a line of JSON each, for the adversary of `.ci/tools/adversary.py`: for each of 90 days the exact
//! numbers and what would be published of them. `fleets SIZE COUNT SEED`.
#![expect(clippy::print_stdout, reason = "the lines are what it is for")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::civil::date;
use pulse_telemetry_collector::numbers::rounding::RoundingKey;
use pulse_telemetry_collector::numbers::{DayNumbers, DayTally, Lent, counted_fields};
use pulse_telemetry_core::contract::{Field, FieldKind};
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::json;

const DAYS: u64 = 90;

/// Releases, with the day of each.
const RELEASES: [(&str, u64); 4] = [("6.2.0", 0), ("6.3.0", 0), ("6.3.1", 31), ("6.4.0", 64)];

/// One installation: from when to when it pings, and what it says but for its version.
struct Installation {
    born: u64,
    dies: u64,
    /// How many days after a release it takes it; one that never does keeps its first version.
    lag: u64,
    /// A version that nobody else has.
    odd: Option<(&'static str, &'static str)>,
    values: BTreeMap<&'static str, Lent<'static>>,
}

impl Installation {
    fn say(&mut self, field: &'static str, value: Lent<'static>) {
        self.values.insert(field, value);
    }
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let [size, count, seed] = numbers[..] else { return ExitCode::from(2) };
    for number in 0..count {
        let mut seed = Seeded(seed + number);
        println!("{}", fleet(size, &mut seed));
    }
    ExitCode::SUCCESS
}

fn fleet(size: u64, seed: &mut Seeded) -> serde_json::Value {
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
    let key = RoundingKey::new(&std::array::from_fn(|_| u8::try_from(seed.draw(256)).unwrap_or_default()));
    let days: Vec<_> = (0..DAYS).map(|day| of_a_day(&installations, day, &key)).collect();
    json!({"size": size, "days": days})
}

fn installation(seed: &mut Seeded, born: u64, leaving: u64) -> Installation {
    let dies = (born..DAYS).find(|_| seed.draw(1000) < leaving).unwrap_or(DAYS);
    let mut values = BTreeMap::new();
    for field in counted_fields() {
        values.insert(field.name, value(field, seed));
    }
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
                _ => 8,
            };
            Lent::Flag(rare < share)
        }
        ("active_alerts" | "vms" | "containers", _) => {
            let magnitude = seed.draw(11);
            Lent::Count(u32::try_from(seed.draw(1 + (1 << magnitude))).unwrap_or_default())
        }
        (_, FieldKind::Count) => Lent::Count(u32::try_from(seed.draw(1 + seed_size(rare))).unwrap_or_default()),
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

fn seed_size(rare: u64) -> u64 {
    match rare {
        0..600 => 1,
        600..900 => 3,
        900..990 => 12,
        _ => 200,
    }
}

/// Groups of one to four that nobody may find.
fn plant(installations: &mut [Installation], seed: &mut Seeded) {
    let all = installations.len() as u64;
    let mut some = |most: u64, change: &mut dyn FnMut(&mut Installation)| {
        for _ in 0..=seed.draw(most) {
            let at = usize::try_from(seed.draw(all)).unwrap_or_default();
            if let Some(installation) = installations.get_mut(at) {
                change(installation);
            }
        }
    };
    some(4, &mut |one| one.say("os", Lent::Text("plan9")));
    some(4, &mut |one| one.say("arch", Lent::Text("riscv64")));
    some(4, &mut |one| one.say("kubernetes_clusters", Lent::Count(5000)));
    some(4, &mut |one| one.say("multi_tenant", Lent::Flag(true)));
    some(4, &mut |one| one.odd = Some(("6.4.0-rc.1", "rc")));
    some(4, &mut |one| one.odd = Some(("0.0.0-mine", "dev")));
    some(2, &mut |one| one.odd = Some(("6.1.9", "stable")));
}

fn of_a_day(installations: &[Installation], day: u64, key: &RoundingKey) -> serde_json::Value {
    let mut tally = DayTally::default();
    let mut exact: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for one in installations.iter().filter(|one| (one.born..one.dies).contains(&day)) {
        let (version, channel) = one.odd.unwrap_or_else(|| {
            let taken = RELEASES.iter().rfind(|(_, since)| *since == 0 || since + one.lag <= day && one.lag < 35);
            (taken.map_or("6.2.0", |(version, _)| version), "stable")
        });
        let mut values = Vec::new();
        for field in counted_fields() {
            let value = match field.name {
                "version" => Lent::Text(version),
                "version_channel" => Lent::Text(channel),
                "version_is_published_release" => Lent::Flag(channel == "stable"),
                name => one.values.get(name).copied().unwrap_or(Lent::Flag(false)),
            };
            let text = match value {
                Lent::Text(text) => text.to_owned(),
                Lent::Count(count) => count.to_string(),
                Lent::Flag(flag) => if flag { "yes" } else { "no" }.to_owned(),
            };
            if !field.name.starts_with("version_") {
                *exact.entry(field.name.to_owned()).or_default().entry(text).or_default() += 1;
            }
            values.push(value);
        }
        tally.add(&values);
    }
    let began = date(2026, 9, 1);
    let day = began.checked_add(jiff::Span::new().days(i64::try_from(day).unwrap_or_default())).unwrap_or(began);
    json!({"exact": exact, "published": DayNumbers::new(day, &tally, key)})
}
