//! The deletion of what was sent, and the receipts, on the page.

use std::sync::Arc;

use pulse_telemetry_testkit::browser::{Browser, axe_or_skip, browser_or_skip};
use pulse_telemetry_testkit::pulse::{SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{FORGET_PATH, Receiver};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{Setup, exists};
use serde_json::{Value, json};

use super::{Tab, homelab};

const OFF: &str = "Telemetry is off now. No ping waits, and the ID file is gone.";

/// A tab of a daemon that has delivered a ping there, and the set-up.
fn open(browser: &Arc<Browser>, receiver: &Receiver) -> (Tab, Setup, SimulatedPulse) {
    let pulse = SimulatedPulse::start(homelab());
    let setup = Setup::new(&pulse.url(), &receiver.url()).with_token(TOKEN);
    let keys = setup.write("keys.json", &receiver.jwk_set());
    let setup = setup.with("PULSE_TELEMETRY_TELEMETRY__RECEIPT_KEYS_FILE", keys.to_str().unwrap());
    let tab = Tab::of(browser, &setup);
    tab.sidecar.wait_for_log("ping delivered");
    tab.refresh();
    (tab, setup, pulse)
}

#[test]
fn a_deletion_asks_first_says_what_it_does_and_the_history_has_its_receipt() {
    let test = "a_deletion_asks_first_says_what_it_does_and_the_history_has_its_receipt";
    let Some(browser) = browser_or_skip(test) else { return };
    let receiver = Receiver::start();
    let (tab, setup, _pulse) = open(&browser, &receiver);
    let before = tab.shown_id();
    assert!(tab.text("#state").contains("verified"), "the last ping's receipt: {}", tab.text("#state"));
    let history = "[...document.querySelectorAll('#entries details')].map((entry) => entry.textContent).join()";
    assert!(tab.eval(history).as_str().unwrap().contains("its receipt: verified"));
    tab.click("#forget");
    tab.wait_until("document.getElementById('forget-dialog').open");
    assert_eq!(tab.eval("document.activeElement.innerText"), json!("Leave it"));
    let dialog = tab.text("#forget-dialog");
    for said in ["without an ID", "pings go on under it", "random times of the next day", "turn telemetry off"] {
        assert!(dialog.contains(said), "{said}: {dialog}");
    }
    assert!(dialog.contains(&receiver.url()), "it names who is asked: {dialog}");
    tab.picture("forget");
    tab.click("#forget-dialog button[value=cancel]");
    tab.wait_until("!document.getElementById('forget-dialog').open");
    assert_eq!((receiver.asked(FORGET_PATH).len(), setup.id_on_disk()), (0, Some(before.clone())));

    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget]");
    tab.wait_for_word("The deletion is asked for. Pings go on under a new ID.");
    assert_ne!(tab.shown_id(), before);
    tab.until_shown("#entries", &format!("The endpoint says that it deleted what was sent under the ID {before}"));
    assert_eq!(receiver.forgotten_ids(), [before]);
    assert!(tab.text("#entries").contains("; its receipt: verified"));
    // What is pending may have been read for that page before the answer, and the history after it.
    tab.refresh();
    assert_eq!(tab.eval("document.getElementById('cancel-forget')"), Value::Null);
    tab.picture("forgotten");
    tab.check();
}

#[test]
fn a_deletion_that_waits_is_shown_and_cancelled_and_can_come_with_an_off() {
    let test = "a_deletion_that_waits_is_shown_and_cancelled_and_can_come_with_an_off";
    let Some(browser) = browser_or_skip(test) else { return };
    let receiver = Receiver::start();
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    let (tab, setup, _pulse) = open(&browser, &receiver);
    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget-off]");
    tab.wait_for_word(&format!("{OFF} The deletion is asked for."));
    assert!(!exists(&setup.id_file()));
    tab.until_shown("#state", "of 1 ID asked for and not over");
    tab.sidecar.wait_for_log("did not delete");
    tab.picture("forget-pending");
    tab.click("#cancel-forget");
    tab.wait_for_word("No deletion is asked for any more.");
    assert!(!tab.text("#state").contains("not over"));
    assert!(tab.text("#entries").contains("was not deleted: cancelled"));
    tab.check();
}

