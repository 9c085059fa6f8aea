//! Engine and state directory through thousands of years of faults: see the testkit's `simulation`. CI runs 10,000
//! installation-years (`YEARS=10000`), `make soak` a million by `cargo xtask simulate`, which is the same simulation as
//! a command.
#![expect(clippy::expect_used, reason = "a test may fail loudly")]

use pulse_telemetry_testkit::simulation::rules::Rule;
use pulse_telemetry_testkit::simulation::saboteurs::{
    AskingTimeNotKept, AttemptBeforeItsEntry, BackoffNotKept, BodyBuiltAnewForRetry, CancelUnheard, DeletionPutOff,
    DeletionsNotKept, DeletionsNotTakenUp, DeletionsTogether, DueTimeNotKept, FailureTakenForDeletion,
    FailureTakenForDelivery, ForgetsWithoutReset, Honest, IdKeptAfterReset, LedgerNotCompared, OffForgets,
    PendingKeptWhenOff, PhaseKeptOverReset, PulsesSettingReadOnce, ReceiptNotKept, ResetWithoutCancel,
    RetryAfterIgnored, RetryAfterKeptOverNewId, RotationForgotten, Saboteur, StartupTimeNotKept, SwitchNotWritten,
    UnknownTakenForZero,
};
use pulse_telemetry_testkit::simulation::{simulate, simulate_in_threads};

/// The same in every run; another one by `SEED`.
const SEED: u64 = 20_261_123;

#[expect(clippy::disallowed_methods, reason = "how long is the environment's to say")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

#[test]
fn no_rule_is_broken_in_installation_years_of_faults() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let simulated = simulate_in_threads::<Honest>(number("SEED", SEED), 0, number("YEARS", 16), threads);
    let tally = simulated.unwrap_or_else(|broken| panic!("{broken}"));
    println!("{tally}");
    assert!(tally.kinds() >= 12, "only {} kinds of fault", tally.kinds());
}

/// An engine with that mistake breaks one of these rules soon.
fn is_caught<S: Saboteur>(rules: &[Rule]) {
    is_caught_from::<S>(0, rules);
}

/// The same from that installation on: those before it do not show the mistake, and take their time.
fn is_caught_from<S: Saboteur>(first: u64, rules: &[Rule]) {
    let broken = simulate::<S>(SEED, first, 2000).expect_err("the mistake was not seen");
    assert!(rules.contains(&broken.rule), "{broken}");
    let told = broken.to_string();
    let replay = format!("--seed {SEED} --installation {} --years {} --trace", broken.installation, broken.years);
    assert!(told.contains(&replay) && told.contains("what happened last:\n  day "), "{told}");
}

#[test]
fn an_open_ledger_that_is_not_compared_with_its_name_is_caught() {
    is_caught::<LedgerNotCompared>(&[Rule::AcknowledgedIsKept]);
}

#[test]
fn a_rotation_that_is_forgotten_is_caught() {
    is_caught::<RotationForgotten>(&[Rule::IdIsCurrent]);
}

#[test]
fn an_id_that_is_used_after_its_reset_is_caught() {
    is_caught::<IdKeptAfterReset>(&[Rule::ResetIsKept, Rule::IdIsCurrent]);
}

#[test]
fn a_reset_that_leaves_a_send_under_way_is_caught() {
    is_caught_from::<ResetWithoutCancel>(18, &[Rule::ResetIsKept]);
}

#[test]
fn a_due_time_that_is_not_kept_is_caught() {
    is_caught::<DueTimeNotKept>(&[Rule::NotPostponed, Rule::HeartbeatsKeepTheirDistance, Rule::NewIdHasItsOwnTime]);
}

#[test]
fn a_startup_time_that_is_not_kept_is_caught() {
    is_caught::<StartupTimeNotKept>(&[Rule::StartupsKeepTheirDistance]);
}

#[test]
fn a_crash_loop_that_hammers_is_caught() {
    is_caught::<BackoffNotKept>(&[Rule::RetriesBackOff]);
}

#[test]
fn a_pending_ping_that_is_kept_when_off_is_caught() {
    is_caught::<PendingKeptWhenOff>(&[Rule::OffLeavesNothing]);
}

