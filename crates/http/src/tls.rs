//! TLS as every client of both programs uses it: whom it trusts, and what it says where it does not.
//!
//! Certificates are always checked, no session is ever resumed (a ticket would link requests), HTTP/1.1 only.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::file::read_bounded;
use crate::pem::{self, PemError};
use crate::x509;

/// The most bytes of a file of certificates. The system's have 250 KB.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// The authorities that the environment names, instead of the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// `SSL_CERT_FILE`.
    pub file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories, with colons between them.
    pub directories: Option<String>,
}

/// The certificates that are trusted.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    authorities: Authorities,
    own: Option<Own>,
}

/// A file that a key of the configuration names.
#[derive(Clone, Debug)]
struct Own {
    name: String,
    pem: Vec<u8>,
}

impl Trust {
    /// The authorities that the environment names; the system's where it names none, and Mozilla's where there are none
    /// of either.
    #[must_use]
    pub fn of(authorities: Authorities) -> Self {
        Self { authorities, own: None }
    }

    /// And the certificates of this PEM text: authorities, or a server's own. `name` is for messages.
    #[must_use]
    pub fn and(self, name: &str, pem: Vec<u8>) -> Self {
        Self { own: Some(Own { name: name.to_owned(), pem }), ..self }
    }

    /// And those of the file that `key` names.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn and_file(self, key: &str, path: &Path) -> Result<Self, TlsError> {
        let name = format!("{key}: {}", path.display());
        let pem = read_bounded(path, FILE_MAX).map_err(TlsError::of_file(&name))?;
        Ok(self.and(&name, pem))
    }
}

