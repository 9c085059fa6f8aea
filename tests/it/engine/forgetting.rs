//! Deletions that were asked for: which, when, for how long, and what a crash or a failing disk makes of them.

mod giving_up;
mod unsent;

use std::time::Duration;

use jiff::SignedDuration;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{
    Action, DeletionEnd, DiskAction, Engine, Entry, EntryKind, ForgetAnswer, Input, KeptReceipt, Start, State,
};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::receipt::ReceiptStanding;
use pulse_telemetry_core::rng::Rng as _;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::seeded::Seeded;

use super::{DAY, HOUR, MINUTE, SCHEDULE, World, noon, some_id, status};

const WEEK: Duration = DAY.saturating_mul(7);

fn off() -> Sources {
    Sources { switched_off: true, ..Sources::default() }
}

/// Telemetry is off, and the endpoint answers that to each deletion; `None`: it never answers.
fn off_answering(answer: Option<ForgetAnswer>) -> World {
    let mut world = World::with(off(), State::default(), None, noon());
    world.forget_answer_otherwise = answer;
    world
}

fn old_ids(count: u64) -> Vec<InstallId> {
    (100..100 + count).map(|seed| InstallId::from(Seeded(seed).uuid())).collect()
}

fn failed() -> ForgetAnswer {
    ForgetAnswer::Failed { after: None }
}

fn receipt() -> KeptReceipt {
    KeptReceipt { standing: ReceiptStanding::Verified, text: Some("a.b.c".to_owned()) }
}

impl World {
    fn forget(&mut self, ids: &[InstallId]) {
        self.feed(Input::Forget { ids: ids.to_vec() });
    }

    fn asked_ids(&self) -> Vec<InstallId> {
        self.asked.iter().map(|(_, id)| id.clone()).collect()
    }

    fn entries(&self, kind: EntryKind) -> Vec<&Entry> {
        self.ledger.iter().map(|(_, entry)| entry).filter(|entry| entry.kind == kind).collect()
    }

    fn ids_of(&self, kind: EntryKind) -> Vec<InstallId> {
        self.entries(kind).iter().filter_map(|entry| entry.install_id.clone()).collect()
    }

    fn pending(&self) -> usize {
        self.engine.status(self.now).deletions.pending
    }
}

#[test]
fn the_current_id_is_replaced_first_and_deleted_at_once_and_older_ones_one_by_one_within_a_day() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 1);
    let old = old_ids(5);
    let current = some_id().install_id;
    let began = world.now.mono;
    world.forget(&[old.clone(), vec![current.clone()]].concat());
    assert_eq!(world.asked_ids(), std::slice::from_ref(&current), "at once");
    assert_ne!(world.identity.as_ref().unwrap().install_id, current, "under a new ID pings go on");
    let list: Vec<_> = world.ledger.iter().map(|(_, entry)| entry.kind).collect();
    let reset = list.iter().position(|kind| *kind == EntryKind::IdReset).unwrap();
    let asked = list.iter().position(|kind| *kind == EntryKind::ForgetAsked).unwrap();
    assert!(reset < asked, "{list:?}");
    world.run_for(DAY + HOUR);
    let mut asked = world.asked_ids();
    asked.sort();
    let mut all = [old, vec![current]].concat();
    all.sort();
    assert_eq!(asked, all, "each once");
    let times: Vec<_> = world.asked.iter().map(|(at, _)| at.mono - began).collect();
    assert!(times.is_sorted() && times.iter().skip(1).all(|at| (MINUTE..DAY).contains(at)), "{times:?}");
    assert!(times.windows(2).all(|two| two[1] - two[0] >= MINUTE), "{times:?}");
    assert_eq!((world.pending(), world.state.deletions.len()), (0, 0));
    let mut forgotten = world.ids_of(EntryKind::Forgotten);
    forgotten.sort();
    assert_eq!(forgotten, all);
    world.run_for(WEEK * 2);
    assert_eq!(world.asked.len(), 6, "and never again");
}

