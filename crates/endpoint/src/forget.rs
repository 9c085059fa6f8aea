//! Deletions: whether the endpoint offers them, and asking for one.
//!
//! The question whether it does carries no ID. Only a contract that says so expressly is followed by an ID, over
//! another connection. Only a contract says no for good: what else is answered may be a proxy's page, or pass.

use bytes::Bytes;
use hyper::Method;
use hyper::http::uri::PathAndQuery;
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::receipt::RECEIPT_MAX;
use pulse_telemetry_core::verdict::Answer;
use serde_json::{Map, Value, json};

use super::send::{Sender, within};

/// Where pings go at an endpoint that may have a contract and deletions beside it.
const PING: &str = "/v1/telemetry/ping";
const CONTRACT: &str = "/v1/contract";
const FORGET: &str = "/v1/telemetry/forget";

/// The largest contract that is read.
const CONTRACT_MAX: usize = 64 * 1024;
/// The largest answer to a deletion that is read.
const DELETION_MAX: usize = 4 * RECEIPT_MAX;

/// What came of asking for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionAnswer {
    /// The endpoint says that it is done. The receipt, or what stood in its place; `None` where nothing did.
    Done(Option<String>),
    /// The endpoint's contract does not say that it offers deletions, or its URL leaves no place for one; it was sent
    /// no ID.
    NotOffered,
    /// There is no contract where it would be. The endpoint was sent no ID.
    NoContract,
    /// It was not done, or not asked for yet.
    Failed(Answer),
}

impl Sender {
    /// Whether the endpoint's URL leaves a place for a contract and deletions.
    #[must_use]
    pub fn may_offer_deletions(&self) -> bool {
        self.beside_pings(FORGET).is_some()
    }

    /// Asks for a deletion where the endpoint offers them. Dropping the future closes the connection.
    pub async fn forget(&self, id: &InstallId) -> DeletionAnswer {
        let (Some(contract), Some(forget)) = (self.beside_pings(CONTRACT), self.beside_pings(FORGET)) else {
            return DeletionAnswer::NotOffered;
        };
        match within(self.fetch(Method::GET, contract, Bytes::new(), CONTRACT_MAX)).await {
            Ok((answer @ Answer::Status { code: 200, .. }, body)) => match offers_deletions(&body) {
                Some(true) => {}
                Some(false) => return DeletionAnswer::NotOffered,
                None => return DeletionAnswer::Failed(answer),
            },
            Ok((Answer::Status { code: 201..=299 | 404 | 405 | 410, .. }, _)) => return DeletionAnswer::NoContract,
            Ok((answer, _)) | Err(answer) => return DeletionAnswer::Failed(answer),
        }
        let body = json!({ "install_id": id.canonical().as_str() }).to_string();
        match within(self.fetch(Method::POST, forget, body.into(), DELETION_MAX)).await {
            Ok((Answer::Status { code: 200..=299, .. }, body)) => DeletionAnswer::Done(receipt_in(&body)),
            Ok((answer, _)) | Err(answer) => DeletionAnswer::Failed(answer),
        }
    }

    /// That path, behind what stands before the path of pings.
    fn beside_pings(&self, path: &str) -> Option<PathAndQuery> {
        format!("{}{path}", self.target().as_str().strip_suffix(PING)?).parse().ok()
    }
}

/// `None` where it is no contract.
fn offers_deletions(contract: &[u8]) -> Option<bool> {
    if contract.len() > CONTRACT_MAX {
        return None;
    }
    let contract: Map<String, Value> = serde_json::from_slice(contract).ok()?;
    // One from before there were deletions says nothing of them.
    let has = |key| contract.contains_key(key);
    (has("forget") || has("sha256") && has("schema")).then(|| contract.get("forget") == Some(&Value::Bool(true)))
}

fn receipt_in(answer: &[u8]) -> Option<String> {
    match serde_json::from_slice(answer) {
        Ok(Value::Object(mut answer)) => match answer.remove("receipt") {
            Some(Value::String(receipt)) => Some(receipt),
            other => other.map(|other| other.to_string()),
        },
        _ if answer.is_empty() => None,
        _ => Some(String::from_utf8_lossy(answer).into_owned()),
    }
}
