//! Numbers that are published are right, and are the same however often somebody asks.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::civil::{Date, date};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::limiter::{Limiter, NewIdPermit};
use pulse_telemetry_collector::network::Client;
use pulse_telemetry_collector::numbers::rounding::{RoundingKey, STEP, THRESHOLD_MIN};
use pulse_telemetry_collector::numbers::{DayNumbers, DayTally, Lent, counted_fields, installations};
use pulse_telemetry_collector::publish::{self, Trend};
use pulse_telemetry_collector::storage::{Arrival, PingStore, RowOutcome};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::contract::{self, FieldKind};
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, open, ping_of, reader, row};
use pulse_telemetry_testkit::disk::files_below;
use pulse_telemetry_testkit::seeded::Seeded;
use rusqlite::Connection;

const KEY: [u8; 32] = [7; 32];
const TODAY: Date = date(2026, 11, 25);
const DAY: u64 = 24 * 60 * 60;
const HOUR: u64 = 60 * 60;

fn noon(day: Date) -> Timestamp {
    Offset::UTC.to_timestamp(day.at(12, 0, 0, 0)).unwrap()
}

fn days_before(day: Date, days: i64) -> Date {
    day.checked_sub(jiff::Span::new().days(days)).unwrap()
}

/// Stores a ping of each of these installations, these numbers of days before [`TODAY`].
async fn commit(store: &dyn PingStore, installations: Range<u64>, days: &[i64]) {
    for before in days {
        let day = noon(days_before(TODAY, *before));
        store.commit(installations.clone().map(|number| row(&ping_of(number), day)).collect()).await.unwrap();
    }
}