#[test]
fn nothing_is_asked_of_the_endpoint_before_the_command_and_off_stays_off_after_it() {
    let mut world = World::with(off(), State::default(), None, noon());
    world.run_for(WEEK);
    assert_eq!((world.asked.len(), world.sent.len(), world.reads), (0, 0, 0));
    let ids = old_ids(3);
    world.forget(&ids);
    assert_eq!(world.asked.len(), 0, "while telemetry is off all are of earlier IDs");
    world.run_for(DAY + HOUR);
    assert_eq!(world.asked.len(), 3);
    assert_eq!((world.sent.len(), world.reads, world.identity.is_none()), (0, 0, true), "and nothing else");
    world.forget(&ids[..1]);
    assert_eq!(world.asked.len(), 4, "a single one cannot be linked to another");
    world.forget(&[]);
    assert_eq!((world.pending(), world.asked.len()), (0, 4));
}

#[test]
fn the_answer_is_in_the_ledger_with_its_receipt() {
    let mut world = World::with(off(), State::default(), None, noon());
    world.forget_answers = [Some(ForgetAnswer::Done(receipt()))].into();
    let ids = old_ids(1);
    world.forget(&ids);
    let [forgotten] = world.entries(EntryKind::Forgotten)[..] else { panic!("{:?}", world.ledger) };
    assert_eq!((&forgotten.receipt, &forgotten.install_id), (&Some(receipt()), &Some(ids[0].clone())));
    assert_eq!(world.ids_of(EntryKind::ForgetAsked), ids);
}

#[test]
fn a_receipt_that_is_missing_or_false_changes_nothing_but_the_entry() {
    for standing in [ReceiptStanding::Missing, ReceiptStanding::False] {
        let mut world = World::with(off(), State::default(), None, noon());
        let kept = KeptReceipt { standing, text: None };
        world.forget_answer_otherwise = Some(ForgetAnswer::Done(kept.clone()));
        world.forget(&old_ids(1));
        world.run_for(WEEK * 2);
        assert_eq!((world.asked.len(), world.pending()), (1, 0));
        assert_eq!(world.entries(EntryKind::Forgotten)[0].receipt, Some(kept));
    }
    let times = |receipt: KeptReceipt| {
        let mut world = World::new();
        world.answer_otherwise = None;
        let mut times = Vec::new();
        for _ in 0..20 {
            world.run_for(DAY / 2);
            let was_sent = !world.sent.is_empty();
            times.extend(std::mem::take(&mut world.sent).into_iter().map(|sent| sent.at.mono));
            if was_sent {
                world.feed(Input::Answer(status(204), receipt.clone()));
            }
        }
        times
    };
    let given = times(receipt());
    assert!(given.len() > 5);
    for standing in [ReceiptStanding::Missing, ReceiptStanding::False, ReceiptStanding::Unverified] {
        assert_eq!(times(KeptReceipt { standing, text: None }), given);
    }
}

#[test]
fn an_endpoint_that_offers_no_deletions_is_asked_once_for_all_of_them() {
    let mut world = off_answering(Some(ForgetAnswer::NotOffered));
    let ids = old_ids(4);
    world.forget(&ids);
    world.run_for(WEEK * 2);
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.reasons(EntryKind::ForgetFailed), ["not_offered"; 4]);
    let deletions = world.engine.status(world.now).deletions;
    assert_eq!((deletions.pending, deletions.next, deletions.not_offered), (0, None, true));
    world.forget(&ids);
    assert!(!world.engine.status(world.now).deletions.not_offered, "until somebody asks again");
    assert_eq!(world.pending(), 4);
}

#[test]
fn an_endpoint_without_a_contract_offers_none_is_asked_again_for_a_day_and_then_no_more() {
    let mut world = off_answering(Some(ForgetAnswer::NoContract));
    world.forget(&old_ids(1));
    let deletions = world.engine.status(world.now).deletions;
    assert_eq!((world.asked.len(), deletions.pending, deletions.not_offered), (1, 1, true), "told at once");
    assert!(deletions.next.unwrap() >= world.now.wall + SignedDuration::from_hours(3));
    world.run_for(DAY - MINUTE);
    assert!((6..=8).contains(&world.asked.len()), "{}", world.asked.len());
    assert_eq!(world.pending(), 1);
    world.run_for(HOUR * 4);
    assert_eq!((world.pending(), world.reasons(EntryKind::ForgetFailed)), (0, vec!["not_offered"]));
    assert!(world.engine.status(world.now).deletions.not_offered);
    let last = world.asked.len();
    world.run_for(WEEK);
    assert_eq!(world.asked.len(), last);
}

