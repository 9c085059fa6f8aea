//! The page. The server writes it whole, so that it can be read without JavaScript.

mod events;
mod history;
mod html;
mod payload;
mod posture;
mod state;

use maud::{Markup, PreEscaped, html};

pub(super) use self::state::READ;
use crate::daemon::{NoPreview, PostureSeen, Preview};
use crate::events::EventsReport;
use crate::status::StatusReport;
use crate::store::HistoryPage;

const SHELL: &str = include_str!("page.html");
const REPORT: &str = include_str!("report.html");
const LOCKED: &str = include_str!("locked.html");

/// The style sheet.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// The icon.
pub(super) const ICON: &str = include_str!("icon.svg");

/// What the page is made of.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) status: &'a StatusReport,
    /// `None` where Pulse was not read yet.
    pub(super) preview: Option<&'a Result<Preview, NoPreview>>,
    pub(super) posture: Option<&'a Result<PostureSeen, NoPreview>>,
    /// Entries of the history; `None` where the ledger cannot be read.
    pub(super) history: Option<&'a HistoryPage>,
    /// These are not the newest ones.
    pub(super) is_older: bool,
    pub(super) events: &'a EventsReport,
    /// How many of them at most.
    pub(super) events_shown: usize,
}

/// The page for somebody who may see data.
pub(super) fn render(shown: &Shown<'_>) -> String {
    let main = fill(
        REPORT,
        &[
            ("<!--state-->", state::state(shown.status)),
            ("<!--payload-->", payload::fields(shown.preview, shown.status)),
            ("<!--bytes-->", payload::bytes(shown.preview)),
            ("<!--age-->", payload::age(shown.preview, shown.status)),
            ("<!--history-->", history::history(shown.history, shown.is_older)),
            ("<!--elsewhere-->", posture::posture(shown.posture)),
            ("<!--events-->", events::events(shown.events, shown.events_shown)),
            ("<!--about-->", state::about(shown.status)),
            ("<!--endpoint-->", html! { (shown.status.endpoint) }),
        ],
    );
    fill(SHELL, &[("<!--main-->", PreEscaped(main))])
}

/// The page that asks for the token and holds no data.
pub(super) fn locked() -> String {
    fill(SHELL, &[("<!--main-->", PreEscaped(LOCKED.to_owned()))])
}

/// Puts each part in its place. No part can hold another's place, since values are escaped.
fn fill(template: &str, parts: &[(&str, Markup)]) -> String {
    parts.iter().fold(template.to_owned(), |page, (place, part)| page.replacen(place, &part.0, 1))
}
