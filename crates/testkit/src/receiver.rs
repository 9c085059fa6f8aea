//! An endpoint that gives receipts and deletes, as the collector does; and whatever else a test wants of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ledger::sha256;
use pulse_telemetry_core::receipt::{RECEIPT_HEADER, Receipt, ReceiptKeys, SigningKey, id_sha256};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use super::endpoint::PING_PATH;
use super::lock;
use super::server::{RequestRecord, ResponsePlan, Server};

pub const CONTRACT_PATH: &str = "/v1/contract";
pub const FORGET_PATH: &str = "/v1/telemetry/forget";

/// What takes a ping's body, and gives the receipt for it.
type Signer = Box<dyn Fn(&[u8]) -> Option<String> + Send>;

/// The receiving end, with a key of its own.
pub struct Receiver {
    pub server: Server,
    key: Arc<SigningKey>,
    plans: Arc<Mutex<BTreeMap<&'static str, ResponsePlan>>>,
    signer: Arc<Mutex<Option<Signer>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let key = Arc::new(new_key());
        let plans = Arc::new(Mutex::new(BTreeMap::<_, ResponsePlan>::new()));
        let signer = Arc::new(Mutex::new(None::<Signer>));
        let (signing, planned, signed) = (Arc::clone(&key), Arc::clone(&plans), Arc::clone(&signer));
        let contract = json!({"receipts": keys_of(&key).jwk_set(), "forget": true});
        let server = Server::start(move |request: RequestRecord| {
            if let Some(plan) = lock(&planned).get(request.target.as_str()) {
                return plan.clone();
            }
            match (request.method.as_str(), request.target.as_str()) {
                ("GET", CONTRACT_PATH) => ResponsePlan::json(200, &contract),
                ("POST", FORGET_PATH) => {
                    let asked = request.json();
                    let id = InstallId::parse(asked["install_id"].as_str().unwrap()).unwrap();
                    ResponsePlan::json(200, &json!({"receipt": signing.sign(&forgotten(&id))}))
                }
                ("POST", PING_PATH) => {
                    let receipt = match &*lock(&signed) {
                        Some(signer) => signer(&request.body),
                        None => Some(signing.sign(&received(&request.body))),
                    };
                    let plan = ResponsePlan::status(204);
                    receipt.into_iter().fold(plan, |plan, receipt| plan.with_header(RECEIPT_HEADER, &receipt))
                }
                _ => ResponsePlan::status(404),
            }
        });
        Self { server, key, plans, signer }
    }

    /// The whole URL that pings go to.
    pub fn url(&self) -> String {
        format!("{}{PING_PATH}", self.server.url())
    }

    /// What to answer at that path from now on.
    pub fn answer(&self, path: &'static str, plan: ResponsePlan) {
        lock(&self.plans).insert(path, plan);
    }

    /// To answer at that path as at first.
    pub fn answer_well(&self, path: &'static str) {
        lock(&self.plans).remove(path);
    }

    /// What receipts to give for pings from now on.
    pub fn sign(&self, signer: impl Fn(&[u8]) -> Option<String> + Send + 'static) {
        *lock(&self.signer) = Some(Box::new(signer));
    }

    pub fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.key)
    }

    /// What the sidecar's `telemetry.receipt_keys_file` is to hold.
    pub fn jwk_set(&self) -> String {
        keys_of(&self.key).jwk_set().to_string()
    }

    /// Every request at that path so far.
    pub fn asked(&self, path: &str) -> Vec<RequestRecord> {
        self.server.requests().into_iter().filter(|request| request.target == path).collect()
    }

    /// Waits until `n` have come at that path, and gives them. Panics when the limit passes first.
    pub fn wait_for(&self, path: &str, n: usize, limit: Duration) -> Vec<RequestRecord> {
        loop {
            let all = self.server.requests().len();
            let asked = self.asked(path);
            if asked.len() >= n {
                return asked;
            }
            self.server.wait_for_requests(all + 1, limit);
        }
    }

    /// The IDs that deletions were asked for, in their order.
    pub fn forgotten_ids(&self) -> Vec<String> {
        let id = |request: RequestRecord| request.json()["install_id"].as_str().unwrap().to_owned();
        self.asked(FORGET_PATH).into_iter().map(id).collect()
    }
}

/// A key that nobody has.
pub fn new_key() -> SigningKey {
    SigningKey::from_pkcs8(&KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_der()).unwrap()
}

pub fn keys_of(key: &SigningKey) -> ReceiptKeys {
    ReceiptKeys::new([key.public().clone()]).unwrap()
}

/// That the ping with this body arrived.
pub fn received(body: &[u8]) -> Receipt {
    let (day, deleted_by) = ("2026-11-26".parse().unwrap(), "2027-02-24".parse().unwrap());
    Receipt::Received { body_sha256: sha256(body), day, deleted_by, contract_sha256: sha256(b"contract") }
}

/// That all of this ID is deleted.
pub fn forgotten(id: &InstallId) -> Receipt {
    let day = "2026-11-26".parse().unwrap();
    Receipt::Forgotten { id_sha256: id_sha256(id), day, contract_sha256: sha256(b"contract") }
}

/// The entries of a ledger of those kinds, of its whole lines: the last one may be torn, or about to be written.
pub fn entries(ledger: &str, kinds: &[&str]) -> Vec<Value> {
    let whole = ledger.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let entries = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["kind"].as_str().is_some_and(|kind| kinds.contains(&kind))).collect()
}
