//! Deletions: whether the endpoint offers them, and asking for one.
//!
//! The question whether it does carries no ID. Only a contract that says so in so many words is followed by an ID, over
//! another connection; whatever else is answered, a redirect or a flood, is no.

use bytes::Bytes;
use hyper::Method;
use hyper::http::uri::PathAndQuery;
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::receipt::RECEIPT_MAX;
use pulse_telemetry_core::verdict::Answer;
use serde_json::{Value, json};

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
    /// The endpoint does not say that it offers deletions, and was sent no ID.
    NotOffered,
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
            Ok((Answer::Status { code: 200, .. }, body)) if offers_deletions(&body) => {}
            Ok((answer @ Answer::Status { code: 408 | 425 | 429 | 500..=599, .. }, _)) | Err(answer) => {
                return DeletionAnswer::Failed(answer);
            }
            Ok(_) => return DeletionAnswer::NotOffered,
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

fn offers_deletions(contract: &[u8]) -> bool {
    let contract: Option<Value> = Some(contract)
        .filter(|contract| contract.len() <= CONTRACT_MAX)
        .and_then(|contract| serde_json::from_slice(contract).ok());
    contract.is_some_and(|contract| contract["forget"] == true)
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
