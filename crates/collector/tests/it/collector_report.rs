//! The report's numbers are right, no cell shows a single installation, and the export is what Pulse's own report
//! reads.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry_collector::report::{K, ReportBuilder, UsageReport, correction, fold, rounded};
use pulse_telemetry_collector::storage::LATER_COLUMNS;
use pulse_telemetry_collector::storage::Row;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{
    Setup, Storage, block_on, install_id, open, ping, ping_of, read_only, recorded, row, sqlite_rows,
};
use pulse_telemetry_testkit::replay;
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::{Value, json};

const NOW: &str = "2026-11-23T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap())
}

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// The pings of a fleet over so many days up to [`NOW`]: heartbeats 24 h ± 30 min apart, a restart now and then, and an
/// ID that is replaced by the first ping after 30 days.
fn fleet(installations: u64, days: u64) -> BTreeMap<Timestamp, Vec<u64>> {
    let mut seed = Seeded(20_261_123);
    let start = at(NOW) - seconds(days * DAY);
    let mut pings: BTreeMap<Timestamp, Vec<u64>> = BTreeMap::new();
    let mut ids = 0;
    for _ in 0..installations {
        // Each is somewhere in its day and in the life of its ID.
        let (mut time, mut age) = (seed.draw(DAY), seed.draw(30 * DAY));
        ids += 1;
        let mut id = ids;
        while time < days * DAY {
            if age >= 30 * DAY {
                ids += 1;
                (id, age) = (ids, 0);
            }
            pings.entry(start + seconds(time)).or_default().push(id);
            // One start in ten days.
            if seed.draw(10) == 0 {
                let later = seed.draw(DAY - 2 * HOUR);
                pings.entry(start + seconds(time + later)).or_default().push(id);
            }
            let step = DAY - HOUR / 2 + seed.draw(HOUR);
            time += step;
            age += step;
        }
    }
    pings.split_off(&(at(NOW) + seconds(1)));
    pings
}

fn counted(pings: &BTreeMap<Timestamp, Vec<u64>>, now: Timestamp, ping: impl Fn(u64) -> Value) -> UsageReport {
    let mut counting = ReportBuilder::new(now);
    let mut template: Option<Row> = None;
    for (received_at, ids) in pings {
        for id in ids {
            // Parsing a million pings is not what is tried.
            let mut of_this = template.get_or_insert_with(|| row(&ping(*id), *received_at)).clone();
            of_this.received_at = *received_at;
            of_this.cells[0] = pulse_telemetry_collector::ingest::Cell::Text(install_id(*id));
            counting.add(&of_this);
        }
    }
    counting.report()
}

#[test]
fn in_a_fleet_of_20000_with_rotation_and_restarts_the_corrected_count_is_within_3_percent() {
    let report = counted(&fleet(20_000, 31), at(NOW), ping_of);
    for window in &report.windows {
        let count = window.active.unwrap();
        let error = f64::from(u32::try_from(count.installations).unwrap()) / 20_000.0 - 1.0;
        assert!(error.abs() < 0.03, "{}: {count:?} is {:.1} % off", window.name, error * 100.0);
    }
    let month = report.windows.last().unwrap();
    assert!(month.active.unwrap().ids > 37_000, "without the correction it would be almost twice as many");
}

#[test]
fn every_window_shows_its_correction_and_an_installation_counts_by_its_last_ping() {
    let mut counting = ReportBuilder::new(at(NOW));
    for (version, ago) in [("6.0.0", 2 * DAY), ("6.3.0", HOUR)] {
        for number in 0..12 {
            let upgraded = ping(&json!({"install_id": install_id(number), "version": version,
                "version_is_published_release": true, "vms": 30, "ai_enabled": number < 6}));
            counting.add(&row(&upgraded, at(NOW) - seconds(ago)));
        }
    }
    let report = counting.report();
    assert_eq!(report.windows.iter().map(|window| window.name).collect::<Vec<_>>(), ["25h", "72h", "7d", "30d"]);
    for window in &report.windows {
        assert!((window.correction - correction(Duration::from_secs_f64(window.span * 86_400.0))).abs() < 1e-9);
        assert_eq!(window.active.unwrap().ids, 10, "12, rounded: {}", window.name);
        let table = |field: &str| {
            let table = window.tables.iter().find(|table| table.field == field).unwrap();
            table.cells.iter().map(|cell| (cell.value.as_str(), cell.count.ids)).collect::<Vec<_>>()
        };
        assert_eq!(table("version"), [("6.3.0", 10)]);
        assert_eq!(table("vms"), [("26 to 50", 10)]);
        assert_eq!(table("ai_enabled"), [("no", 5), ("yes", 5)]);
    }
    let days: Vec<_> = report.uptake.iter().map(|day| day.versions[0].value.as_str()).collect();
    assert_eq!(days, ["6.0.0", "6.3.0"]);
}