/// One ID's values, where these fields have other ones than usual.
fn values(change: &BTreeMap<&str, Lent<'static>>) -> Vec<Lent<'static>> {
    let usual = |field: &contract::Field| match field.kind {
        FieldKind::Count => Lent::Count(3),
        FieldKind::Flag => Lent::Flag(field.name == "version_is_published_release"),
        FieldKind::Choice(words) => Lent::Text(words[0]),
        _ => Lent::Text(if field.name == "version" { "6.3.0" } else { "linux" }),
    };
    counted_fields().map(|field| change.get(field.name).copied().unwrap_or_else(|| usual(field))).collect()
}

fn numbers_of(groups: &[(u64, &[(&'static str, Lent<'static>)])], key: [u8; 32]) -> DayNumbers {
    let mut tally = DayTally::default();
    for (ids, change) in groups {
        for _ in 0..*ids {
            tally.add(&values(&change.iter().copied().collect()));
        }
    }
    DayNumbers::new(TODAY, &tally, &RoundingKey::new(&key))
}

/// Whether an installation pings on a day, with which ID: by the sidecar's rules, or by those of Pulse's own sender.
fn days_of_an_installation(seed: &mut Seeded, days: u64, sidecar: bool, born: u64) -> BTreeMap<u64, BTreeSet<u64>> {
    let mut pings: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut id = 0;
    let mut time = born * DAY + seed.draw(DAY);
    let mut expires = time + if born == 0 { seed.draw(30 * DAY) } else { 30 * DAY };
    while time < days * DAY {
        if time >= expires {
            id += 1;
            expires = time + 30 * DAY;
            if sidecar {
                // Half an interval to one and a half, after which the first heartbeat of the new ID goes.
                time += DAY / 2 + seed.draw(DAY);
                continue;
            }
        }
        pings.entry(time / DAY).or_default().insert(id);
        // A restart now and then.
        let restart = (time + seed.draw(20 * HOUR)) / DAY;
        if seed.draw(10) == 0 && restart < days {
            pings.entry(restart).or_default().insert(id);
        }
        time += if sidecar { DAY - HOUR / 2 + seed.draw(HOUR) } else { DAY };
    }
    pings
}

#[test]
fn what_is_shown_is_within_3_percent_and_5_of_the_installations_that_pinged_that_day_and_before() {
    // Up to one per cent of new installations a day, or of those that are gone for good. Half of them send by Pulse's
    // own sender.
    for (fleet, new_a_day, shrinks) in [(300_u64, 0, false), (300, 3, false), (6_225, 62, false), (6_225, 0, true)] {
        let mut seed = Seeded(20_261_126 + fleet);
        let days = 75;
        let (mut counted, mut truth) = (vec![0_u64; 75], vec![0_u64; 75]);
        let births = std::iter::repeat_n(0, usize::try_from(fleet).unwrap())
            .chain((1..days).flat_map(|day| std::iter::repeat_n(day, usize::try_from(new_a_day).unwrap())));
        let mut dies = vec![days; usize::try_from(fleet + days * new_a_day).unwrap()];
        let mut alive = dies.len();
        for day in (1..days).filter(|_| shrinks) {
            let before = alive;
            alive -= alive / 100;
            dies[alive..before].fill(day);
        }
        for (number, born) in births.enumerate() {
            let pings = days_of_an_installation(&mut seed, dies[number], number % 2 == 0, born);
            let mut seen: BTreeSet<u64> = BTreeSet::new();
            for (at, (day, ids)) in pings.iter().enumerate() {
                let day = usize::try_from(*day).unwrap();
                truth[day] += u64::from(at > 0);
                counted[day] += ids.iter().filter(|id| seen.contains(id)).count() as u64;
                seen.extend(ids);
            }
        }
        for day in 35..75 {
            let shown = RoundingKey::new(&KEY).shown("", "", counted[day]).map(installations).unwrap();
            let room = truth[day] * 3 / 100 + 5;
            assert!(shown.abs_diff(truth[day]) <= room, "{fleet}, day {day}: {shown} shown, {} true", truth[day]);
        }
    }
}

/// The share of a value, in whole per cent, in the table of a field on the page; `None` where it is not shown.
fn share_of(page: &str, field: &str, value: &str) -> Option<f64> {
    let table = page.split(&format!("<caption><code>{field}</code></caption>")).nth(1)?.split("</table>").next()?;
    let cells = table.split(&format!("<th scope=\"row\">{value}</th>")).nth(1)?.split("</tr>").next()?;
    Some(cells.rsplit("\">").next()?.trim_start_matches("&gt; ").split(' ').next()?.parse().unwrap())
}

#[test]
fn a_share_is_within_2_percentage_points_and_its_rounding_of_all_also_where_the_rest_is_hidden() {
    // How many have one value, the other, and a third.
    for (one, other, third) in
        [(770, 230, 0), (287, 8, 5), (200, 93, 7), (47, 13, 0), (45, 9, 6), (21, 9, 0), (17, 13, 0)]
    {
        let all = one + other + third;
        // Each of two numbers may be off by four.
        let rounding = 100.0 * 8.0 / (all - 4) as f64 + 0.5;
        let (mut shown, mut few) = (0, 0);
        for secret in 0..20 {
            let numbers = numbers_of(
                &[
                    (one, &[("ai_enabled", Lent::Flag(true))]),
                    (other, &[("os", Lent::Text("freebsd")), ("version", Lent::Text("6.2.0"))]),
                    (third, &[("os", Lent::Text("plan9")), ("version", Lent::Text("6.1.4"))]),
                ],
                [secret; 32],
            );
            let page = publish::page(&publish::Published { days: vec![numbers] }).into_string();
            for (field, value, ids) in [
                ("os", "linux", one),
                ("os", "freebsd", other),
                ("version", "6.3.0 (stable)", one),
                ("version_channel", "stable", all),
                ("ai_enabled", "yes", one),
            ] {
                let Some(share) = share_of(&page, field, value) else { continue };
                // A channel is the sum of what is shown of its versions.
                let hidden = if field == "version_channel" { 13 } else { 0 };
                let exact = 100.0 * ids as f64 / all as f64;
                let room = 2.0 + rounding * if hidden > 0 { 3.0 } else { 1.0 } + 100.0 * f64::from(hidden) / all as f64;
                assert!((share - exact).abs() <= room, "{all}, {field} {value}: {share}, truly {exact}");
                shown += 1;
            }
            few += usize::from(share_of(&page, "ai_enabled", "no").is_none());
            let card =
                page.split("<h3><code>ai_enabled</code></h3>").nth(1).unwrap().split("<details>").next().unwrap();
            let yes = share_of(&page, "ai_enabled", "yes").unwrap();
            assert!(card.contains(&format!("<p class=\"share\">{yes} %</p>")), "{card}");
            assert_eq!(
                card.contains("the others are too few to be shown"),
                share_of(&page, "ai_enabled", "no").is_none(),
                "{card}"
            );
        }
        assert!(shown >= 60, "{all}: {shown}");
        assert!(few > 0 || other + third > 14, "{all}: no rest was hidden");
    }
}

#[test]
fn each_number_is_a_multiple_of_five_from_ten_on_and_the_same_for_the_same_cell() {
    let groups: [(u64, &[(&str, Lent<'_>)]); 3] = [
        (43, &[]),
        (9, &[("version", Lent::Text("6.2.1")), ("vms", Lent::Count(80))]),
        (4, &[("os", Lent::Text("plan9")), ("version_channel", Lent::Text("rc"))]),
    ];
    let mut seen = BTreeSet::new();
    for secret in 0..50 {
        let numbers = numbers_of(&groups, [secret; 32]);
        assert_eq!(numbers, numbers_of(&groups, [secret; 32]));
        let cells = numbers.fields.iter().flat_map(|field| &field.cells).map(|cell| cell.ids);
        for ids in cells.chain(numbers.versions.iter().map(|cell| cell.ids)) {
            assert!(ids % STEP == 0 && ids >= THRESHOLD_MIN, "{ids}");
        }
        let text = serde_json::to_string(&numbers).unwrap();
        assert!(!text.contains("plan9") && !text.contains("6.2.1"), "groups below the threshold have no name");
        seen.insert(numbers.ids);
    }
    assert_eq!(seen, BTreeSet::from([Some(55), Some(60)]), "another key rounds otherwise");
}

#[test]
fn sizes_that_are_rare_are_joined_with_their_neighbours_and_none_is_lost() {
    let vms = |count| [("vms", Lent::Count(count))];
    let numbers = numbers_of(&[(60, &vms(0)), (3, &vms(1)), (50, &vms(4)), (30, &vms(20)), (2, &vms(5000))], KEY);
    let cells = &numbers.fields.iter().find(|numbers| numbers.field == "vms").unwrap().cells;
    let names: Vec<&str> = cells.iter().map(|cell| cell.value.as_str()).collect();
    assert_eq!(names, ["0", "1 to 5", "6 and more"]);
    let all: u64 = cells.iter().map(|cell| cell.ids).sum();
    assert!(all.abs_diff(145) < STEP * 3, "{cells:?}");
}

#[test]
fn both_storages_count_the_ids_that_pinged_on_the_day_and_before_by_their_last_ping() {
    let now = noon(TODAY) + SignedDuration::from_hours(24);
    let mut published = Vec::new();
    for storage in Storage::all() {
        let name = storage.name();
        let rows = |numbers: Range<u64>, day: Date| {
            numbers.map(move |number| row(&ping_of(number), noon(day))).collect::<Vec<_>>()
        };
        let (numbers, again) = block_on(async {
            let store = open(&storage).await;
            // Some were seen yesterday, some only long ago; those from 300 on are new and count nothing.
            store.commit(rows(0..100, days_before(TODAY, 1))).await.unwrap();
            store.commit(rows(100..200, days_before(TODAY, 20))).await.unwrap();
            store.commit(rows(0..150, TODAY)).await.unwrap();
            store.commit(rows(300..400, TODAY)).await.unwrap();
            // A second ping of the same day, with another version.
            let mut later = rows(0..40, TODAY);
            for row in &mut later {
                row.received_at += SignedDuration::from_hours(3);
                row.cells[1] = pulse_telemetry_collector::ingest::Cell::Text("9.9.9".to_owned());
            }
            store.commit(later).await.unwrap();
            let reader = reader(&storage);
            let mut counted = DayTally::default();
            reader.scan_day(TODAY, days_before(TODAY, 89), &mut |values| counted.add(values)).await.unwrap();
            let exact = DayNumbers::new(TODAY, &counted, &RoundingKey::new(&KEY));
            let published = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap();
            let again = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap();
            assert_eq!(published, again, "{name}: it was published once");
            (exact, again)
        });
        assert!(numbers.ids.unwrap().abs_diff(150) < STEP, "{name}: {numbers:?}");
        let newest = numbers.versions.iter().find(|cell| cell.version.as_deref() == Some("9.9.9")).unwrap();
        assert!(newest.ids.abs_diff(40) < STEP, "{name}: {numbers:?}");
        assert_eq!(again.days.len(), 3, "{name}: each whole day with rows");
        assert_eq!(again.trend(), None, "{name}");
        published.push(numbers);
    }
    assert!(published.windows(2).all(|two| two[0] == two[1]), "{published:#?}");
}

#[test]
fn a_day_that_cannot_be_read_is_told_and_keeps_no_later_one_from_being_kept() {
    for storage in Storage::all() {
        let (name, change) = (storage.name(), "UPDATE pings_20261124 SET vms = -1");
        block_on(async {
            let store = open(&storage).await;
            commit(store.as_ref(), 0..60, &[2, 1, 0]).await;
            if let Storage::Postgres(cluster) = &storage {
                cluster.psql("pulse", change);
            } else {
                Connection::open(storage.file()).unwrap().execute_batch(change).unwrap();
            }
            let reader = reader(&storage);
            let now = noon(TODAY) + SignedDuration::from_hours(24);
            let said = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap_err().to_string();
            assert!(said.contains("vms of 2026-11-24"), "{name}: {said}");
            let kept = reader.publication().await.unwrap().days;
            let kept: Vec<Date> = kept.iter().map(|published| published.day).collect();
            assert_eq!(kept, [days_before(TODAY, 2), TODAY], "{name}");
        });
    }
}

#[test]
fn made_up_ids_add_nothing_on_their_first_day_and_later_at_most_their_own_number() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            commit(store.as_ref(), 0..60, &[3, 2, 1, 0]).await;
            commit(store.as_ref(), 1000..1500, &[1, 0]).await;
            let reader = reader(&storage);
            let published =
                publish::publish(reader.as_ref(), store.as_ref(), noon(TODAY) + SignedDuration::from_hours(24))
                    .await
                    .unwrap();
            let ids: Vec<Option<u64>> = published.days.iter().map(|numbers| numbers.ids).collect();
            assert_eq!(ids[1], ids[2], "{}: their first day", storage.name());
            // One step is what rounding may add to both.
            assert!(ids[3].unwrap() <= ids[2].unwrap() + 500 + STEP, "{}: {ids:?}", storage.name());
            // Corrected for rotation as those of everybody are.
            let told: Vec<Option<u64>> = published.days.iter().map(|numbers| numbers.installations).collect();
            assert_eq!(told, ids.iter().map(|ids| ids.map(installations)).collect::<Vec<_>>(), "{}", storage.name());
            assert_eq!(told[1], told[2], "{}: their first day", storage.name());
            assert!(
                told[3].unwrap() <= told[2].unwrap() + installations(500 + STEP) + 1,
                "{}: {told:?}",
                storage.name()
            );
        });
    }
}