#[test]
fn a_switch_that_is_not_written_is_caught() {
    is_caught::<SwitchNotWritten>(&[Rule::SwitchIsKept]);
}

#[test]
fn an_attempt_before_its_entry_is_caught() {
    is_caught::<AttemptBeforeItsEntry>(&[Rule::RecordedBefore]);
}

#[test]
fn a_retry_after_that_is_ignored_is_caught() {
    is_caught::<RetryAfterIgnored>(&[Rule::RetryAfterIsHonoured]);
}

#[test]
fn a_heartbeat_at_the_old_ids_time_after_a_reset_is_caught() {
    is_caught::<PhaseKeptOverReset>(&[Rule::NewIdHasItsOwnTime]);
}

#[test]
fn a_retry_after_that_outlives_its_id_is_caught() {
    is_caught::<RetryAfterKeptOverNewId>(&[Rule::RetryAfterIsForgotten]);
}

#[test]
fn a_failure_taken_for_a_delivery_is_caught() {
    is_caught::<FailureTakenForDelivery>(&[Rule::LedgerTellsTheTruth]);
}

#[test]
fn an_opt_out_in_pulse_that_is_read_once_is_caught() {
    is_caught::<PulsesSettingReadOnce>(&[Rule::OffSendsNothing, Rule::OffLeavesNothing, Rule::UnknownIsNotSent]);
}

#[test]
fn an_unknown_count_taken_for_zero_is_caught() {
    is_caught::<UnknownTakenForZero>(&[Rule::UnknownIsNotSent]);
}

#[test]
fn a_retry_with_other_bytes_is_caught() {
    is_caught::<BodyBuiltAnewForRetry>(&[Rule::BytesAreTheBytesBuilt]);
}

#[test]
fn a_deletion_that_nobody_asked_for_is_caught() {
    is_caught::<OffForgets>(&[Rule::AskedOnRequest]);
}

#[test]
fn a_deletion_that_goes_on_after_it_was_cancelled_is_caught() {
    is_caught_from::<CancelUnheard>(48, &[Rule::AskedOnRequest]);
}

#[test]
fn the_deletion_of_an_id_that_stays_in_use_is_caught() {
    is_caught::<ForgetsWithoutReset>(&[Rule::ForgottenIsNotSent]);
}

#[test]
fn a_deletion_that_is_lost_is_caught() {
    is_caught::<DeletionsNotKept>(&[Rule::DeletionIsNotLost]);
    is_caught::<DeletionsNotTakenUp>(&[Rule::DeletionIsNotLost, Rule::ForgottenIsNotSent]);
}

#[test]
fn a_deletion_that_is_asked_for_again_after_its_receipt_is_caught() {
    is_caught::<ReceiptNotKept>(&[Rule::NotAskedAgain]);
}

#[test]
fn deletions_that_are_asked_for_together_are_caught() {
    is_caught::<DeletionsTogether>(&[Rule::DeletionsAreApart]);
}

#[test]
fn a_failure_taken_for_a_deletion_is_caught() {
    is_caught::<FailureTakenForDeletion>(&[Rule::LedgerTellsTheTruth]);
}

#[test]
fn a_deletion_that_is_never_given_up_is_caught() {
    is_caught_from::<AskingTimeNotKept>(247, &[Rule::GivenUpInTime]);
}

#[test]
fn a_deletion_that_is_never_made_is_caught() {
    is_caught::<DeletionPutOff>(&[Rule::DeletionsGoOn]);
}

#[test]
fn the_documented_figures_of_what_can_be_linked_are_those_of_the_simulation() {
    let document = include_str!("../../docs/PRIVACY.md");
    let table = document.split("<!-- linkage: printed by `make linkage` -->\n").nth(1).expect("the table");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let documented: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).map(cells).collect();
    let report = pulse_telemetry_testkit::linkage::report(&[2_000]);
    let computed: Vec<_> = report.lines().map(cells).collect();
    assert_eq!(documented.len(), 14);
    for (documented, computed) in documented.iter().zip(&computed).filter(|(line, _)| line[1] != "---") {
        assert_eq!(documented[..5], computed[..5]);
    }
}
