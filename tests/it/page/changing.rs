//! Reset, switch and token.

use pulse_telemetry_testkit::browser::browser_or_skip;
use pulse_telemetry_testkit::sidecar::{LIMIT, exists};
use serde_json::{Value, json};

use super::{LOCAL_TOKEN, Tab, World, homelab, locked};

const ENTER: u32 = 13;
const ESCAPE: u32 = 27;

#[test]
fn a_reset_asks_first_and_then_the_page_shows_the_new_id() {
    let Some(browser) = browser_or_skip("a_reset_asks_first_and_then_the_page_shows_the_new_id") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    world.endpoint.wait_for_pings(1, LIMIT);
    tab.refresh();
    let before = tab.shown_id();
    // By keyboard alone, and with second thoughts.
    tab.eval("document.getElementById('reset').focus()");
    tab.press("Enter", ENTER);
    tab.wait_until("document.querySelector('dialog').open");
    assert_eq!(tab.eval("document.activeElement.innerText"), json!("Keep the ID"));
    assert!(tab.text("dialog").contains("Nothing in it tells of the old one"));
    tab.picture("reset");
    tab.press("Escape", ESCAPE);
    tab.wait_until("!document.querySelector('dialog').open");
    assert_eq!(tab.eval("document.activeElement.id"), json!("reset"));
    assert_eq!(world.setup.id_on_disk(), Some(before.clone()));

    tab.click("#reset");
    tab.click("dialog button[value=reset]");
    tab.wait_for_word("The ID is a new one now.");
    let after = tab.shown_id();
    assert_ne!(after, before);
    assert_eq!(world.setup.id_on_disk(), Some(after));
    assert_eq!(world.endpoint.pings().len(), 1, "a reset sends nothing");
    tab.check();
}

#[test]
fn switching_off_names_the_switch_and_the_preview_still_works() {
    let Some(browser) = browser_or_skip("switching_off_names_the_switch_and_the_preview_still_works") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    tab.click("#switch");
    tab.wait_for_word("Telemetry is off now. No ping waits, and the ID file is gone.");
    assert!(tab.text("#state").contains("Telemetry is off: the local switch"));
    assert!(tab.text("#state").contains("none is due"));
    assert!(!exists(&world.setup.id_file()) && exists(&world.setup.state("off")));
    let bytes = tab.sidecar.get("/api/v1/preview/bytes").text();
    assert_eq!(tab.eval("document.getElementById('bytes').textContent"), json!(bytes));
    tab.picture("off");
    tab.click("#switch");
    tab.wait_for_word("Telemetry is on now, with a new ID.");
    assert!(!tab.text("#state").contains("Telemetry is off"));
    assert!(!exists(&world.setup.state("off")));
    tab.check();
}

#[test]
fn whatever_the_page_does_says_so_where_the_connection_ends_before_an_answer() {
    let test = "whatever_the_page_does_says_so_where_the_connection_ends_before_an_answer";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    tab.fetch_with_faults();
    tab.eval("window.broken = 'api/'");
    for (does, said) in [
        ("turn(false)", "Turning telemetry off did not work: Failed to fetch"),
        ("turn(true)", "Turning telemetry on did not work: Failed to fetch"),
        ("reset()", "Replacing the ID did not work: Failed to fetch"),
        ("forget(false)", "Asking for the deletion did not work: Failed to fetch"),
        ("cancelForget()", "Ending the deletions did not work: Failed to fetch"),
    ] {
        tab.eval(does);
        assert_eq!(tab.text("#message"), said);
    }
    // An off that was done is told as one, also where the page cannot be fetched after it.
    let off = "Telemetry is off now. No ping waits, and the ID file is gone.";
    tab.eval("window.broken = './'");
    tab.click("#switch");
    tab.wait_for_word(&format!("{off} This page is not up to date: Failed to fetch"));
    assert!(exists(&world.setup.state("off")));
    tab.eval("window.broken = null");
    tab.refresh();
    assert_eq!(tab.text("#message"), off, "it is up to date again, and what was done stays told");
    tab.check();
}

#[test]
fn an_off_by_the_environment_is_explained_and_has_no_switch() {
    let Some(browser) = browser_or_skip("an_off_by_the_environment_is_explained_and_has_no_switch") else { return };
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_TELEMETRY", "nope");
    let tab = Tab::open(&browser, &world);
    let state = tab.text("#state");
    assert!(state.contains("Telemetry is off: PULSE_TELEMETRY in the sidecar's environment says so."), "{state}");
    assert!(state.contains("unset the variable and restart the sidecar"));
    assert_eq!(tab.eval("document.getElementById('switch')"), Value::Null);
    assert!(tab.text("#payload").contains("6.3.0"), "the preview still works");
    tab.picture("off-by-the-environment");
    tab.check();
}

#[test]
fn off_loopback_the_page_asks_for_the_token_and_keeps_it_for_the_tab_only() {
    let test = "off_loopback_the_page_asks_for_the_token_and_keeps_it_for_the_tab_only";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let sidecar = locked(&world).start();
    let port = sidecar.address().port();
    let page = browser.open();
    page.visit(&format!("http://127.0.0.1:{port}/"));
    assert!(page.text("main").contains("This page needs its token"));
    assert!(!page.text("body").contains("Telemetry is"));
    page.picture("token");
    let enter = |token: &str| {
        page.eval("document.getElementById('token').select()");
        page.type_text(token);
        page.press("Enter", ENTER);
    };
    enter("wrong");
    page.wait_until("document.getElementById('message').textContent.includes('does not accept this token')");
    assert_eq!(page.eval("sessionStorage.length"), json!(0));
    enter(LOCAL_TOKEN);
    page.wait_until("document.getElementById('switch')");
    page.click("#switch");
    page.wait_until("document.getElementById('message').textContent.startsWith('Telemetry is off now')");
    assert_eq!(page.eval("[sessionStorage.length, localStorage.length, document.cookie]"), json!([1, 0, ""]));
    // The tab has it after a reload, and another tab does not have it.
    page.visit(&format!("http://127.0.0.1:{port}/?before=3"));
    page.wait_until("document.getElementById('switch')");
    let other = page.beside();
    other.visit(&format!("http://127.0.0.1:{port}/"));
    assert!(other.text("main").contains("This page needs its token"));
    assert_eq!([page.complaints(), other.complaints()], [const { Vec::<String>::new() }; 2]);
}