/// What a sender does who asks for new IDs one by one, as the collector treats him: how many of these are stored.
async fn send_from_one_network(store: &dyn PingStore, limiter: &Limiter, ids: Range<u64>, day: Date) -> u64 {
    let sender = Client::new("192.0.2.1".parse().unwrap());
    let permits: Vec<_> = ids.clone().map(|_| limiter.take_new_id(&sender, day)).collect();
    let arrivals = ids
        .zip(&permits)
        .map(|(id, permit)| Arrival { row: row(&ping_of(id), noon(day)), may_be_new: permit.is_some() });
    let outcomes = store.admit(arrivals.collect()).await.unwrap();
    let is_new = |outcome: &RowOutcome| matches!(outcome, RowOutcome::Stored { new_id: true });
    for (outcome, permit) in outcomes.iter().zip(permits) {
        permit.into_iter().filter(|_| is_new(outcome)).for_each(NewIdPermit::keep);
    }
    outcomes.iter().filter(|outcome| matches!(outcome, RowOutcome::Stored { .. })).count() as u64
}

#[test]
fn through_the_limit_made_up_ids_add_what_it_grants_a_network_each_day_and_those_of_earlier_days_go_on_counting() {
    const GRANTED: u64 = 40;
    for storage in Storage::both() {
        let name = storage.name();
        block_on(async {
            let store = open(&storage).await;
            let limiter = Limiter::new(0, u32::try_from(GRANTED).unwrap(), Box::new(SystemRng));
            for (day, before) in (0..4).rev().enumerate() {
                commit(store.as_ref(), 0..60, &[before]).await;
                let (day, date) = (day as u64, days_before(TODAY, before));
                // All of earlier days once more, and a hundred others.
                let known = 1000 + day * GRANTED;
                for (ids, stored) in [(1000..known, day * GRANTED), (known..known + 100, GRANTED)] {
                    // A batch of none is never stored.
                    if !ids.is_empty() {
                        assert_eq!(send_from_one_network(store.as_ref(), &limiter, ids, date).await, stored, "{name}");
                    }
                }
            }
            let now = noon(TODAY) + SignedDuration::from_hours(24);
            let reader = reader(&storage);
            let published = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap();
            for (day, numbers) in published.days.iter().enumerate().skip(1) {
                let shown = numbers.ids.unwrap();
                assert!(shown.abs_diff(60 + day as u64 * GRANTED) < STEP, "{name}, day {day}: {shown}");
            }
        });
    }
}

