//! Small pieces of HTML.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::status::{SuppressedReport, UnknownReport};

/// Stands for what comes from Pulse until it was read.
pub(super) const NOT_READ_YET: &str = "<p>Pulse is being asked, and has not answered yet.</p>\n";

/// Text that is no markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Text of a program, escaped.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// JSON, escaped. It may be broken into lines behind a comma, which changes nothing of the text.
pub(super) fn json(text: &str) -> String {
    escape(text).replace(',', ",<wbr>")
}

/// A time. The script adds how far away it is.
pub(super) fn time(at: Timestamp) -> String {
    format!("<time datetime=\"{at}\">{}</time>", at.strftime("%Y-%m-%d %H:%M UTC"))
}

/// A block to copy from, whose button the script shows.
pub(super) fn copyable(id: &str, label: &str, text: &str) -> String {
    format!(
        "<div class=\"copy\">\n<pre id=\"{id}\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\">{}</pre>\n<button \
         type=\"button\" class=\"needs-script\" id=\"copy-{id}\" data-copy=\"{id}\">Copy<span class=\"apart\"> \
         {label}</span></button>\n</div>\n",
        json(text)
    )
}

/// Names and what they are, as HTML.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let rows = facts.iter().fold(String::new(), |mut rows, (name, fact)| {
        // Writing to a String cannot fail.
        let _ = writeln!(rows, "<div><dt>{name}</dt><dd>{fact}</dd></div>");
        rows
    });
    format!("<dl class=\"facts\">\n{rows}</dl>\n")
}

/// A table. The roles keep it one for screen readers where a narrow screen's style takes its layout away.
pub(super) fn table(class: &str, caption: &str, heads: &[&str; 3], rows: &str) -> String {
    let heads: String =
        heads.iter().map(|head| format!("<th scope=\"col\" role=\"columnheader\">{head}</th>")).collect();
    format!(
        "<table role=\"table\" class=\"{class}\">\n<caption>{caption}</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">{heads}</tr>\
         </thead>\n<tbody role=\"rowgroup\">\n{rows}</tbody>\n</table>\n"
    )
}

/// A row of cells that are HTML already.
pub(super) fn row([head, rest @ ..]: &[&str; 3]) -> String {
    let cells: String = rest.iter().map(|cell| format!("<td role=\"cell\">{cell}</td>")).collect();
    format!("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">{head}</th>{cells}</tr>\n")
}

/// What stands in the way, in a sentence and a word.
pub(super) fn told(because: &SuppressedReport) -> String {
    format!("{} <span class=\"dim\">({})</span>", escape(&because.message), escape(&because.reason))
}

/// What could not be read from Pulse; nothing where all could.
pub(super) fn unknown(unknown: &[UnknownReport]) -> String {
    if unknown.is_empty() {
        return String::new();
    }
    let rows: String = unknown
        .iter()
        .map(|unknown| row(&[&code(&unknown.what), &escape(&unknown.reason), &code(&unknown.request)]))
        .collect();
    table("unknown", "What could not be read from Pulse", &["What", "Why not", "Request"], &rows)
}
