//! A stand-in for the telemetry endpoint, and a certificate authority for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::lock;
use super::server::{RequestRecord, ResponsePlan, Server};

/// Where a ping goes, below the endpoint's address.
pub const PING_PATH: &str = "/v1/telemetry/ping";

/// The receiving end. It answers from a queue, then 204, and keeps what it was sent.
pub struct Endpoint {
    pub server: Server,
    script: Arc<Mutex<Script>>,
}

struct Script {
    next: VecDeque<ResponsePlan>,
    otherwise: ResponsePlan,
}

impl Endpoint {
    /// Over plain HTTP.
    pub fn start() -> Self {
        let script = Script::new();
        let server = Server::start(Script::handler(&script));
        Self { server, script }
    }

    /// Over HTTPS with that certificate. `url` names 127.0.0.1, so the certificate should as well.
    pub fn start_tls(certificate: &Issued) -> Self {
        let script = Script::new();
        let server = Server::start_tls(&certificate.cert_pem, &certificate.key_pem, Script::handler(&script));
        Self { server, script }
    }

    /// The whole URL to post to.
    pub fn url(&self) -> String {
        format!("{}{PING_PATH}", self.server.url())
    }

    /// Puts an answer at the end of the queue.
    pub fn answer_next(&self, plan: ResponsePlan) {
        lock(&self.script).next.push_back(plan);
    }

    /// What to answer while the queue is empty, from now on.
    pub fn answer_otherwise(&self, plan: ResponsePlan) {
        lock(&self.script).otherwise = plan;
    }

    /// Every request so far, whatever its method and path.
    pub fn pings(&self) -> Vec<RequestRecord> {
        self.server.requests()
    }

    /// Waits until `n` requests have come since the start, and returns all. Panics when the limit passes first.
    pub fn wait_for_pings(&self, n: usize, limit: Duration) -> Vec<RequestRecord> {
        self.server.wait_for_requests(n, limit)
    }
}

impl Script {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { next: VecDeque::new(), otherwise: ResponsePlan::status(204) }))
    }

    fn handler(script: &Arc<Mutex<Self>>) -> impl Fn(RequestRecord) -> ResponsePlan + Send + Sync + 'static {
        let script = Arc::clone(script);
        move |_| {
            let mut script = lock(&script);
            script.next.pop_front().unwrap_or_else(|| script.otherwise.clone())
        }
    }
}

/// A certificate and its key, both PEM.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

/// An authority that nobody trusts until a test says so.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateAuthority {
    pub fn new() -> Self {
        Self::named("An authority of the tests")
    }

    /// A certificate names its authority, so only an authority of another name is one that a client never heard of.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The authority's own certificate: what a client has to trust.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these host names or IP addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(names, |_| {})
    }

    /// One for 127.0.0.1 and localhost, which is where the tests' servers are.
    pub fn issue_for_loopback(&self) -> Issued {
        self.issue(&["127.0.0.1", "localhost"])
    }

    /// One whose time has passed.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 12, 31);
        })
    }

    /// One whose time has not come.
    pub fn issue_early(&self, names: &[&str]) -> Issued {
        self.sign(names, |params| params.not_before = date_time_ymd(2090, 1, 1))
    }

    /// One for 127.0.0.1 and localhost that ends then.
    pub fn issue_until(&self, ends: std::time::SystemTime) -> Issued {
        self.sign(&["127.0.0.1", "localhost"], |params| params.not_after = ends.into())
    }

    /// One for another host.
    pub fn issue_for_another_host(&self) -> Issued {
        self.issue(&["elsewhere.example"])
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}