#[test]
fn what_was_published_outlives_its_rows_and_a_lost_directory() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            commit(store.as_ref(), 0..60, &[1, 0]).await;
            let now = noon(TODAY) + SignedDuration::from_hours(24);
            let site = tempfile::tempdir().unwrap();
            let files = || files_below(site.path());
            let reader = reader(&storage);
            let published = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap();
            publish::write(&published, site.path()).unwrap();
            let before = files();
            let later = now + SignedDuration::from_hours(24 * 100);
            assert_eq!(store.purge(later).await.unwrap().days, 2);
            std::fs::remove_dir_all(site.path()).unwrap();
            let published = publish::publish(reader.as_ref(), store.as_ref(), later).await.unwrap();
            publish::write(&published, site.path()).unwrap();
            assert_eq!(files(), before, "{}", storage.name());
            let names: BTreeSet<_> = before.iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
            let expected = ["2026-11-24.json", "2026-11-25.json", "index.html", "numbers.json", "numbers.schema.json"];
            assert_eq!(names, expected.map(Into::into).into());
            let json = |name: &str| -> serde_json::Value {
                serde_json::from_slice(&std::fs::read(site.path().join(name)).unwrap()).unwrap()
            };
            let numbers = json("numbers.json");
            assert!(jsonschema::is_valid(&json("numbers.schema.json"), &numbers), "{numbers:#}");
        });
    }
}

