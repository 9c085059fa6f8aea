//! Small pieces of HTML. What a value holds is text: the macro escapes it.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::status::{SuppressedReport, UnknownReport};

/// Stands for what comes from Pulse until it was read.
pub(super) fn not_read_yet() -> Markup {
    html! { p { "Pulse is being asked, and has not answered yet." } }
}

/// Text of a program.
pub(super) fn code(text: &str) -> Markup {
    html! { code { (text) } }
}

/// Pieces with something between them.
pub(super) fn joined(pieces: &[Markup], between: &str) -> Markup {
    html! {
        @for (at, piece) in pieces.iter().enumerate() {
            @if at > 0 { (between) }
            (piece)
        }
    }
}

/// JSON. It may be broken into lines behind a comma, which changes nothing of the text.
pub(super) fn json(text: &str) -> Markup {
    html! {
        @for (at, piece) in text.split(',').enumerate() {
            @if at > 0 { "," wbr; }
            (piece)
        }
    }
}

/// A time. The script adds how far away it is.
pub(super) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M UTC")) } }
}

/// A block to copy from, whose button the script shows.
pub(super) fn copyable(id: &str, label: &str, text: &str) -> Markup {
    html! {
        div class="copy" {
            pre id=(id) tabindex="0" role="group" aria-label=(label) { (json(text)) }
            button type="button" class="needs-script" id={ "copy-" (id) } data-copy=(id) {
                "Copy" span class="apart" { " " (label) }
            }
        }
    }
}

/// Names and what they are.
pub(super) fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl class="facts" {
            @for (name, fact) in facts { div { dt { (name) } dd { (fact) } } }
        }
    }
}

/// A table. The roles keep it one for screen readers where a narrow screen's style takes its layout away.
pub(super) fn table(class: &str, caption: &str, heads: &[&str; 3], rows: &Markup) -> Markup {
    html! {
        table role="table" class=(class) {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" { @for head in heads { th scope="col" role="columnheader" { (head) } } }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

/// A row of a table.
pub(super) fn row([head, rest @ ..]: &[Markup; 3]) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (head) }
            @for cell in rest { td role="cell" { (cell) } }
        }
    }
}

/// What stands in the way, in a sentence and a word.
pub(super) fn told(because: &SuppressedReport) -> Markup {
    html! { (because.message) " " span class="dim" { "(" (because.reason) ")" } }
}

/// What could not be read from Pulse; nothing where all could.
pub(super) fn unknown(unknown: &[UnknownReport]) -> Markup {
    let rows = html! {
        @for unknown in unknown {
            (row(&[code(&unknown.what), html! { (unknown.reason) }, code(&unknown.request)]))
        }
    };
    html! {
        @if !unknown.is_empty() {
            (table("unknown", "What could not be read from Pulse", &["What", "Why not", "Request"], &rows))
        }
    }
}