#[test]
fn a_contract_that_is_away_for_a_moment_ends_no_deletion() {
    let mut world = World::with(off(), State::default(), None, noon());
    let away = || Some(ForgetAnswer::NoContract);
    world.forget_answers = [away(), Some(failed()), away()].into();
    world.forget_answer_otherwise = Some(failed());
    world.forget(&old_ids(1));
    world.run_for(DAY * 2);
    assert_eq!((world.pending(), world.engine.status(world.now).deletions.not_offered), (1, false));
    // Long after the first time, and only now again.
    world.forget_answers = [away()].into();
    world.run_for(HOUR * 6);
    assert_eq!(world.pending(), 1);
    world.forget_answer_otherwise = Some(ForgetAnswer::Done(receipt()));
    world.run_for(HOUR * 2);
    assert_eq!((world.pending(), world.entries(EntryKind::Forgotten).len()), (0, 1));
}

#[test]
fn an_id_that_comes_back_as_a_file_after_its_deletion_was_asked_for_is_not_sent_again() {
    let start = || Start { identity: Some(some_id()), identity_is_ours: true, ..Start::default() };
    let actions = |start| Engine::start(SCHEDULE, start, Seeded(3), super::Now { wall: noon(), mono: HOUR }).1;
    let is_deleted = |actions: Vec<Action>| actions.contains(&Action::Disk(DiskAction::DeleteId));
    assert!(is_deleted(actions(Start { identity_is_forgotten: true, ..start() })));
    assert!(!is_deleted(actions(start())));
}

#[test]
fn the_endpoint_is_not_asked_before_the_time_it_gave() {
    let mut world = World::with(off(), State::default(), None, noon());
    let busy = ForgetAnswer::Failed { after: Some(HOUR * 5) };
    world.forget_answers = [Some(busy)].into();
    world.forget(&old_ids(1));
    world.run_for(HOUR * 5);
    assert_eq!(world.asked.len(), 1);
    world.run_for(HOUR);
    assert_eq!((world.asked.len(), world.pending()), (2, 0));
}

#[test]
fn what_waited_together_is_not_asked_together() {
    for how in ["a restart", "a suspend", "a disk that failed"] {
        let mut world = World::with(off(), State::default(), None, noon());
        world.forget(&old_ids(8));
        world.disk_works = how != "a disk that failed";
        world.pass(DAY * 2);
        if how == "a restart" {
            world.crash_and_start();
        }
        world.feed(Input::Tick);
        world.disk_works = true;
        let began = world.now.mono;
        world.run_for(HOUR * 20);
        let times: Vec<_> = world.asked.iter().map(|(at, _)| at.mono - began).collect();
        assert_eq!(times.len(), 8, "{how}: {times:?}");
        assert!(times.windows(2).all(|two| two[1] - two[0] >= MINUTE), "{how}: {times:?}");
    }
}

#[test]
fn a_deletion_that_went_later_than_it_was_meant_to_keeps_the_next_one_away_all_the_same() {
    for seed in 0..20 {
        let mut world = off_answering(None);
        world.lives = seed;
        world.crash_and_start();
        world.forget(&old_ids(500));
        while world.asked.is_empty() {
            world.pass(MINUTE);
            world.feed(Input::Tick);
        }
        // The disk hung, and so did the endpoint.
        world.pass(Duration::from_secs(50));
        let answered_at = world.now.mono;
        let (_, first) = world.asked[0].clone();
        world.forget_answer_otherwise = Some(failed());
        world.feed(Input::ForgetAnswer { id: first, answer: failed() });
        while world.asked_ids().iter().all(|id| *id == world.asked[0].1) {
            world.wake_up();
        }
        assert!(world.asked.last().unwrap().0.mono >= answered_at + MINUTE, "seed {seed}");
    }
}

#[test]
fn the_current_id_is_not_deleted_right_after_another_one() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.run_for(HOUR);
    world.forget_answer_otherwise = Some(failed());
    world.forget(&[]);
    world.run_for(DAY * 2);
    let current = world.sent.last().unwrap().id();
    assert!(current != some_id().install_id && world.pending() == 1, "a ping went with the new ID");
    let before = world.asked.len();
    while world.asked.len() == before {
        world.wake_up();
    }
    let asked_at = world.now.mono;
    world.forget(&[]);
    assert!(world.asked_ids()[before..].iter().all(|id| *id == some_id().install_id));
    world.run_for(HOUR);
    let current_at = world.asked.iter().find(|(_, id)| *id == current).unwrap().0.mono;
    assert!(current_at >= asked_at + MINUTE);
}