/// A number of IDs on a number of days before the last one.
fn course(counts: &[(i64, Option<u64>)]) -> publish::Published {
    let day = |(before, ids): &(i64, Option<u64>)| DayNumbers {
        format: 1,
        day: days_before(TODAY, *before),
        ids: *ids,
        installations: ids.map(installations),
        versions: Vec::new(),
        fields: Vec::new(),
    };
    publish::Published { days: counts.iter().map(day).collect() }
}

#[test]
fn a_fleet_that_changes_by_more_than_a_percent_a_day_is_said_to_on_the_page_and_in_the_report_and_no_other_is() {
    let (growing, shrinking, steady) = (Some(Trend::Growing), Some(Trend::Shrinking), Some(Trend::Steady));
    let days = |from: i64, ids: u64| (1..=from).rev().map(move |before| (before, Some(ids)));
    let to = |before: Vec<(i64, Option<u64>)>, now: u64| [before, vec![(0, Some(now))]].concat();
    let week = |ids| days(7, ids).collect::<Vec<_>>();
    let one_percent = |up: bool| {
        let count = |before: i32| 10_000.0 * if up { 1.01_f64 } else { 0.99 }.powi(7 - before);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
        (0..=7).rev().map(|before| (i64::from(before), Some(count(before) as u64))).collect::<Vec<_>>()
    };
    for (counts, expected) in [
        (to(week(1000), 1000), steady),
        (one_percent(true), steady),
        (one_percent(false), steady),
        // One jump, of which the following days tell, too.
        (to(week(1000), 1050), growing),
        (to(week(1000), 950), shrinking),
        (to([(3, Some(1000)), (2, Some(1050)), (1, Some(1050))].into(), 1050), growing),
        // The first week.
        (to(vec![(1, Some(1000))], 1050), growing),
        (to(Vec::new(), 1050), None),
        // A slow change is told by the farthest day.
        (to(vec![(7, Some(1000))], 1080), steady),
        (to(vec![(7, Some(1000))], 1090), growing),
        (to(vec![(7, Some(1000))], 920), shrinking),
        // What is missing, not shown, or longer ago tells nothing.
        (to(vec![(8, Some(500))], 1000), None),
        (to(vec![(73, Some(500)), (8, Some(500))], 1000), None),
        (to(vec![(2, Some(1000)), (1, None)], 1050), growing),
        (to(vec![(1, None)], 1050), None),
        (vec![(1, Some(1000)), (0, None)], None),
    ] {
        let published = course(&counts);
        assert_eq!(published.trend(), expected, "{counts:?}");
        for text in [published.to_text(), publish::page(&published).into_string()] {
            assert_eq!(text.contains("is growing by more than 1 % a day"), expected == growing, "{text}");
            assert_eq!(text.contains("is shrinking by more than 1 % a day"), expected == shrinking, "{text}");
        }
    }
}