impl Trust {
    /// Whether a file was named besides the authorities.
    #[must_use]
    pub fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Reads that file where no TLS is set up for which it would be read.
    ///
    /// # Errors
    /// It holds no certificate, or one that cannot be read.
    pub fn check_own(&self) -> Result<(), TlsError> {
        let Some(Own { name, pem }) = &self.own else { return Ok(()) };
        pem::certificates(pem).map(drop).map_err(TlsError::of_file(name))
    }
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that somebody named holds no certificates that can be used. Others are no substitute for them.
    #[error("{name}: {source}")]
    File {
        /// The key or variable, and the file.
        name: String,
        /// What is wrong with it.
        source: CertificatesError,
    },
    /// The system has authorities, and none can be read.
    #[error("the system's certificate authorities cannot be read; SSL_CERT_FILE can name others")]
    System,
    /// The URL has no host that a certificate can name.
    #[error("the URL has no host that a certificate can name")]
    NoName,
    /// The TLS library refused its own defaults.
    #[error("the TLS library could not be set up")]
    Library(#[source] rustls::Error),
    /// The TLS library refused to verify with these authorities.
    #[error("the TLS library could not be set up")]
    Verifier(#[from] VerifierBuilderError),
}

/// Why the certificates of a file cannot be used. The messages follow its name.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The file cannot be read.
    #[error("failed to read it: {0}")]
    Read(#[from] io::Error),
    /// It is no PEM text of certificates.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate in it that the TLS library refuses.
    #[error("certificate {number} in it cannot be used: it is malformed, or of a form that is not supported")]
    Refused {
        /// From 1.
        number: usize,
        /// What the library says.
        source: rustls::Error,
    },
    /// A directory whose files hold none.
    #[error("there is no file in it that holds a certificate (PEM text is expected)")]
    NoneInDirectory,
}

impl TlsError {
    /// What is wrong with the file of that name.
    fn of_file<E: Into<CertificatesError>>(name: &str) -> impl FnOnce(E) -> Self {
        move |source| Self::File { name: name.to_owned(), source: source.into() }
    }
}

/// A client that trusts no others.
///
/// # Errors
/// Where a file that was named holds no certificate, or one that cannot be read.
pub fn tls(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let mut named = named_authorities(&trust.authorities)?;
    let mut roots = if named.is_some() { RootCertStore::empty() } else { system_authorities()? };
    if let Some(Own { name, pem }) = &trust.own {
        let own = pem::certificates(pem).map_err(TlsError::of_file(name))?;
        named.get_or_insert_default().push((name.clone(), own));
    }
    let mut pinned = Vec::new();
    for (name, certificates) in named.unwrap_or_default() {
        add(&mut roots, &certificates, &name)?;
        pinned.extend(certificates.iter().map(fingerprint));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let authorities = verifier.build()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { authorities, pinned }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

type Named = Vec<(String, Vec<CertificateDer<'static>>)>;

fn add(roots: &mut RootCertStore, certificates: &[CertificateDer<'static>], name: &str) -> Result<(), TlsError> {
    for (number, certificate) in (1..).zip(certificates) {
        let refused = |source| CertificatesError::Refused { number, source };
        roots.add(certificate.clone()).map_err(refused).map_err(TlsError::of_file(name))?;
    }
    Ok(())
}

/// What the variables name; `None` where they name nothing.
fn named_authorities(Authorities { file, directories }: &Authorities) -> Result<Option<Named>, TlsError> {
    let mut named = Named::new();
    if let Some(file) = file {
        let name = format!("SSL_CERT_FILE: {}", file.display());
        let text = read_bounded(file, FILE_MAX).map_err(TlsError::of_file(&name))?;
        let certificates = pem::certificates(&text).map_err(TlsError::of_file(&name))?;
        named.push((name, certificates));
    }
    if let Some(directories) = directories {
        let mut certificates = Vec::new();
        for directory in directories.split(':').filter(|directory| !directory.is_empty()) {
            certificates.extend(certificates_below(Path::new(directory), &mut |path, error| {
                tracing::warn!(path = %path.display(), %error, "a file of SSL_CERT_DIR is not used in full");
            }));
        }
        let name = format!("SSL_CERT_DIR: {directories}");
        if certificates.is_empty() {
            return Err(TlsError::File { name, source: CertificatesError::NoneInDirectory });
        }
        named.push((name, certificates));
    }
    Ok((!named.is_empty()).then_some(named))
}

/// The system's authorities, of its bundle and of its directories; Mozilla's where it has none.
fn system_authorities() -> Result<RootCertStore, TlsError> {
    // The variables, which this would look at too, are unset or empty here.
    let system = openssl_probe::probe();
    let bundle = system.cert_file.iter().filter_map(|file| read_bounded(file, FILE_MAX).ok());
    let mut certificates: Vec<_> = bundle.flat_map(|text| pem::certificates_among(&text)).collect();
    certificates.extend(system.cert_dir.iter().flat_map(|directory| certificates_below(directory, &mut |_, _| {})));
    // A directory holds each certificate of the bundle once more.
    certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    match roots.is_empty() {
        // The system has some: others are no substitute for them.
        true if system.cert_file.is_some() => Err(TlsError::System),
        true => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        false => Ok(roots),
    }
}

/// The certificates in the files of a directory, of which many are links to the same. What cannot be read is told.
fn certificates_below(directory: &Path, told: &mut dyn FnMut(&Path, &PemError)) -> Vec<CertificateDer<'static>> {
    let mut seen = HashSet::new();
    let mut certificates = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = fs::metadata(&path) else { continue };
        if !found.is_file() || !seen.insert((found.dev(), found.ino())) {
            continue;
        }
        let Ok(text) = read_bounded(&path, FILE_MAX) else { continue };
        match pem::certificates(&text) {
            Ok(all) => certificates.extend(all),
            Err(PemError::Nothing(_)) => {}
            Err(error) => {
                told(&path, &error);
                certificates.extend(pem::certificates_among(&text));
            }
        }
    }
    certificates
}

type Fingerprint = [u8; 32];

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// Holds a server's certificate against the authorities, or against those that were named and are, byte for byte, the
/// server's own. The name and the dates are checked of either; a self-signed one says no more of itself.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    pinned: Vec<Fingerprint>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.pinned.contains(&fingerprint(end_entity)) {
            return self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let holds = x509::validity(end_entity).ok_or(CertificateError::BadEncoding)?;
        let at =
            |time: Timestamp| UnixTime::since_unix_epoch(Duration::from_secs(time.as_second().max(0).unsigned_abs()));
        let (not_before, not_after) = (at(holds.not_before), at(holds.not_after));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature).map_err(of_a_key_that_is_not_read)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature).map_err(of_a_key_that_is_not_read)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// A server signs with the key of its own certificate, so that its signature is wrong where that key is not read: of
/// RSA with less than 2048 bits no other error tells.
fn of_a_key_that_is_not_read(error: rustls::Error) -> rustls::Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: Vec::new(),
                supported_algorithms: Vec::new(),
            }
            .into()
        }
        other => other,
    }
}