#[test]
fn a_ping_whose_answer_did_not_come_may_arrive_before_its_id_is_deleted() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.answers = [None].into();
    world.run_for(HOUR);
    assert_eq!((world.sent.len(), world.cancels), (1, 0));
    world.forget(&[]);
    assert_eq!((world.cancels, world.asked.len()), (1, 0), "the send under way ends first");
    world.run_for(MINUTE * 2);
    assert_eq!(world.asked_ids(), [some_id().install_id]);
}

#[test]
fn a_ping_that_an_opt_out_or_a_reset_cut_off_may_arrive_before_its_id_is_deleted() {
    let (off, on, reset) = (Input::Switch { off: true }, Input::Switch { off: false }, Input::Reset);
    let ways = [
        vec![off.clone()],
        vec![reset.clone()],
        vec![off.clone(), reset.clone()],
        vec![reset.clone(), off.clone()],
        vec![off.clone(), on.clone()],
        vec![off, on, reset],
    ];
    // It is under way when it is cut off; or it was lost just before.
    for is_under_way in [true, false] {
        for way in &ways {
            let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
            world.answers = [(!is_under_way).then_some(Answer::TimedOut)].into();
            while world.sent.is_empty() {
                world.pass(world.wake.saturating_sub(world.now.mono));
                world.feed(Input::Tick);
            }
            let began = world.now.mono;
            way.iter().for_each(|input| world.feed(input.clone()));
            world.forget(&[some_id().install_id]);
            world.run_for(HOUR);
            let told = format!("{way:?}, under way: {is_under_way}");
            assert_eq!(world.asked_ids(), [some_id().install_id], "{told}");
            let asked_after = world.asked[0].0.mono - began;
            assert!((MINUTE..MINUTE * 2).contains(&asked_after), "{told}: {asked_after:?}");
        }
    }
}

#[test]
fn a_ping_on_the_disk_may_arrive_right_after_a_start_and_one_that_was_answered_holds_nothing_back() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.answers = [None].into();
    world.run_for(HOUR);
    world.crash_and_start();
    world.feed(Input::Switch { off: true });
    world.forget(&[some_id().install_id]);
    assert_eq!(world.asked.len(), 0);
    world.run_for(MINUTE * 2);
    assert_eq!(world.asked_ids(), [some_id().install_id]);

    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    while world.sent.is_empty() {
        world.pass(world.wake.saturating_sub(world.now.mono));
        world.feed(Input::Tick);
    }
    world.feed(Input::Switch { off: true });
    world.forget(&[some_id().install_id]);
    assert_eq!(world.asked_ids(), [some_id().install_id], "at once");
}

#[test]
fn a_crash_loses_no_deletion_and_asks_for_none_again_that_is_done() {
    let mut world = off_answering(None);
    let ids = old_ids(3);
    world.forget(&ids);
    world.feed(Input::Tick);
    assert_eq!(world.state.deletions.len(), 3);
    for _ in 0..20 {
        world.crash_and_start();
        world.run_for(HOUR * 2);
    }
    assert_eq!(world.pending(), 3);
    // A crash right after the answer was saved, before it was recorded.
    let (_, id) = world.asked.last().cloned().unwrap();
    let actions =
        world.engine.handle(world.now, Input::ForgetAnswer { id: id.clone(), answer: ForgetAnswer::Done(receipt()) });
    let Some(Action::Disk(DiskAction::Save(state))) = actions.first() else { panic!("saved first: {actions:?}") };
    world.state = state.clone();
    let ended = world.state.deletions.iter().filter(|it| it.end == Some(DeletionEnd::Forgotten(receipt())));
    assert_eq!(ended.count(), 1);
    let before = world.asked.len();
    world.crash_and_start();
    assert_eq!(world.ids_of(EntryKind::Forgotten), std::slice::from_ref(&id), "recorded at the start");
    world.feed(Input::Tick);
    world.forget_answer_otherwise = Some(ForgetAnswer::Done(receipt()));
    world.feed(Input::Stop);
    world.crash_and_start();
    world.run_for(DAY * 2);
    assert!(world.asked[before..].iter().all(|(_, asked)| *asked != id));
    assert_eq!((world.pending(), world.state.deletions.len()), (0, 0));
    assert_eq!(world.entries(EntryKind::Forgotten).len(), 3);
    assert_eq!(world.entries(EntryKind::ForgetAsked).len(), 3, "one entry each, at the command");
}