/// Ten minutes ago: right after midnight the day that ended then is not counted yet.
pub(super) fn settled() -> Timestamp {
    SystemClock.now().wall - SignedDuration::from_mins(10)
}

/// Pings of 60 installations, today, on the last day that is counted and the day before, by the clock of this machine.
pub(super) async fn two_days(storage: &Storage) -> Date {
    let store = open(storage).await;
    let settled = settled();
    let before = |days: i64| settled - SignedDuration::from_hours(24 * days);
    for at in [before(2), before(1), SystemClock.now().wall] {
        store.commit((0..60).map(|number| row(&ping_of(number), at)).collect()).await.unwrap();
    }
    Offset::UTC.to_datetime(before(1)).date()
}

#[test]
fn the_collector_publishes_by_itself_where_a_directory_is_set_and_shows_its_maintainers_the_same() {
    for storage in Storage::all() {
        let yesterday = block_on(two_days(&storage));
        let site = tempfile::tempdir().unwrap();
        let dir = site.path().join("site");
        let setup = Setup::new(&storage).with("PUBLISH__DIR", dir.to_str().unwrap());
        let (one, other) = (setup.start(), Setup::new(&storage));
        one.wait_for("the site", || dir.join("index.html").exists());
        let page = std::fs::read_to_string(dir.join("index.html")).unwrap();
        let total = |html: &str| html.split("class=\"total\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
        one.wait_for("the maintainers' page", || one.ask_admin("/").text().contains("class=\"total\""));
        let shown = one.ask_admin("/");
        assert_eq!((shown.status, total(&shown.text())), (200, total(&page)), "{}", storage.name());
        assert!(shown.text().contains("last purge"), "{}", shown.text());
        let said = String::from_utf8(other.run(&["report"]).stdout).unwrap();
        let expected = format!("on {yesterday}\nactive installations: {} (", total(&page));
        assert!(said.contains(&expected), "{said}");
        one.stop();
        // Another collector, or the command, publishes the very same.
        let files = files_below(&dir);
        let again = site.path().join("again");
        let ended = other.run(&["publish", again.to_str().unwrap()]);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let same = |files: Vec<(std::path::PathBuf, Vec<u8>)>, dir: &std::path::Path| -> BTreeMap<_, _> {
            files.into_iter().map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes)).collect()
        };
        assert_eq!(same(files, &dir), same(files_below(&again), &again), "{}", storage.name());
    }
}