#[test]
fn nothing_of_fewer_than_five_installations_is_shown_anywhere() {
    let mut counting = ReportBuilder::new(at(NOW));
    for number in 0..100 {
        let change = match number {
            0 => json!({"version": "6.6.6", "version_is_published_release": false, "os": "plan9", "vms": 5000}),
            _ => json!({"version": "6.3.0"}),
        };
        let mut ping = ping(&change);
        ping["install_id"] = json!(install_id(number));
        counting.add(&row(&ping, at(NOW) - seconds(HOUR)));
    }
    let report = counting.report();
    let shown = format!("{}{}", report.to_text(), serde_json::to_string(&report).unwrap());
    for single in ["6.6.6", "plan9", "1001 and more", &install_id(0)] {
        assert!(!shown.contains(single), "{single} in {shown}");
    }
    // 99 and 1 of 100: the larger one would give the smaller one away.
    let os = report.windows[0].tables.iter().find(|table| table.field == "os").unwrap();
    assert_eq!(os.cells, []);
    let mut few = ReportBuilder::new(at(NOW));
    (0..4).for_each(|number| few.add(&row(&ping_of(number), at(NOW))));
    let few = few.report();
    assert!(
        few.windows.iter().all(|window| window.active.is_none() && window.tables.iter().all(|t| t.cells.is_empty()))
    );
}

proptest! {
    #[test]
    fn whatever_the_cells_are_none_is_small_none_is_alone_in_other_and_none_is_lost(
        counts in proptest::collection::vec(1_u64..12, 0..12)
    ) {
        let cells: Vec<_> = counts.iter().enumerate().map(|(at, ids)| (at.to_string(), *ids)).collect();
        let folded = fold(cells, 1.0);
        prop_assert!(folded.iter().all(|(_, ids)| *ids >= K));
        let total: u64 = counts.iter().sum();
        prop_assert!(folded.is_empty() || folded.iter().map(|(_, ids)| ids).sum::<u64>() == total);
        let shown = folded.iter().filter(|(name, _)| name != "other").count();
        // What is folded is no single cell that is not told by name.
        prop_assert!(folded.len() == shown || counts.len() - shown >= 2);
    }
}

/// Every number of IDs in the report, with where it stands.
fn numbers(report: &UsageReport) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for window in &report.windows {
        numbers.extend(window.active.map(|active| (window.name.to_owned(), active.ids)));
        for table in &window.tables {
            let name = |value: &str| format!("{} {} {value}", window.name, table.field);
            numbers.extend(table.cells.iter().map(|cell| (name(&cell.value), cell.count.ids)));
        }
    }
    for day in &report.uptake {
        numbers.extend(day.versions.iter().map(|cell| (format!("{} {}", day.day, cell.value), cell.count.ids)));
    }
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A group of one to four is in one number and not in another: in a channel and not in its one version that is
    /// shown, in a window and not in the shorter one. (Five IDs of 25 hours are fewer than five installations, and not
    /// shown.) With the group gone, or grown to five, some number of others makes the same print.
    #[test]
    fn no_group_of_fewer_than_five_can_be_computed_from_two_numbers(others in 6_u64..200, group in 1_u64..5) {
        let report_of = |others: u64, group: u64| {
            let mut counting = ReportBuilder::new(at(NOW));
            for number in 0..group {
                let one = json!({"install_id": install_id(1000 + number), "version": "6.2.9"});
                counting.add(&row(&ping(&one), at(NOW) - seconds(2 * DAY)));
            }
            for number in 0..others {
                counting.add(&row(&ping(&json!({"install_id": install_id(number), "version": "6.3.0"})), at(NOW)));
            }
            numbers(&counting.report())
        };
        let print = report_of(others, group);
        prop_assert!(print.values().all(|number| *number > 0 && number % K == 0), "{print:?}");
        let [shorter, longer] = ["25h", "7d"].map(|window| print[window]);
        prop_assert_eq!([shorter, longer], [rounded(others), rounded(others + group)]);
        let is_told = longer - shorter;
        prop_assert!(is_told == 0 || is_told == K, "{}", is_told);
        // None, or five, among others of whom there are about as many.
        let same = (others.saturating_sub(2)..=others + 2).any(|about| {
            [rounded(about), rounded(about + is_told)] == [shorter, longer]
        });
        prop_assert!(same);
    }
}

