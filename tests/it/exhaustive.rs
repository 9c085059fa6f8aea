//! Everything that can happen to an installation in a few steps, over the engine and the state directory that ship.
//! `cargo xtask exhaust --depth N` goes deeper, and `make soak` does. Each kept mistake is found here but
//! `DeletionPutOff`: a few steps are too short for silence to be a fault, so the random years of `simulation` find it.
#![expect(clippy::expect_used, reason = "a test may fail loudly")]

use std::io::Write as _;

use pulse_telemetry_testkit::simulation::exhaustive::search;
use pulse_telemetry_testkit::simulation::rules::Rule;
use pulse_telemetry_testkit::simulation::saboteurs::{
    AskingTimeNotKept, AttemptBeforeItsEntry, BackoffNotKept, BodyBuiltAnewForRetry, CancelUnheard, DeletionsNotKept,
    DeletionsNotTakenUp, DeletionsTogether, DueTimeNotKept, FailureTakenForDeletion, FailureTakenForDelivery,
    ForgetsWithoutReset, Honest, IdKeptAfterReset, LedgerNotCompared, OffForgets, PendingKeptWhenOff,
    PhaseKeptOverReset, PulsesSettingReadOnce, ReceiptNotKept, ResetWithoutCancel, RetryAfterIgnored,
    RetryAfterKeptOverNewId, RotationForgotten, Saboteur, StartupTimeNotKept, SwitchNotWritten, UnknownTakenForZero,
};

/// `DEPTH` asks for more, as CI does where the tests are optimised.
#[expect(clippy::disallowed_methods, reason = "how deep is the environment's to say")]
fn depth() -> u32 {
    std::env::var("DEPTH").map_or(1, |depth| depth.parse().expect("a number"))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took belongs to the result")]
fn nothing_that_can_happen_in_a_few_steps_breaks_a_rule() {
    let begun = std::time::Instant::now();
    let searched = search::<Honest>(depth(), u64::MAX, threads()).unwrap_or_else(|found| panic!("{found}"));
    // The runner of the tests keeps what a test that passes prints, but not what it writes.
    let _ = writeln!(std::io::stderr(), "{searched} in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(!searched.is_cut && searched.states > 400, "{searched}");
}

/// An engine or a disk with that mistake breaks one of these rules within that many steps.
fn is_caught<S: Saboteur>(depth: u32, rules: &[Rule]) {
    let found = search::<S>(depth, u64::MAX, 1).expect_err("the mistake was not seen");
    assert!(rules.contains(&found.rule), "{found}");
}

#[test]
fn each_mistake_that_shows_within_two_steps_is_found_by_trying_everything() {
    is_caught::<LedgerNotCompared>(2, &[Rule::AcknowledgedIsKept]);
    is_caught::<IdKeptAfterReset>(1, &[Rule::ResetIsKept, Rule::AcknowledgedIsKept]);
    is_caught::<ResetWithoutCancel>(1, &[Rule::ResetIsKept]);
    is_caught::<BackoffNotKept>(1, &[Rule::RetriesBackOff]);
    is_caught::<PendingKeptWhenOff>(2, &[Rule::OffLeavesNothing]);
    is_caught::<SwitchNotWritten>(2, &[Rule::SwitchIsKept]);
    is_caught::<PhaseKeptOverReset>(2, &[Rule::NewIdHasItsOwnTime]);
    is_caught::<RetryAfterKeptOverNewId>(2, &[Rule::RetryAfterIsForgotten]);
    is_caught::<FailureTakenForDelivery>(1, &[Rule::LedgerTellsTheTruth]);
    is_caught::<DueTimeNotKept>(2, &[Rule::NewIdHasItsOwnTime]);
    is_caught::<StartupTimeNotKept>(2, &[Rule::StartupsKeepTheirDistance]);
}

#[test]
fn each_mistake_with_deletions_is_found_by_trying_everything_in_one_step() {
    is_caught::<OffForgets>(1, &[Rule::AskedOnRequest]);
    is_caught::<ForgetsWithoutReset>(1, &[Rule::ForgottenIsNotSent]);
    is_caught::<DeletionsNotKept>(1, &[Rule::DeletionIsNotLost]);
    is_caught::<DeletionsNotTakenUp>(1, &[Rule::DeletionIsNotLost]);
    is_caught::<CancelUnheard>(1, &[Rule::AskedOnRequest]);
    is_caught::<FailureTakenForDeletion>(1, &[Rule::LedgerTellsTheTruth]);
    is_caught::<AskingTimeNotKept>(1, &[Rule::GivenUpInTime]);
    is_caught::<ReceiptNotKept>(1, &[Rule::NotAskedAgain]);
    is_caught::<DeletionsTogether>(1, &[Rule::DeletionsAreApart]);
}

#[test]
#[ignore = "takes minutes where it is not optimised: make test-years"]
fn each_mistake_that_shows_within_three_steps_is_found_by_trying_everything() {
    is_caught::<RotationForgotten>(3, &[Rule::IdIsCurrent]);
    is_caught::<AttemptBeforeItsEntry>(3, &[Rule::RecordedBefore]);
    is_caught::<RetryAfterIgnored>(3, &[Rule::RetryAfterIsHonoured]);
    is_caught::<PulsesSettingReadOnce>(3, &[Rule::OffSendsNothing, Rule::OffLeavesNothing, Rule::UnknownIsNotSent]);
    is_caught::<UnknownTakenForZero>(3, &[Rule::UnknownIsNotSent]);
    is_caught::<BodyBuiltAnewForRetry>(3, &[Rule::BytesAreTheBytesBuilt]);
}
