//! The audit finds what is wrong with a ledger, and nothing where nothing is.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod receipts;

use std::borrow::Cow;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use pulse_telemetry_core::audit::{Audit, LineHash};
use pulse_telemetry_core::engine::EntryKind::{
    Attempted, ClockStepped, ConsentChanged, Erased, Failed, IdReset, IdRotated, Pruned, Sent, Started, Stopped,
};
use pulse_telemetry_core::engine::Schedule;
use pulse_telemetry_core::ledger::{LINE_MAX, Line, Piece, sha256};
use pulse_telemetry_core::ping::Event::{Heartbeat, Startup};
use pulse_telemetry_testkit::history::{
    DAY, HOUR, SCHEDULE, attempt, audit, because, body, chained, chained_behind, end, entries, found, life, noon,
    split, started,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Something that happens to a line.
type Change = Box<dyn Fn(&mut Line<'static>)>;

#[test]
fn a_year_of_everything_that_may_happen_audits_clean_and_the_report_counts_it() {
    let report = audit(&chained(life(365)));
    assert!(report.is_clean(), "{}", report.to_text());
    let text = report.to_text();
    for said in ["lines: each follows", "402 bodies", "73 IDs", "364 heartbeats and 1 startups: each keeps"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(text.ends_with("\nNothing was found.\n"), "{text}");
    assert!(audit(b"").is_clean());
}

#[test]
fn every_kind_of_damage_to_the_chain_is_found() {
    let whole = chained(life(12));
    let lines = split(&whole);
    let without = |gone: std::ops::Range<usize>| {
        let mut lines = lines.clone();
        lines.drain(gone);
        lines.concat()
    };
    assert_eq!(found(&without(0..1)), [("chain", 1)], "the beginning is gone");
    assert_eq!(found(&without(4..9)), [("chain", 5)]);
    assert_eq!(found(&without(4..4)), []);

    let long = [lines[0].clone(), vec![b'x'; LINE_MAX + 1], b"\n".to_vec(), lines[1].clone()].concat();
    assert_eq!(found(&long), [("chain", 2)]);
    let nonsense = [&lines[0][..], b"\0\0\0\n", b"\n", &lines[1][..]].concat();
    assert_eq!(found(&nonsense), [("chain", 2), ("chain", 3)]);
    let torn = &whole[..whole.len() - 1];
    assert_eq!(found(torn), [("chain", lines.len() as u64)]);

    // An entry that was changed by hand shows in the one below it.
    let changed = String::from_utf8(whole).unwrap().replacen("no_connection", "gave_up", 1);
    let at = changed.lines().position(|line| line.contains("gave_up")).unwrap() as u64 + 1;
    assert_eq!(found(changed.as_bytes()), [("chain", at + 1)]);
}

#[test]
fn a_beginning_that_is_not_the_first_entry_needs_its_explanation() {
    let prev = "1".repeat(64);
    let pruned = |through, last: &str| {
        let whole = Line { through: Some(through), last: Some(last.to_owned()), ..Line::new(Pruned, noon()) };
        chained_behind(7, prev.clone(), vec![Line::new(Started, noon()), whole])
    };
    assert_eq!(found(&pruned(7, &prev)), []);
    assert_eq!(found(&pruned(6, &prev)), [("chain", 1)]);
    assert_eq!(found(&pruned(7, &"2".repeat(64))), [("chain", 1)]);
    assert_eq!(found(&pruned(9, &prev)), [("chain", 2), ("chain", 1)], "it cannot have pruned itself");
    let says_nothing = chained(vec![Line::new(Started, noon()), Line::new(Pruned, noon())]);
    assert_eq!(found(&says_nothing), [("chain", 2)]);

    assert_eq!(
        found(&chained_behind(7, prev.clone(), vec![Line::new(Erased, noon()), Line::new(Started, noon())])),
        []
    );
    assert_eq!(found(&chained_behind(7, prev, vec![Line::new(Started, noon())])), [("chain", 1)]);
    assert_eq!(found(&chained(vec![Line::new(Started, noon()), Line::new(Erased, noon())])), [("chain", 2)]);
}

#[test]
fn every_body_is_held_against_its_hash_the_contract_and_the_encoder() {
    let good = body(1, Startup, 25);
    let with = |change: &dyn Fn(&mut Line<'static>)| {
        let mut attempted = attempt(noon(), Startup, good.clone());
        change(&mut attempted);
        found(&chained(vec![attempted]))
    };
    let bytes = |body: String| {
        move |line: &mut Line<'static>| {
            line.sha256 = Some(sha256(body.as_bytes()));
            line.body = Some(Cow::Owned(body.clone()));
        }
    };
    assert_eq!(with(&|_| {}), []);
    let wrong: Vec<Change> = vec![
        Box::new(|line| line.sha256 = None),
        Box::new(|line| line.sha256 = Some(sha256(b"another"))),
        Box::new(|line| line.body = None),
        Box::new(|line| line.event = None),
        Box::new(|line| line.event = Some(Heartbeat)),
        Box::new(bytes("a ping".to_owned())),
        Box::new(bytes("[]".to_owned())),
        Box::new(bytes(good.replace("\"vms\":25", "\"vms\":-1"))),
        Box::new(bytes(good.replace("\"vms\":25,", ""))),
        Box::new(bytes(good.replace("\"vms\":25", "\"vms\":25,\"hostname\":\"pve1\""))),
        Box::new(bytes(good.replace("\"vms\":25", "\"vms\": 25"))),
        Box::new(bytes(good.replace("\"vms\":25,\"containers\":12", "\"containers\":12,\"vms\":25"))),
        Box::new(bytes(good.replace("\"vms\":25", "\"vms\":25,\"vms\":25"))),
    ];
    for (number, change) in wrong.iter().enumerate() {
        let found = with(change);
        assert!(!found.is_empty() && found.iter().all(|found| *found == ("bodies", 1)), "{number}: {found:?}");
    }
}

#[test]
fn an_id_that_is_used_for_30_days_or_comes_back_is_found() {
    let ping = |id, days: i64| {
        let at = noon() + DAY * i32::try_from(days).unwrap();
        [attempt(at, Heartbeat, body(id, Heartbeat, days as u32)), end(Sent, at, Heartbeat, None)]
    };
    let ledger = |parts: &[&[Line<'static>]]| chained(parts.concat());
    assert_eq!(found(&ledger(&[&ping(1, 0), &ping(1, 29)])), []);
    assert_eq!(found(&ledger(&[&ping(1, 0), &ping(1, 30), &ping(1, 31)])), [("rotation", 3)], "once for an ID");

    let at = noon() + HOUR;
    for between in [because(IdRotated, at, "expired"), Line::new(IdReset, at), because(ConsentChanged, at, "pulse")] {
        let on_again = Line::new(Started, at);
        let ledger = ledger(&[&ping(1, 0), &[between, on_again], &ping(2, 2), &ping(1, 4)]);
        assert_eq!(found(&ledger), [("rotation", 7)]);
    }
}

#[test]
fn pings_that_are_too_close_are_found_and_retries_are_not() {
    let heartbeat = |at, vms| attempt(at, Heartbeat, body(1, Heartbeat, vms));
    let sent = |at| end(Sent, at, Heartbeat, None);
    let apart = |distance, same_bytes| {
        let then = noon() + distance;
        let vms = if same_bytes { 1 } else { 2 };
        let first = [started(noon(), SCHEDULE), heartbeat(noon(), 1), sent(noon())];
        found(&chained([&first[..], &[heartbeat(then, vms), sent(then)]].concat()))
    };
    for same_bytes in [true, false] {
        assert_eq!(apart(HOUR * 23 + MINUTE * 30, same_bytes), []);
        assert_eq!(apart(HOUR * 23 + MINUTE * 28, same_bytes), [("spacing", 4)]);
        assert_eq!(apart(SignedDuration::ZERO, same_bytes), [("spacing", 4)]);
    }

    let startup = |at, vms| attempt(at, Startup, body(1, Startup, vms));
    let startups = |distance| {
        let then = noon() + distance;
        let between = [end(Sent, noon(), Startup, None), Line::new(Stopped, then), started(then, SCHEDULE)];
        found(&chained([&[started(noon(), SCHEDULE), startup(noon(), 1)][..], &between, &[startup(then, 1)]].concat()))
    };
    assert_eq!(startups(HOUR), []);
    assert_eq!(startups(HOUR - MINUTE * 2), [("spacing", 6)]);

    let retry = end(Failed, noon(), Heartbeat, Some("server_error"));
    let then = noon() + MINUTE;
    let first = || [started(noon(), SCHEDULE), heartbeat(noon(), 1)];
    assert_eq!(found(&chained([&first()[..], &[retry, heartbeat(then, 1)]].concat())), []);
    let crash = started(then, SCHEDULE);
    assert_eq!(found(&chained([&first()[..], &[sent(noon()), crash, heartbeat(then, 1)]].concat())), []);
}

#[test]
fn each_heartbeat_is_held_against_the_schedule_in_force_when_it_was_built() {
    let schedule = |hours: u64| Schedule {
        interval: Duration::from_secs(hours * 3600),
        jitter: Duration::from_secs(hours * 75),
        ..SCHEDULE
    };
    let heartbeat = |at, vms| [attempt(at, Heartbeat, body(1, Heartbeat, vms)), end(Sent, at, Heartbeat, None)];
    let ledger = |first: Line<'static>, second: Option<Line<'static>>, apart: [i64; 2]| {
        let (then, later) = (noon() + HOUR * apart[0] as i32, noon() + HOUR * (apart[0] + apart[1]) as i32);
        let restart = second.into_iter().map(|line| Line { at: noon() + HOUR, ..line });
        let lines = [first].into_iter().chain(heartbeat(noon(), 1)).chain(restart);
        found(&chained(lines.chain(heartbeat(then, 2)).chain(heartbeat(later, 3)).collect()))
    };
    let (day, week, short) = (|| started(noon(), schedule(24)), || started(noon(), schedule(168)), schedule(1));
    // Configured otherwise meanwhile: what the schedule before set is kept, and no distance is asked that it did not.
    assert_eq!(ledger(day(), Some(week()), [24, 168]), []);
    assert_eq!(ledger(day(), Some(week()), [24, 24]), [("spacing", 7)]);
    assert_eq!(ledger(day(), Some(week()), [3, 168]), [("spacing", 5)]);
    assert_eq!(ledger(week(), Some(day()), [3, 24]), []);
    assert_eq!(ledger(week(), Some(day()), [3, 3]), [("spacing", 7)]);
    assert_eq!(ledger(day(), Some(started(noon(), short)), [2, 1]), []);
    assert_eq!(ledger(day(), None, [24, 23]), [("spacing", 6)]);
    // An earlier version did not say which schedule it had.
    assert_eq!(ledger(Line::new(Started, noon()), None, [1, 1]), []);
    assert_eq!(ledger(day(), Some(Line::new(Started, noon())), [1, 1]), []);
    // Nothing but an attempt tells it where a process outlives what is kept.
    let told = |line: Line<'static>| Line { interval_ms: Some(86_400_000), jitter_ms: Some(1_800_000), ..line };
    let alone = [heartbeat(noon(), 1), heartbeat(noon() + HOUR, 2)].concat().into_iter().map(|line| match line.kind {
        Attempted => told(line),
        _ => line,
    });
    assert_eq!(found(&chained(alone.collect())), [("spacing", 3)]);
}

#[test]
fn the_first_heartbeat_of_a_new_id_is_held_against_half_an_interval() {
    let ping = |id, at, vms| [attempt(at, Heartbeat, body(id, Heartbeat, vms)), end(Sent, at, Heartbeat, None)];
    let new_ids = [
        vec![because(IdRotated, noon() + HOUR, "expired")],
        vec![Line::new(IdReset, noon() + HOUR)],
        vec![because(ConsentChanged, noon(), "pulse"), because(ConsentChanged, noon() + HOUR, "on")],
        vec![
            because(ConsentChanged, noon(), "switch"),
            because(ConsentChanged, noon() + HOUR, "on"),
            because(IdRotated, noon() + HOUR * 2, "none"),
        ],
        vec![Line::new(IdReset, noon() + HOUR), because(IdRotated, noon() + HOUR * 2, "unused")],
    ];
    for new_id in new_ids {
        for (hours, expected) in [(13, None), (36, None), (12, Some("spacing")), (2, Some("spacing"))] {
            let first = [&[started(noon(), SCHEDULE)][..], &ping(1, noon(), 1), &new_id].concat();
            let ledger = chained([&first[..], &ping(2, noon() + HOUR * hours, 2)].concat());
            let found: Vec<_> = found(&ledger).into_iter().map(|(check, _)| check).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{:?} and {hours} h", new_id[0].kind);
        }
    }
}

#[test]
fn a_time_in_the_future_is_found_unless_the_clock_was_set_right_since() {
    const NONE: [u64; 0] = [];
    let ahead = |at| Line { at, ..because(ConsentChanged, noon(), "on") };
    let year = noon() + DAY * 365;
    let audited = |lines: Vec<Line<'static>>, now| {
        let mut audit = Audit::new(now, None);
        let ledger = chained(lines);
        split(&ledger).iter().for_each(|line| audit.take(Piece::Line(line.strip_suffix(b"\n").unwrap())));
        let report = audit.finish();
        let times = report.checks.iter().find(|check| check.name == "times").unwrap();
        times.findings.iter().map(|finding| finding.line).collect::<Vec<_>>()
    };
    assert_eq!(audited(vec![Line::new(Started, noon()), ahead(year)], noon()), [2]);
    assert_eq!(audited(vec![Line::new(Started, noon()), ahead(noon() + MINUTE * 2)], noon()), [2]);
    assert_eq!(audited(vec![Line::new(Started, year), ahead(year), ahead(year)], noon()), [1], "the first one is told");
    assert_eq!(audited(vec![ahead(year), ahead(noon())], noon()), [1], "nothing says why the clock went back");
    for set_right in [ClockStepped, Started] {
        assert_eq!(audited(vec![ahead(year), Line::new(set_right, noon())], noon()), NONE);
    }
    assert_eq!(audited(vec![Line::new(Started, noon()), ahead(noon() + MINUTE)], noon()), NONE);
    assert_eq!(audited(vec![Line::new(Started, noon()), ahead(year)], year), NONE);
}

#[test]
fn a_hash_that_was_written_down_shows_a_cut_and_a_rewrite() {
    let whole = chained(life(12));
    let lines = split(&whole);
    let with = |ledger: &[Vec<u8>], hash: &str| {
        let mut audit = Audit::new(noon() + DAY * 30, Some(hash.parse().unwrap()));
        ledger.iter().for_each(|line| audit.take(Piece::Line(line.strip_suffix(b"\n").unwrap())));
        audit.finish()
    };
    let newest = |ledger: &[Vec<u8>]| audit(&ledger.concat()).newest.unwrap();
    let (seq, hash) = newest(&lines[..10]);
    assert_eq!((seq, &hash), (10, &sha256(lines[9].strip_suffix(b"\n").unwrap())));
    let text = audit(&whole).to_text();
    assert!(text.contains(&format!("The newest line is entry {}, and its hash {}", lines.len(), newest(&lines).1)));

    let report = with(&lines, &hash);
    assert!(report.is_clean() && report.to_text().contains("is that of entry 10"), "{}", report.to_text());
    assert!(with(&lines, &hash.to_uppercase()).is_clean());
    // Cut off at the end, which the chain alone does not show.
    assert!(audit(&lines[..9].concat()).is_clean());
    assert!(!with(&lines[..9], &hash).is_clean());
    // Written anew, each line following from the one before.
    let mut forged = entries(&whole);
    forged[4].at += MINUTE;
    let forged = chained(forged);
    assert!(audit(&forged).is_clean() && !with(&split(&forged), &hash).is_clean());
    assert!(!with(&[], &hash).is_clean(), "nothing is left at all");
    // What was pruned is told by its hash.
    let pruned = Line { through: Some(7), last: Some(hash.clone()), ..Line::new(Pruned, noon()) };
    let ledger = chained_behind(7, hash.clone(), vec![Line::new(Started, noon()), pruned]);
    assert!(with(&split(&ledger), &hash).is_clean());

    for wrong in ["", "abc", &hash[1..], &format!("{hash}0"), &hash.replace(&hash[..1], "g")] {
        assert!(wrong.parse::<LineHash>().is_err(), "{wrong}");
    }
}

#[test]
fn an_erasure_is_told_as_what_an_entry_says() {
    let ledger = chained_behind(7, "1".repeat(64), vec![Line::new(Erased, noon()), Line::new(Started, noon())]);
    let text = audit(&ledger).to_text();
    assert!(text.contains("an entry says that the history before was erased on request"), "{text}");
}

#[test]
fn what_a_wrong_clock_or_an_expired_id_excuses_is_no_finding() {
    let then = noon() + HOUR;
    let excuses = [
        Line::new(ClockStepped, then),
        end(Failed, then, Heartbeat, Some("id_expired")),
        end(Failed, then, Heartbeat, Some("storage")),
        because(ConsentChanged, then, "on"),
        because(IdRotated, then, "none"),
        // A clock that was wrong until the start.
        Line::new(Started, noon() - DAY * 9),
    ];
    for excuse in excuses {
        let first =
            [attempt(noon(), Heartbeat, body(1, Heartbeat, 1)), end(Failed, noon(), Heartbeat, Some("refused"))];
        let second = attempt(then, Heartbeat, body(2, Heartbeat, 2));
        let what = excuse.kind;
        assert_eq!(found(&chained([&first[..], &[excuse], &[second]].concat())), [], "{what:?}");
    }
}

#[test]
fn an_attempt_that_nothing_closed_is_found_unless_it_is_the_last() {
    let first = attempt(noon(), Heartbeat, body(1, Heartbeat, 1));
    let again = Line { at: noon() + HOUR, ..first.clone() };
    assert_eq!(found(&chained(vec![first.clone(), again.clone()])), [("attempts", 1)]);
    let closed = end(Failed, noon(), Heartbeat, Some("timed_out"));
    assert_eq!(found(&chained(vec![first.clone(), closed, again])), []);
    let sent = end(Sent, noon(), Heartbeat, None);
    assert_eq!(found(&chained(vec![sent.clone()])), [("attempts", 1)], "delivered without an attempt");
    let after_erasure = chained_behind(9, "1".repeat(64), vec![Line::new(Erased, noon()), sent.clone(), sent]);
    assert_eq!(found(&after_erasure), [], "the attempt was erased");
}

#[test]
fn an_attempt_while_telemetry_is_off_is_found() {
    let attempted = attempt(noon() + HOUR, Heartbeat, body(1, Heartbeat, 1));
    let after = |reason, more: &[Line<'static>]| {
        let off = because(ConsentChanged, noon(), reason);
        found(&chained([&[off][..], more, std::slice::from_ref(&attempted)].concat()))
    };
    for reason in ["switch", "pulse", "do_not_track"] {
        assert_eq!(after(reason, &[]), [("consent", 2)]);
        assert_eq!(after(reason, &[because(ConsentChanged, noon(), "on")]), []);
    }
    let restart = [Line::new(Stopped, noon()), Line::new(Started, noon())];
    assert_eq!(after("switch", &restart), [("consent", 4)], "the switch outlives the process");
    assert_eq!(after("pulse", &restart), [], "Pulse's setting is looked at anew");
    assert_eq!(after("switch", &restart[1..]), [], "a crash may have been just after turning it on");
}

#[test]
fn many_findings_are_counted_and_the_first_ones_told() {
    let nonsense = b"nonsense\n".repeat(1000);
    let report = audit(&nonsense);
    assert_eq!(report.findings(), 1000);
    assert_eq!(report.checks[0].findings.len(), 20);
    assert!(report.to_text().contains("and 980 more"));
}

/// What is done to one line.
#[derive(Clone, Debug)]
enum Harm {
    Flip { bit: u8, byte: prop::sample::Index },
    Remove,
    Swap,
    Repeat,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (0_u8..8, any::<prop::sample::Index>()).prop_map(|(bit, byte)| Harm::Flip { bit, byte }),
        1 => Just(Harm::Remove),
        1 => Just(Harm::Swap),
        1 => Just(Harm::Repeat),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// But for the very last line, which nothing follows.
    #[test]
    fn a_line_that_is_flipped_removed_swapped_or_repeated_is_always_found(
        days in 1_u32..15, at in any::<prop::sample::Index>(), harm in harm(),
    ) {
        let mut lines = split(&chained(life(days)));
        let at = at.index(lines.len() - 1);
        match harm {
            Harm::Flip { bit, byte } => {
                let byte = byte.index(lines[at].len());
                lines[at][byte] ^= 1 << bit;
            }
            Harm::Remove => drop(lines.remove(at)),
            Harm::Swap => lines.swap(at, at + 1),
            Harm::Repeat => lines.insert(at, lines[at].clone()),
        }
        let report = audit(&lines.concat());
        prop_assert!(!report.is_clean(), "line {}", at + 1);
        prop_assert!(report.findings() <= 4, "one damage, {} findings", report.findings());
    }

    #[test]
    fn no_bytes_make_the_audit_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let mut audit = Audit::new(noon(), None);
        for piece in &pieces {
            audit.take(Piece::Line(piece));
        }
        let _ = audit.finish().to_text();
    }
}

/// A line of a ledger with anything in it, or anything.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let lines = entries(&chained(life(12)));
    let numbers = prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()];
    let times = prop_oneof![Just(jiff::Timestamp::MIN), Just(jiff::Timestamp::MAX), Just(noon())];
    let line = (prop::sample::select(lines), numbers.clone(), numbers, times, prop::option::of(".{0,40}"));
    prop_oneof![
        line.prop_map(|(line, seq, through, at, body)| {
            let body = body.map_or(line.body, |body| Some(Cow::Owned(body)));
            let kind = if body.is_some() { Attempted } else { line.kind };
            serde_json::to_vec(&Line { seq, at, kind, body, through: Some(through), ..line }).unwrap()
        }),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}