#[test]
fn an_off_that_comes_with_a_deletion_holds_also_where_the_deletion_cannot_be_asked_for() {
    let test = "an_off_that_comes_with_a_deletion_holds_also_where_the_deletion_cannot_be_asked_for";
    let Some(browser) = browser_or_skip(test) else { return };
    let receiver = Receiver::start();
    let (tab, setup, _pulse) = open(&browser, &receiver);
    // Another file stands in the history's place, which has no ID.
    std::fs::rename(setup.state("ledger.jsonl"), setup.path("away")).unwrap();
    std::fs::create_dir(setup.state("ledger.jsonl")).unwrap();
    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget-off]");
    let unreadable = "The history cannot be read, which knows the IDs that were sent. Look at the state directory.";
    let off = "Telemetry is off now. This could not be written, and would not outlive a restart; it is tried again.";
    tab.wait_for_word(&format!("{off} Asking for the deletion did not work: {unreadable}"));
    assert!(exists(&setup.state("off")));
    tab.until_shown("#state", "Telemetry is off");
    assert_eq!(receiver.asked(FORGET_PATH).len(), 0);
}

#[test]
fn an_off_that_comes_with_a_deletion_holds_also_where_a_proxy_never_answers_for_the_deletion() {
    let test = "an_off_that_comes_with_a_deletion_holds_also_where_a_proxy_never_answers_for_the_deletion";
    let Some(browser) = browser_or_skip(test) else { return };
    let receiver = Receiver::start();
    let (tab, setup, _pulse) = open(&browser, &receiver);
    tab.fetch_with_faults();
    tab.eval("window.silent = 'api/v1/forget'");
    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget-off]");
    tab.wait_for_word(OFF);
    assert!(exists(&setup.state("off")) && !exists(&setup.id_file()));
    // As if the longest time had passed that an answer is waited for.
    tab.eval("limits.get('api/v1/forget').abort(new DOMException('', 'TimeoutError'))");
    tab.wait_for_word(&format!("{OFF} Asking for the deletion did not work: no answer within 40 seconds"));
    assert_eq!(receiver.asked(FORGET_PATH).len(), 0);
}

#[test]
fn an_endpoint_that_offers_no_deletion_is_told_on_the_page() {
    let Some(browser) = browser_or_skip("an_endpoint_that_offers_no_deletion_is_told_on_the_page") else { return };
    let receiver = Receiver::start();
    receiver.answer("/v1/contract", ResponsePlan::status(404));
    let (tab, _setup, _pulse) = open(&browser, &receiver);
    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget]");
    tab.until_shown("#state", "The endpoint offers no deletion, and was sent no ID for one.");
    assert_eq!(receiver.asked(FORGET_PATH).len(), 0);
    tab.check();
}

#[test]
fn axe_finds_nothing_to_mend_in_the_question_the_waiting_and_the_receipts_of_deletions() {
    let test = "axe_finds_nothing_to_mend_in_the_question_the_waiting_and_the_receipts_of_deletions";
    let (Some(browser), Some(axe)) = (browser_or_skip(test), axe_or_skip(test)) else { return };
    let receiver = Receiver::start();
    let (tab, _setup, _pulse) = open(&browser, &receiver);
    let audit = |tab: &Tab, state: &str| {
        tab.eval("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
        for (dark, width, height) in [(false, 1200, 900), (true, 360, 740)] {
            tab.look_like(dark, width, height);
            tab.audit(&axe, state);
        }
    };
    tab.click("#forget");
    audit(&tab, "the question before a deletion");
    tab.click("#forget-dialog button[value=forget]");
    tab.until_shown("#entries", "The endpoint says that it deleted");
    audit(&tab, "a deletion is done");
    drop(tab);
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    let (tab, _setup, _pulse) = open(&browser, &receiver);
    tab.click("#forget");
    tab.click("#forget-dialog button[value=forget]");
    tab.until_shown("#state", "asked for and not over");
    audit(&tab, "a deletion waits");
}
