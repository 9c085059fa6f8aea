//! `history`: what was sent, tried, held back and switched.

use std::io::Write;

use hyper::Method;
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::{Line, seq_of};
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_process::command::Exit;
use serde_json::value::RawValue;

use super::api::{Api, ApiError, patience};
use super::error::CommandError;
use super::{known_status, offline};
use crate::config::Config;
use crate::status::ids;
use crate::store::{self, HistoryPage};

/// How many entries are asked for at a time.
const PAGE: usize = 200;

/// How entries are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) json: bool,
    pub(super) bodies: bool,
}

pub(super) async fn show(
    config: &Config,
    form: Form,
    limit: Option<usize>,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let entries = newest(config, limit.unwrap_or(usize::MAX), 0).await?;
    if entries.is_empty() && !form.json {
        writeln!(out, "Nothing was recorded yet.")?;
    }
    for entry in entries.iter().rev() {
        match parsed(entry) {
            Some(line) if !form.json => write!(out, "{}", to_text(&line, form.bodies))?,
            None if !form.json => writeln!(out, "{}", printable(entry.get()))?,
            _ => writeln!(out, "{}", entry.get())?,
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

pub(super) async fn erase(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let api = Api::new(config)?;
    let pending = match api.ask(Method::DELETE, "/api/v1/history", None, patience::AT_ONCE).await {
        Err(error) if error.is_no_daemon() => offline::erase_history(config, out)?,
        answer => {
            drop(answer?);
            known_status(&api).await?.forget.pending
        }
    };
    writeln!(out, "The history was erased. One entry is left, which says so.")?;
    writeln!(out, "Gone with it: the receipts, and the older IDs, whose deletion `forget` can no longer ask for.")?;
    if pending > 0 {
        let of = ids(pending);
        writeln!(out, "Deletions are pending, of {of}: these are kept, and each is recorded again when that ends.")?;
    }
    Ok(Exit::Done)
}

/// The `seq` of the newest entry that the daemon has.
pub(super) async fn newest_seq(api: &Api) -> Result<u64, ApiError> {
    let page = page_of_the_daemon(api, None, 1).await?;
    Ok(page.entries.first().and_then(|entry| seq_of(entry.get().as_bytes())).unwrap_or_default())
}

/// At most `limit` of the newest entries, the newest first; none up to `seen`, the `seq` of an entry.
pub(super) async fn newest(config: &Config, limit: usize, seen: u64) -> Result<Vec<Box<RawValue>>, CommandError> {
    let api = Api::new(config)?;
    let mut entries = Vec::new();
    let mut before = None;
    while entries.len() < limit {
        let page = page(&api, config, before, PAGE.min(limit - entries.len())).await?;
        let mut seqs = page.entries.iter().map(|entry| seq_of(entry.get().as_bytes()));
        let new = seqs.position(|seq| seq.is_some_and(|seq| seq <= seen)).unwrap_or(page.entries.len());
        let ends_here = new < page.entries.len();
        entries.extend(page.entries.into_iter().take(new));
        if ends_here {
            break;
        }
        // Each page is of older entries, or what answers would keep this going for ever.
        if page.before.is_some_and(|next| before.is_some_and(|before| next >= before)) {
            return Err(ApiError::Foreign.into());
        }
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    Ok(entries)
}

/// What an entry says; nothing where it cannot be read.
pub(super) fn parsed(entry: &RawValue) -> Option<Line<'_>> {
    Line::parse(entry.get().as_bytes())
}

async fn page(api: &Api, config: &Config, before: Option<u64>, limit: usize) -> Result<HistoryPage, CommandError> {
    match page_of_the_daemon(api, before, limit).await {
        Err(error) if error.is_no_daemon() => {
            Ok(offline::at_the_state(config, |dir| store::read_history(dir, before, limit))?)
        }
        page => Ok(page?),
    }
}

async fn page_of_the_daemon(api: &Api, before: Option<u64>, limit: usize) -> Result<HistoryPage, ApiError> {
    let before_that = before.map(|before| format!("&before={before}")).unwrap_or_default();
    let path = format!("/api/v1/history?limit={limit}{before_that}");
    let answer = api.ask(Method::GET, &path, None, patience::AT_ONCE).await?;
    serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)
}

fn to_text(line: &Line<'_>, bodies: bool) -> String {
    let mut text = format!("{:>6}  {:.0}  {:<15}", line.seq, line.at, line.kind.word());
    let details = [
        line.event.map(|event| event.word().to_owned()),
        line.status.map(|status| format!("status {status}")),
        line.install_id.as_deref().map(|id| format!("ID {}", printable(id))),
        line.receipt_is.map(|standing| format!("receipt {standing}")),
        line.reason.as_ref().map(|reason| printable(reason.as_str())),
        line.step_seconds.map(|seconds| format!("by {seconds} s")),
        line.through.map(|through| format!("entries up to {through}")),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    if !details.is_empty() {
        text = format!("{text}  {}", details.join(", "));
    }
    let body = line.body.as_deref().filter(|_| bodies && line.kind == EntryKind::Attempted);
    let body = body.map(|body| format!("        {}\n", printable(body))).unwrap_or_default();
    format!("{}\n{body}", text.trim_end())
}