#[test]
fn a_disk_that_fails_keeps_the_endpoint_from_being_asked_and_nothing_is_lost() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.run_for(HOUR);
    world.disk_works = false;
    let ids = old_ids(2);
    world.forget(&ids);
    world.run_for(DAY * 2);
    assert_eq!((world.asked.len(), world.sent.len()), (0, 1), "neither asked nor sent with the old ID");
    assert_eq!(world.pending(), 3);
    world.disk_works = true;
    world.run_for(DAY * 2);
    assert_eq!((world.asked.len(), world.pending()), (3, 0));
    assert_eq!(world.entries(EntryKind::ForgetAsked).len(), 3);
    assert!(world.sent.iter().skip(1).all(|sent| sent.id() != some_id().install_id));
}

#[test]
fn a_second_cancel_is_told_to_hold_only_once_the_disk_has_the_first_one() {
    let mut world = off_answering(Some(failed()));
    world.forget(&old_ids(2));
    world.disk_works = false;
    world.feed(Input::CancelForget);
    world.disk_works = true;
    world.feed(Input::CancelForget);
    assert_eq!((world.state.deletions.len(), world.state.pending_deletions()), (2, 0), "until the ledger tells");
    world.crash_and_start();
    world.run_for(DAY * 2);
    assert_eq!((world.pending(), world.reasons(EntryKind::ForgetFailed)), (0, vec!["cancelled"; 2]));
}

#[test]
fn one_of_two_that_were_cancelled_is_asked_for_again_before_the_ledger_tells_and_the_other_is_told() {
    let mut world = off_answering(Some(failed()));
    let ids = old_ids(2);
    world.forget(&ids);
    world.disk_works = false;
    world.feed(Input::CancelForget);
    world.forget(&ids[..1]);
    world.disk_works = true;
    world.run_for(DAY);
    assert_eq!((world.pending(), world.state.deletions[0].install_id.clone()), (1, ids[0].clone()));
    assert_eq!(world.ids_of(EntryKind::ForgetFailed), ids[1..]);
}

#[test]
fn a_receipt_that_could_not_be_written_is_written_later_and_not_asked_for_again() {
    let mut world = off_answering(None);
    let ids = old_ids(1);
    world.forget(&ids);
    world.disk_works = false;
    world.feed(Input::ForgetAnswer { id: ids[0].clone(), answer: ForgetAnswer::Done(receipt()) });
    world.run_for(HOUR);
    assert_eq!(world.entries(EntryKind::Forgotten).len(), 0);
    world.disk_works = true;
    world.run_for(HOUR * 2);
    assert_eq!(world.entries(EntryKind::Forgotten).len(), 1);
    assert_eq!((world.asked.len(), world.pending(), world.state.deletions.len()), (1, 0, 0));
}

#[test]
fn an_id_whose_deletion_was_asked_for_is_not_sent_again_even_where_the_reset_was_not_written() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.run_for(HOUR);
    world.forget_answer_otherwise = None;
    world.forget(&[]);
    // Of the list only the state got onto the disk.
    world.identity = Some(some_id());
    world.crash_and_start();
    assert_eq!(world.identity, None);
    world.run_for(DAY * 4);
    assert!(world.sent.len() > 2);
    assert!(world.sent.iter().skip(1).all(|sent| sent.id() != some_id().install_id));
}

#[test]
fn asking_again_adds_what_is_new_and_leaves_what_is_pending() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.forget_answer_otherwise = None;
    world.run_for(HOUR);
    let ids = old_ids(2);
    world.forget(&ids);
    let due: Vec<_> = world.state.deletions.iter().map(|deletion| deletion.not_before).collect();
    let second = world.identity.clone().unwrap().install_id;
    world.run_for(DAY * 2);
    assert!(world.sent.iter().any(|sent| sent.id() == second), "a ping went with the new ID");
    world.forget(&[ids.clone(), vec![some_id().install_id]].concat());
    assert_eq!(world.pending(), 4);
    assert_eq!(world.entries(EntryKind::ForgetAsked).len(), 4);
    assert_eq!(world.state.deletions.iter().filter(|it| due.contains(&it.not_before)).count(), 3);
}