#[test]
fn the_report_of_the_command_is_the_same_on_both_storages() {
    let now = SystemClock.now().wall;
    let mut reports = Vec::new();
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            for day in 0..3_u64 {
                let rows = (0..20).map(|number| row(&ping_of(number), now - seconds(day * DAY + 60))).collect();
                store.commit(rows).await.unwrap();
            }
        });
        let setup = Setup::new(&storage);
        let text = setup.run(&["report"]);
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("active installations: 20 (20 install IDs / 1.001"), "{text}");
        let mut report: Value = serde_json::from_slice(&setup.run(&["report", "--json"]).stdout).unwrap();
        report["until"].take();
        let [span, correction] = ["span", "correction"].map(|key| report["windows"][3][key].as_f64().unwrap());
        assert!((2.0..2.1).contains(&span), "there are pings of two days and a minute: {span}");
        assert!((correction - (1.0 + (span - 1.0) / 30.0)).abs() < 1e-6);
        // The two are made a moment after each other.
        for window in report["windows"].as_array_mut().unwrap() {
            window["span"].take();
            window["correction"].take();
        }
        reports.push(report);
    }
    assert!(reports.windows(2).all(|two| two[0] == two[1]), "{reports:#?}");
}

#[test]
fn the_columns_of_the_adoption_report_are_those_of_the_shared_list() {
    let Some(shared) = replay::shared_or_skip("the_columns_of_the_adoption_report_are_those_of_the_shared_list") else {
        return;
    };
    let list = std::fs::read_to_string(shared.join("docs/adoption-columns.txt")).unwrap();
    let list: Vec<_> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(*LATER_COLUMNS, list);
}

/// What the adoption report reads: the time, the fields, and the later columns.
fn adoption_query() -> String {
    let fields = FIELDS.iter().map(|field| field.name).chain(LATER_COLUMNS.iter().copied());
    let columns = fields.collect::<Vec<_>>().join(", ");
    format!(
        "SELECT rowid, received_at, {columns} FROM telemetry_pings WHERE received_at >= datetime('now', '-2 days') \
         ORDER BY rowid"
    )
}

#[test]
fn the_export_and_the_view_of_the_storage_are_what_pulses_own_adoption_report_reads() {
    if replay::shared_or_skip("the_export_and_the_view_of_the_storage_are_what_pulses_own_adoption_report_reads")
        .is_none()
    {
        return;
    }
    let recorded = recorded("ping-6.3.0.txt").unwrap();
    for storage in Storage::all() {
        let setup = Setup::new(&storage);
        let collector = setup.start();
        assert_eq!(collector.post(&recorded).status, 204);
        assert_eq!(collector.post(&ping(&json!({"paid_license": true}))).status, 204);
        // While the collector runs.
        let file = storage.dir().join("export.sqlite");
        let exported = setup.run(&["export", "--sqlite", file.to_str().unwrap()]);
        let name = storage.name();
        if let Storage::Sqlite(_) = storage {
            assert_eq!(sqlite_rows(&storage.file(), "telemetry_pings").len(), 2, "the view of the storage itself");
        }
        assert!(exported.status.success(), "{name}: {}", String::from_utf8_lossy(&exported.stderr));
        let again = setup.run(&["export", "--sqlite", file.to_str().unwrap()]);
        assert_eq!(again.status.code(), Some(5), "a file that is there stays as it is");
        let view = matches!(storage, Storage::Sqlite(_)).then(|| storage.file());
        for file in view.iter().chain([&file]) {
            let connection = read_only(file);
            let mut statement = connection.prepare(&adoption_query()).unwrap();
            let mut rows = statement.query([]).unwrap();
            let mut rowids = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                rowids.push(row.get::<_, i64>("rowid").unwrap());
                let received_at: String = row.get("received_at").unwrap();
                let shape = |c: char| if c.is_ascii_digit() { 'd' } else { c };
                assert_eq!(received_at.chars().map(shape).collect::<String>(), "dddd-dd-dd dd:dd:dd");
                assert!(matches!(row.get::<_, i64>("paid_license").unwrap(), 0 | 1));
                for later in LATER_COLUMNS.iter() {
                    assert_eq!(row.get::<_, Option<i64>>(*later).unwrap(), None, "{later}");
                }
            }
            assert!(rowids.len() == 2 && rowids[0] != rowids[1], "{rowids:?}");
            let paid =
                "SELECT count(DISTINCT install_id) FROM telemetry_pings WHERE paid_license = 1 AND version_raw IS NULL";
            assert_eq!(connection.query_row(paid, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        }
        collector.stop();
    }
}