#[test]
fn nothing_is_published_where_no_directory_is_set_and_none_is_written_before_there_are_numbers() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage);
    let collector = setup.start();
    assert!(collector.ask_admin("/").text().contains("counted"));
    collector.stop();
    let site = tempfile::tempdir().unwrap();
    let ended = setup.run(&["publish", site.path().join("site").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("nothing to publish yet"), "{said}");
    assert!(files_below(site.path()).is_empty());
    block_on(async {
        let reader = reader(&storage);
        assert!(publish::report(reader.as_ref(), SystemClock.now().wall).await.unwrap().days.is_empty());
    });
}

#[test]
fn the_page_of_the_maintainers_needs_the_token_where_there_is_one() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage);
    let token = setup.write("token", "the-token-of-the-maintainers");
    let collector = setup.with("ADMIN__TOKEN_FILE", token.to_str().unwrap()).start();
    assert_eq!(collector.ask_admin("/").status, 401);
    let shown = [("authorization", "Bearer the-token-of-the-maintainers")];
    assert_eq!(collector.ask_admin_with("/", &shown).status, 200);
    assert_eq!(collector.get("/").status, 404, "it is nothing for everybody");
}

#[test]
fn a_clock_that_is_ahead_by_days_publishes_no_day_that_goes_on() {
    let storage = Storage::sqlite();
    block_on(async {
        let store = open(&storage).await;
        commit(store.as_ref(), 0..60, &[1, 0]).await;
        let reader = reader(&storage);
        let days_ahead = |days: i64| noon(TODAY) + SignedDuration::from_hours(24 * days);
        let published = publish::publish(reader.as_ref(), store.as_ref(), days_ahead(365)).await.unwrap();
        assert_eq!(published.days, []);
        // What is stored by such a clock does not make it right.
        store.commit(vec![row(&ping_of(1), days_ahead(5))]).await.unwrap();
        let published = publish::publish(reader.as_ref(), store.as_ref(), days_ahead(5)).await.unwrap();
        assert_eq!(published.days, []);
    });
}

#[test]
fn of_collectors_that_share_a_storage_one_whose_clock_is_ahead_publishes_no_day_that_goes_on_by_the_storages() {
    for storage in Storage::all() {
        if let Storage::Sqlite(_) = storage {
            continue;
        }
        block_on(async {
            let (store, reader, now) = (open(&storage).await, reader(&storage), SystemClock.now().wall);
            for hours in [24, 0] {
                let at = now - SignedDuration::from_hours(hours);
                store.commit((0..60).map(|number| row(&ping_of(number), at)).collect()).await.unwrap();
            }
            let ahead = now + SignedDuration::from_hours(25);
            let published = publish::publish(reader.as_ref(), store.as_ref(), ahead).await.unwrap();
            let today = Offset::UTC.to_datetime(now).date();
            assert!(published.days.iter().all(|numbers| numbers.day < today), "{}: {published:?}", storage.name());
        });
    }
}
