//! A fleet of installations as there may be one: it grows a little, takes releases late or never, and is of many sizes.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use pulse_telemetry_collector::ingest::Cell;
use pulse_telemetry_collector::numbers::rounding::RoundingKey;
use pulse_telemetry_collector::numbers::{DayNumbers, DayTally, Lent, counted_fields};
use pulse_telemetry_collector::storage::Row;
use pulse_telemetry_core::contract::{FIELDS, Field, FieldKind};

use super::collector::install_id;
use super::seeded::Seeded;

/// Releases with their channel, and how many days after the fleet's first day each comes.
const RELEASES: [(&str, &str, i64); 8] = [
    ("6.1.4", "stable", -90),
    ("6.2.0", "stable", -50),
    ("6.2.1", "stable", -12),
    ("6.3.0-rc.1", "rc", 4),
    ("6.3.0", "stable", 14),
    ("6.3.1", "stable", 24),
    ("6.4.0", "stable", 52),
    ("6.5.0-rc.1", "rc", 60),
];

/// How long an ID lasts, in days.
const CYCLE: i64 = 30;

/// The fleet.
pub struct Fleet {
    first: Date,
    members: Vec<Member>,
}

/// One installation, by days after the fleet's first.
struct Member {
    number: u64,
    born: i64,
    dies: i64,
    /// When in its cycle the ID is at its birth.
    phase: i64,
    /// How long after a release it is taken; `None` where none is.
    lag: Option<i64>,
    takes_candidates: bool,
    values: BTreeMap<&'static str, Lent<'static>>,
}

impl Fleet {
    /// One of that size at first, for these days.
    pub fn new(size: u64, first: Date, days: i64, seed: u64) -> Self {
        let mut seed = Seeded(seed);
        let mut births = vec![0; usize::try_from(size).unwrap()];
        // Half a per cent comes each day, and less goes.
        births.extend((1..days).flat_map(|day| std::iter::repeat_n(day, usize::try_from(size / 200).unwrap())));
        let member = |(number, born)| Member::new(number, born, days, &mut seed);
        Self { first, members: (0..).zip(births).map(member).collect() }
    }

    /// What would be published of each day.
    pub fn numbers(&self, days: i64) -> Vec<DayNumbers> {
        let key = RoundingKey::new(&[7; 32]);
        let numbers = |day: i64| {
            let mut tally = DayTally::default();
            for member in self.alive(day).filter(|member| member.seen_before(day)) {
                let values: Vec<_> = counted_fields().map(|field| member.value(field, day)).collect();
                tally.add(&values);
            }
            DayNumbers::new(self.date(day), &tally, &key)
        };
        (1..days).map(numbers).collect()
    }

    /// The pings of a day, one of each installation.
    pub fn rows(&self, day: i64) -> Vec<Row> {
        let row = |member: &Member| {
            let cell = |field: &Field| match field.name {
                "install_id" => {
                    Cell::Text(install_id(member.number * 1_000 + u64::try_from(member.cycle(day)).unwrap()))
                }
                "event" => Cell::Text("heartbeat".to_owned()),
                _ if matches!(field.kind, FieldKind::Text { optional: true }) => Cell::Null,
                _ => match member.value(field, day) {
                    Lent::Text(text) => Cell::Text(text.to_owned()),
                    Lent::Count(count) => Cell::Count(count),
                    Lent::Flag(flag) => Cell::Flag(flag),
                },
            };
            let time = i8::try_from(member.number % 24).unwrap();
            let received_at: Timestamp = Offset::UTC.to_timestamp(self.date(day).at(time, 30, 0, 0)).unwrap();
            Row { received_at, cells: Box::new(std::array::from_fn(|at| cell(&FIELDS[at]))) }
        };
        self.alive(day).map(row).collect()
    }

    fn date(&self, day: i64) -> Date {
        self.first.checked_add(Span::new().days(day)).unwrap()
    }

    fn alive(&self, day: i64) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| (member.born..member.dies).contains(&day))
    }
}

impl Member {
    fn new(number: u64, born: i64, days: i64, seed: &mut Seeded) -> Self {
        let dies = (born + 1..days).find(|_| seed.draw(1000) < 3).unwrap_or(days);
        let phase = if born == 0 { i64::try_from(seed.draw(30)).unwrap() } else { 0 };
        // Most take a release within a week, some in a month, and some never.
        let lag = match seed.draw(100) {
            0..12 => None,
            12..60 => Some(seed.draw(5)),
            60..80 => Some(4 + seed.draw(8)),
            _ => Some(10 + seed.draw(30)),
        };
        let lag = lag.map(|lag| i64::try_from(lag).unwrap());
        // What is large is so in every way.
        let scale = 1 + seed.draw(4) * seed.draw(4) * u64::from(seed.draw(3) == 0);
        let values = FIELDS.iter().map(|field| (field.name, value(field, scale, seed))).collect();
        Self { number, born, dies, phase, lag, takes_candidates: seed.draw(100) < 9, values }
    }

    fn cycle(&self, day: i64) -> i64 {
        (day - self.born + self.phase) / CYCLE
    }

    /// Whether its ID of that day was seen on an earlier one.
    fn seen_before(&self, day: i64) -> bool {
        day > self.born && self.cycle(day) == self.cycle(day - 1)
    }

    fn value(&self, field: &Field, day: i64) -> Lent<'static> {
        let release = || {
            let taken = RELEASES.iter().rfind(|(_, channel, since)| {
                let lag = if *since < self.born { Some(0) } else { self.lag };
                (*channel == "stable" || self.takes_candidates) && lag.is_some_and(|lag| since + lag <= day)
            });
            *taken.unwrap_or(&RELEASES[usize::from(self.number.is_multiple_of(3))])
        };
        match field.name {
            "version" => Lent::Text(release().0),
            "version_channel" => Lent::Text(release().1),
            "version_is_published_release" => Lent::Flag(true),
            name => self.values[name],
        }
    }
}

fn value(field: &Field, scale: u64, seed: &mut Seeded) -> Lent<'static> {
    let chance = seed.draw(1000);
    let mut up_to = |most: u64| Lent::Count(u32::try_from(seed.draw(most * scale + 1)).unwrap());
    match (field.name, field.kind) {
        ("platform", _) => Lent::Text(if chance < 570 { "docker" } else { "binary" }),
        ("os", _) => Lent::Text(if chance < 960 {
            "linux"
        } else if chance < 985 {
            "freebsd"
        } else {
            "darwin"
        }),
        ("arch", _) => Lent::Text(if chance < 840 {
            "amd64"
        } else if chance < 985 {
            "arm64"
        } else {
            "arm"
        }),
        ("pve_nodes", _) => up_to(if chance < 120 { 0 } else { 3 }),
        ("vms", _) => up_to(25),
        ("containers", _) => up_to(40),
        ("docker_hosts", _) => up_to(if chance < 450 { 0 } else { 3 }),
        ("active_alerts", _) => up_to(if chance < 400 { 0 } else { 8 }),
        (_, FieldKind::Count) => up_to(u64::from(chance < 250)),
        ("has_api_tokens", _) => Lent::Flag(chance < 640),
        ("ai_enabled", _) => Lent::Flag(chance < 180),
        ("relay_enabled", _) => Lent::Flag(chance < 90),
        ("paid_license", _) => Lent::Flag(chance < 60),
        ("sso_enabled", _) => Lent::Flag(chance < 45),
        (_, FieldKind::Flag) => Lent::Flag(field.name == "multi_tenant" && chance < 4),
        _ => Lent::Text("linux"),
    }
}
