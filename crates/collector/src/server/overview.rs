//! The maintainers' page: the numbers as they are published, and how the collector is.

use maud::{Markup, html};

use super::app::App;
use crate::publish::page::{document, method, numbers};

pub(super) fn page(app: &App) -> Markup {
    document(
        "Pulse telemetry collector",
        &html! {
            header { h1 { "Pulse telemetry collector" } p { "Its health now, and the numbers of the last whole day." } }
            main {
                section aria-labelledby="health" {
                    h2 id="health" { "Health" }
                    div class="card" {
                        dl class="facts" { @for (name, value) in app.metrics.health() { dt { (name) } dd { (value) } } }
                    }
                }
                @match app.numbers.get() {
                    Some(published) => { (numbers(&published)) (method()) }
                    None => p { "The last whole day is being counted." },
                }
            }
        },
    )
}