/// Why there is no secure connection, for people. Names neither host nor address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// Nobody who is trusted issued it.
    UnknownIssuer,
    /// An authority of that name is trusted, but its key is another one.
    OtherKey,
    /// The certificate is for another name.
    WrongName,
    /// It has a common name only, which has not counted for years.
    NoName,
    /// It, or one of those that issued it, has expired.
    Expired,
    /// It does not hold yet.
    NotYetValid,
    /// A server shows an authority's certificate.
    AuthorityAsServer,
    /// X.509 version 1.
    Version1,
    /// Something else is wrong with it.
    Certificate,
    /// The certificate's key or signature is of a kind that is not read.
    UnsupportedKey,
    /// There is nothing in common to speak.
    NothingInCommon,
    /// Something else.
    Other,
}

/// The object identifier of the curve P-521, 1.3.132.0.35.
const P521: [u8; 5] = [0x2b, 0x81, 0x04, 0x00, 0x23];

impl TlsProblem {
    /// Each that has words of its own.
    pub const ALL: [Self; 10] = [
        Self::UnknownIssuer,
        Self::OtherKey,
        Self::WrongName,
        Self::NoName,
        Self::Expired,
        Self::NotYetValid,
        Self::AuthorityAsServer,
        Self::Version1,
        Self::UnsupportedKey,
        Self::NothingInCommon,
    ];

    /// What the library's error is.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::UnknownIssuer => Self::UnknownIssuer,
                Bad::BadSignature => Self::OtherKey,
                Bad::NotValidForNameContext { presented, .. } if presented.is_empty() => Self::NoName,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                Bad::UnsupportedSignatureAlgorithmContext { .. } => Self::UnsupportedKey,
                Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { public_key_algorithm_id, .. } => {
                    let is_p521 = public_key_algorithm_id.windows(P521.len()).any(|oid| oid == P521);
                    // The issuer has another kind of key than the one that the certificate is signed with.
                    if is_p521 { Self::UnsupportedKey } else { Self::OtherKey }
                }
                // The library beneath tells these by their names alone.
                Bad::Other(other) => match other.to_string().as_str() {
                    "CaUsedAsEndEntity" => Self::AuthorityAsServer,
                    "UnsupportedCertVersion" => Self::Version1,
                    _ => Self::Certificate,
                },
                _ => Self::Certificate,
            },
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::ProtocolVersion,
            ) => Self::NothingInCommon,
            _ => Self::Other,
        }
    }

    /// Whether nobody who is trusted issued the certificate.
    #[must_use]
    pub fn is_unknown_issuer(self) -> bool {
        matches!(self, Self::UnknownIssuer | Self::OtherKey)
    }

    /// What the library's error among the causes of another one is.
    #[must_use]
    pub fn among(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(tls) = error.downcast_ref() {
                return Some(Self::of(tls));
            }
            cause = match error.downcast_ref::<io::Error>() {
                // An io::Error that wraps another one passes over it in its `source`.
                Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownIssuer => "the certificate was issued by an unknown authority",
            Self::OtherKey => {
                "the certificate was issued by an unknown authority: one of that name is trusted, but it has another \
                 key, or an RSA key of less than 2048 bits"
            }
            Self::WrongName => "the certificate is for another name than the one in the URL",
            Self::NoName => {
                "the certificate has no subjectAltName, and a common name alone does not count: make one with `openssl \
                 req -x509 … -addext subjectAltName=DNS:NAME`"
            }
            Self::Expired => "the certificate has expired (or this machine's clock is wrong)",
            Self::NotYetValid => "the certificate is not valid yet (or this machine's clock is wrong)",
            Self::AuthorityAsServer => {
                "the certificate is an authority's own and is used as a server's: make one with `openssl req -x509 … \
                 -addext basicConstraints=critical,CA:FALSE`"
            }
            Self::Version1 => {
                "the certificate is of X.509 version 1, which cannot hold a server's name: make one with `openssl req \
                 -x509 … -addext subjectAltName=DNS:NAME`"
            }
            Self::Certificate => "the certificate is not valid",
            Self::UnsupportedKey => {
                "the certificate's key or signature is not supported: RSA from 2048 bits, P-256, P-384 and Ed25519 are \
                 (P-521 is not)"
            }
            Self::NothingInCommon => {
                "no secure connection (TLS): the server offers nothing that is supported here: TLS 1.2 with ECDHE or \
                 1.3, and keys of RSA, P-256, P-384 or Ed25519 (not P-521, not RSA key exchange)"
            }
            Self::Other => "no secure connection (TLS)",
        })
    }
}
