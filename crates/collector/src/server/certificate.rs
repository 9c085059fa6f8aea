//! The certificate of the collector's own TLS: which of the file's fits the key, and when it ends.

use pulse_telemetry_core::clock::DAY;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_http::file::read_bounded;
use pulse_telemetry_http::{pem, x509};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;
use crate::queue::SharedClock;

/// How long before its end the log begins to warn, once a day.
const WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);
const AGAIN: Duration = DAY;
/// The most bytes of a file of certificates, or of a key.
const FILE_MAX: u64 = 1024 * 1024;

/// TLS as the collector speaks it, and when its certificate ends.
pub struct Tls {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    /// The last second of the certificate.
    pub ends: Timestamp,
}

/// TLS with that certificate. No session is ever resumed, for a ticket would link pings.
///
/// # Errors
/// What is wrong with the files, in words.
pub fn tls(files: &TlsFiles) -> Result<Tls, String> {
    let read = |key: &str, path: &Path| {
        let name = format!("{key}: {}", path.display());
        let text = read_bounded(path, FILE_MAX).map_err(|error| format!("{name}: failed to read it: {error}"));
        text.map(|text| (name, text))
    };
    let (name, text) = read("serve.tls_cert", &files.cert)?;
    let chain = pem::chain(&text).map_err(|error| format!("{name}: {error}"))?;
    let (key_name, text) = read("serve.tls_key", &files.key)?;
    let key = pem::private_key(&text).map_err(|error| format!("{key_name}: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| format!("{key_name}: the key cannot be used: {error}"))?;
    let chain = own_first(chain, &key).map_err(|error| format!("{name}: {error}"))?;
    let ends = chain.first().and_then(|own| x509::validity(own)).map(|validity| validity.not_after);
    let ends = ends.ok_or_else(|| format!("{name}: there is no certificate in it"))?;
    Ok(Tls { acceptor: acceptor(provider, CertifiedKey::new(chain, key))?, ends })
}

/// The chain with the certificate first that fits the key: some who sell them put the authority's first.
fn own_first(
    mut chain: Vec<CertificateDer<'static>>,
    key: &Arc<dyn SigningKey>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut own = None;
    for (at, certificate) in chain.iter().enumerate() {
        match CertifiedKey::new(vec![certificate.clone()], Arc::clone(key)).keys_match() {
            Ok(()) => own = own.or(Some(at)),
            Err(rustls::Error::InconsistentKeys(_)) => {}
            Err(error) => return Err(format!("certificate {} in it cannot be used: {error}", at + 1)),
        }
    }
    let Some(own) = own else {
        return Err(format!(
            "none of its certificates ({}) belongs to the key in serve.tls_key: name the key that the certificate was \
             made for, or have another certificate made for this key",
            chain.len()
        ));
    };
    let certificate = chain.remove(own);
    chain.insert(0, certificate);
    Ok(chain)
}

fn acceptor(provider: Arc<CryptoProvider>, certified: CertifiedKey) -> Result<TlsAcceptor, String> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("the TLS library could not be set up: {error}"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Warns for ever, at once and then once a day, where the certificate ends soon.
pub async fn warn_before_the_end(ends: Timestamp, clock: SharedClock) {
    loop {
        if let Some(warning) = warning(ends, clock.now().wall) {
            tracing::warn!(%ends, "{warning}");
        }
        sleep(AGAIN).await;
    }
}

/// What to say of a certificate that ends then, where it is time to say something.
#[must_use]
pub fn warning(ends: Timestamp, now: Timestamp) -> Option<&'static str> {
    let left = ends.duration_since(now);
    if left.is_negative() {
        return Some(
            "the certificate in serve.tls_cert has ended, and no sender takes it: renew it and restart the collector",
        );
    }
    let is_soon = left <= WARNING;
    is_soon.then_some("the certificate in serve.tls_cert ends within 14 days: renew it and restart the collector")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_warns_from_fourteen_days_before_the_end_on() {
        let ends: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
        for (now, words) in [
            ("2026-11-12T11:59:59Z", None),
            ("2026-11-12T12:00:00Z", Some("ends within 14 days")),
            ("2026-11-26T12:00:00Z", Some("ends within 14 days")),
            ("2026-11-26T12:00:01Z", Some("has ended")),
        ] {
            let said = warning(ends, now.parse().unwrap());
            assert_eq!(said.is_some(), words.is_some(), "{now}");
            assert!(said.is_none_or(|said| said.contains(words.unwrap_or_default())), "{now}: {said:?}");
        }
    }
}
