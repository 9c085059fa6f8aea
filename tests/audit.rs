//! The audit finds what is wrong with a ledger, and nothing where nothing is.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::borrow::Cow;

use jiff::SignedDuration;
use proptest::prelude::*;
use pulse_telemetry::audit::Audit;
use pulse_telemetry::engine::EntryKind::{
    Attempted, ClockStepped, ConsentChanged, Erased, Failed, IdReset, IdRotated, Pruned, Sent, Started, Stopped,
};
use pulse_telemetry::ping::Event::{Heartbeat, Startup};
use pulse_telemetry::store::{LINE_MAX, Line, Piece, sha256};
use support::history::{
    DAY, HOUR, SCHEDULE, attempt, audit, because, body, chained, chained_behind, end, entries, found, life, line, noon,
    split,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Something that happens to a line.
type Change = Box<dyn Fn(&mut Line<'static>)>;

#[test]
fn a_year_of_everything_that_may_happen_audits_clean_and_the_report_counts_it() {
    let report = audit(&chained(life(365)));
    assert!(report.is_clean(), "{}", report.to_text());
    let text = report.to_text();
    for said in ["lines: each follows", "402 bodies", "73 IDs", "364 heartbeats at least 23h 30m apart", "1 startups"] {
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
        let whole = Line { through: Some(through), last: Some(last.to_owned()), ..line(Pruned, noon()) };
        chained_behind(7, prev.clone(), vec![line(Started, noon()), whole])
    };
    assert_eq!(found(&pruned(7, &prev)), []);
    assert_eq!(found(&pruned(6, &prev)), [("chain", 1)]);
    assert_eq!(found(&pruned(7, &"2".repeat(64))), [("chain", 1)]);
    assert_eq!(found(&pruned(9, &prev)), [("chain", 2), ("chain", 1)], "it cannot have pruned itself");
    let says_nothing = chained(vec![line(Started, noon()), line(Pruned, noon())]);
    assert_eq!(found(&says_nothing), [("chain", 2)]);

    assert_eq!(found(&chained_behind(7, prev.clone(), vec![line(Erased, noon()), line(Started, noon())])), []);
    assert_eq!(found(&chained_behind(7, prev, vec![line(Started, noon())])), [("chain", 1)]);
    assert_eq!(found(&chained(vec![line(Started, noon()), line(Erased, noon())])), [("chain", 2)]);
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
    for between in [because(IdRotated, at, "expired"), line(IdReset, at), because(ConsentChanged, at, "pulse")] {
        let on_again = line(Started, at);
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
        found(&chained(vec![heartbeat(noon(), 1), sent(noon()), heartbeat(then, vms), sent(then)]))
    };
    for same_bytes in [true, false] {
        assert_eq!(apart(HOUR * 23 + MINUTE * 30, same_bytes), []);
        assert_eq!(apart(HOUR * 23 + MINUTE * 28, same_bytes), [("spacing", 3)]);
        assert_eq!(apart(SignedDuration::ZERO, same_bytes), [("spacing", 3)]);
    }

    let startup = |at, vms| attempt(at, Startup, body(1, Startup, vms));
    let startups = |distance| {
        let then = noon() + distance;
        let between = [end(Sent, noon(), Startup, None), line(Stopped, then), line(Started, then)];
        found(&chained([&[startup(noon(), 1)][..], &between, &[startup(then, 1)]].concat()))
    };
    assert_eq!(startups(HOUR), []);
    assert_eq!(startups(HOUR - MINUTE * 2), [("spacing", 5)]);

    let retry = end(Failed, noon(), Heartbeat, Some("server_error"));
    let then = noon() + MINUTE;
    assert_eq!(found(&chained(vec![heartbeat(noon(), 1), retry, heartbeat(then, 1)])), []);
    let crash = line(Started, then);
    assert_eq!(found(&chained(vec![heartbeat(noon(), 1), sent(noon()), crash, heartbeat(then, 1)])), []);
}

#[test]
fn what_a_wrong_clock_or_an_expired_id_excuses_is_no_finding() {
    let then = noon() + HOUR;
    let excuses = [
        line(ClockStepped, then),
        end(Failed, then, Heartbeat, Some("id_expired")),
        end(Failed, then, Heartbeat, Some("storage")),
        because(ConsentChanged, then, "on"),
        because(IdRotated, then, "none"),
        // A clock that was wrong until the start.
        line(Started, noon() - DAY * 9),
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
    let after_erasure = chained_behind(9, "1".repeat(64), vec![line(Erased, noon()), sent.clone(), sent]);
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
    let restart = [line(Stopped, noon()), line(Started, noon())];
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
        let mut audit = Audit::new(SCHEDULE);
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