#[test]
fn cancelling_ends_all_and_closes_the_connection() {
    let mut world = off_answering(None);
    let ids = old_ids(1);
    world.forget(&ids);
    world.forget(&old_ids(3));
    assert_eq!((world.asked.len(), world.pending()), (1, 3));
    world.feed(Input::CancelForget);
    assert_eq!((world.forget_cancels, world.pending()), (1, 0));
    world.feed(Input::ForgetAnswer { id: ids[0].clone(), answer: ForgetAnswer::Done(receipt()) });
    world.run_for(DAY * 2);
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.reasons(EntryKind::ForgetFailed), ["cancelled"; 3]);
    assert_eq!((world.entries(EntryKind::Forgotten).len(), world.state.deletions.len()), (0, 0));
    world.feed(Input::CancelForget);
    assert_eq!(world.forget_cancels, 1);
    world.forget(&ids);
    assert_eq!(world.pending(), 1, "and may be asked for again");
}

#[test]
fn turning_telemetry_off_and_on_leaves_a_deletion_as_it_is() {
    let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
    world.forget_answer_otherwise = None;
    world.run_for(HOUR);
    world.forget(&[]);
    world.run_for(MINUTE);
    let before = world.state.deletions.clone();
    world.feed(Input::Switch { off: true });
    world.feed(Input::Switch { off: false });
    world.feed(Input::Reset);
    assert_eq!((&world.state.deletions, world.forget_cancels), (&before, 0));
    world.feed(Input::ForgetAnswer { id: some_id().install_id, answer: ForgetAnswer::Done(receipt()) });
    world.run_for(MINUTE);
    assert_eq!((world.pending(), world.entries(EntryKind::Forgotten).len()), (0, 1));
}

#[test]
fn stopping_closes_the_connection_and_the_next_start_goes_on() {
    let mut world = off_answering(None);
    world.forget(&old_ids(1));
    world.feed(Input::Stop);
    assert_eq!(world.forget_cancels, 1);
    world.crash_and_start();
    world.run_for(HOUR);
    assert_eq!((world.asked.len(), world.pending()), (2, 1));
}

#[test]
fn nothing_is_deleted_while_the_clock_cannot_be_right_and_nothing_is_given_up_for_it() {
    let mut world = off_answering(Some(failed()));
    world.forget(&old_ids(2));
    let at_rest = world.asked.len();
    // The machine boots without a battery.
    world.step_clock(-SignedDuration::from_hours(24 * 365 * 50).as_secs());
    world.crash_and_start();
    world.run_for(HOUR * 20);
    assert_eq!((world.asked.len(), world.pending()), (at_rest, 2));
    let set = noon() + SignedDuration::from_hours(26);
    world.now.wall = set;
    world.feed(Input::Tick);
    world.run_for(HOUR * 3);
    assert!(world.asked.len() > at_rest);
    assert_eq!(world.pending(), 2, "not seven days have passed");
    assert!(world.state.deletions.iter().all(|deletion| deletion.since >= set), "by the clock that is right");
}

#[test]
fn an_id_is_one_in_whatever_spelling() {
    let loud = InstallId::parse(&some_id().install_id.as_str().to_uppercase()).unwrap();
    let identity = Identity { install_id: loud.clone(), ..some_id() };
    let mut world = World::with(Sources::default(), State::default(), Some(identity.clone()), noon());
    world.run_for(HOUR);
    world.forget_answer_otherwise = None;
    world.forget(&[loud, some_id().install_id]);
    assert_eq!(world.asked_ids(), [some_id().install_id]);
    assert_eq!(world.pending(), 1);
    let start = Start { identity: Some(identity), state: world.state.clone(), ..Start::default() };
    let (_, actions) = Engine::start(SCHEDULE, start, Seeded(3), world.now);
    assert!(actions.contains(&Action::Disk(DiskAction::DeleteId)), "{actions:?}");
}
