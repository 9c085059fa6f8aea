//! The one reader of PEM: certificates and keys as files hold them, in both programs.
//!
//! No block is passed over in silence: what cannot be used is told by its number, and what is of another form by its
//! name, with the line of OpenSSL that converts it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use crate::x509;

const CERTIFICATE: &str = "CERTIFICATE";

/// What Windows' editors put before a text, and what stands in its middle where two such files are put together.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The most bytes of a block's name that are shown.
const LABEL_MAX: usize = 64;

/// Why a file cannot be used. The messages follow its name, and have nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Binary.
    #[error("it is {what} and not PEM text: `openssl {convert}` converts it")]
    Binary {
        /// The form.
        what: &'static str,
        /// The command, without the program's name.
        convert: &'static str,
    },
    /// What PowerShell's `>` writes.
    #[error("it is UTF-16 text: save it as UTF-8 or ASCII")]
    Utf16,
    /// Nothing of what is needed is in it.
    #[error("there is no {0} in it: PEM text is expected, whose first line is -----BEGIN …-----")]
    Nothing(&'static str),
    /// A block that is complete and of no use here.
    #[error("block {number} in it is {what}")]
    Other {
        /// From 1.
        number: usize,
        /// What it is, and what to do.
        what: String,
    },
    /// A block that is not complete.
    #[error("block {number} in it ({label}) cannot be read: {why}")]
    Bad {
        /// From 1.
        number: usize,
        /// Its name.
        label: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The certificates of a file that holds nothing else, one at least.
///
/// # Errors
/// There is none, or a block that is none.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    found(read(text, PemKind::Certificates)?.0, "certificate")
}

/// The certificates of a file that may hold their key as well, one at least.
///
/// # Errors
/// There is none, or a block that is neither.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    found(read(text, PemKind::Chain)?.0, "certificate")
}

/// The private key of a file that may hold its certificates as well.
///
/// # Errors
/// There is none, or more than one, or one that is encrypted, or a block that is neither.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    read(text, PemKind::Key)?.1.ok_or(PemError::Nothing("private key"))
}

/// The private key that a file begins with, in PKCS#8, and the public keys after it, all as DER.
///
/// # Errors
/// There is none, or more than one, or one of another form, or a block that is neither.
pub fn signing_keys(text: &[u8]) -> Result<(Vec<u8>, Vec<Vec<u8>>), PemError> {
    refuse_other_forms(text, PemKind::Key)?;
    let (mut key, mut public) = (None, Vec::new());
    for block in blocks(text) {
        let block = block?;
        match (block.label.as_str(), &key) {
            ("PUBLIC KEY", Some(_)) => public.push(block.der),
            ("PUBLIC KEY", None) => {
                return Err(block.other("a public key before the private one: what signs stands first".to_owned()));
            }
            (_, Some(_)) => {
                let what = "a second private key: of one that signs no more keep the public key alone (`openssl pkey \
                            -in FILE -pubout`)";
                return Err(block.other(what.to_owned()));
            }
            (label, None) => match private(&block)? {
                PrivateKeyDer::Pkcs8(der) => key = Some(der.secret_pkcs8_der().to_vec()),
                _ => {
                    let convert = "`openssl pkey -in FILE -out FILE.pem` converts it";
                    return Err(block.other(format!("{label}, and PKCS#8 is expected: {convert}")));
                }
            },
        }
    }
    key.map(|key| (key, public)).ok_or(PemError::Nothing("private key"))
}

/// The text of a file with that private key, in PKCS#8.
#[must_use]
pub fn private_key_text(der: &[u8]) -> String {
    // A key of Ed25519 takes one line.
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

/// The certificates that can be read in a file of the system's, whatever else is in it.
#[must_use]
pub fn certificates_among(text: &[u8]) -> Vec<CertificateDer<'static>> {
    blocks(text).filter_map(|block| certificate(&block.ok()?).ok()).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum PemKind {
    Certificates,
    Chain,
    Key,
}

type PemItems = (Vec<CertificateDer<'static>>, Option<PrivateKeyDer<'static>>);

fn found<T>(found: Vec<T>, what: &'static str) -> Result<Vec<T>, PemError> {
    if found.is_empty() { Err(PemError::Nothing(what)) } else { Ok(found) }
}

fn read(text: &[u8], wanted: PemKind) -> Result<PemItems, PemError> {
    refuse_other_forms(text, wanted)?;
    let (mut certificates, mut key) = (Vec::new(), None);
    for block in blocks(text) {
        let block = block?;
        let belongs_to_a_key = block.label.ends_with("PRIVATE KEY") || block.label.ends_with(" PARAMETERS");
        if belongs_to_a_key && wanted != PemKind::Certificates {
            if wanted == PemKind::Key && block.label.ends_with("PRIVATE KEY") && key.replace(private(&block)?).is_some()
            {
                return Err(block.other("a second private key: one is expected".to_owned()));
            }
            continue;
        }
        certificates.push(certificate(&block)?);
    }
    Ok((certificates, key))
}

/// Tells what is no PEM at all by its name.
fn refuse_other_forms(text: &[u8], wanted: PemKind) -> Result<(), PemError> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(PemError::Utf16);
    }
    // A SEQUENCE whose length takes two bytes, as of everything here that is larger than 255 bytes; a key can be
    // smaller.
    let der = match text {
        [0x30, 0x82, _, _, content @ ..] | [0x30, 0x81, _, content @ ..] => content,
        [0x30, length, content @ ..] if usize::from(*length) == content.len() => content,
        _ => return Ok(()),
    };
    let (what, convert) = match (der, wanted) {
        ([0x02, 0x01, 0x03, ..], _) => ("PKCS #12", "pkcs12 -in FILE -nodes -out FILE.pem"),
        ([0x06, ..], _) => ("PKCS #7 in DER", "pkcs7 -inform DER -in FILE -print_certs -out FILE.pem"),
        (_, PemKind::Key) => ("DER", "pkey -inform DER -in FILE -out FILE.pem"),
        _ => ("DER", "x509 -inform DER -in FILE -out FILE.pem"),
    };
    Err(PemError::Binary { what, convert })
}

fn certificate(block: &Block) -> Result<CertificateDer<'static>, PemError> {
    let convert = |what: &str, line: &str| block.other(format!("{what}: `openssl {line}` converts it"));
    match block.label.as_str() {
        CERTIFICATE | "X509 CERTIFICATE" if x509::validity(&block.der).is_some() => Ok(block.der.clone().into()),
        CERTIFICATE | "X509 CERTIFICATE" => Err(block.bad("it is no X.509 certificate")),
        "TRUSTED CERTIFICATE" => {
            Err(convert("a TRUSTED CERTIFICATE, which only OpenSSL reads", "x509 -in FILE -out FILE.pem"))
        }
        "PKCS7" => Err(convert("PKCS7", "pkcs7 -in FILE -print_certs -out FILE.pem")),
        label => Err(block.other(format!("{label}, which does not belong here: take it out of this file"))),
    }
}

fn private(block: &Block) -> Result<PrivateKeyDer<'static>, PemError> {
    if block.is_encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
        let what =
            "an encrypted private key, for which nobody can be asked: `openssl pkey -in FILE -out FILE.pem` opens it";
        return Err(block.other(what.to_owned()));
    }
    let der = block.der.clone();
    match block.label.as_str() {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        label => {
            let convert = "`openssl pkey -in FILE -out FILE.pem` may convert it";
            Err(block.other(format!("{label}, a form of key that is not read here: {convert}")))
        }
    }
}

/// What stands between a BEGIN and its END.
struct Block {
    number: usize,
    label: String,
    der: Vec<u8>,
    /// It has the header of OpenSSL's old way to encrypt.
    is_encrypted: bool,
}

impl Block {
    fn bad(&self, why: &'static str) -> PemError {
        bad(self.number, &self.label, why)
    }

    fn other(&self, what: String) -> PemError {
        PemError::Other { number: self.number, what }
    }
}

fn bad(number: usize, label: &str, why: &'static str) -> PemError {
    PemError::Bad { number, label: label.to_owned(), why }
}

/// The blocks, in their order. What stands before, between and after them is not read.
fn blocks(text: &[u8]) -> impl Iterator<Item = Result<Block, PemError>> {
    let mut lines = text.split(|byte| *byte == b'\n').map(|mut line| {
        while let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK) {
            line = rest;
        }
        line.trim_ascii()
    });
    let mut number = 0;
    std::iter::from_fn(move || {
        let line =
            lines.find(|line| line.starts_with(b"-") && [&b"BEGIN "[..], b"END "].iter().any(|w| holds(line, w)))?;
        number += 1;
        let Some(label) = between(line, b"-----BEGIN ") else {
            return match between(line, b"-----END ") {
                Some(label) => Some(Err(bad(number, &label, "its BEGIN line is missing"))),
                None => Some(Err(bad(number, "no name", "its first line is not of the form -----BEGIN …-----"))),
            };
        };
        let (mut base64, mut is_encrypted) = (Vec::new(), false);
        for line in lines.by_ref() {
            if line.starts_with(b"-----END ") {
                if between(line, b"-----END ").as_ref() != Some(&label) {
                    return Some(Err(bad(number, &label, "its END line has another name")));
                }
                let decoded = if is_encrypted { Ok(Vec::new()) } else { BASE64_STANDARD.decode(&base64) };
                return Some(match decoded {
                    Ok(der) => Ok(Block { number, label, der, is_encrypted }),
                    Err(_) => Err(bad(number, &label, "its base64 is broken")),
                });
            }
            if line.starts_with(b"-----BEGIN ") {
                break;
            }
            // RFC 1421: headers have a colon, which base64 has not.
            if line.contains(&b':') {
                is_encrypted |= line.ends_with(b"ENCRYPTED");
            } else if !is_encrypted {
                base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
            }
        }
        Some(Err(bad(number, &label, "its END line is missing")))
    })
}

/// The name in a BEGIN or END line; none where anything else stands in it, such as the whole of a key on one line.
fn between(line: &[u8], start: &[u8]) -> Option<String> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    let is_part = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" .".contains(byte);
    (label.len() <= LABEL_MAX && label.iter().all(is_part)).then(|| String::from_utf8_lossy(label).into_owned())
}

fn holds(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const BOM: &str = "\u{feff}";

    /// A certificate and its key.
    fn issued() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["pulse.lan".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_byte_order_mark_hides_nothing_wherever_it_stands() {
        let ((one, key), (two, _)) = (issued(), issued());
        let windows = one.replace('\n', "\r\n");
        for (text, count) in [
            (format!("{BOM}{one}"), 1),
            (format!("{BOM}{one}{two}"), 2),
            (format!("{BOM}{one}{BOM}{two}"), 2),
            (format!("{one}\n{BOM}{BOM}{two}"), 2),
            (format!("{BOM}{windows}"), 1),
            (format!("a comment\n{one}# another\n  {two}---\n"), 2),
            (one.replace("CERTIFICATE", "X509 CERTIFICATE"), 1),
        ] {
            assert_eq!(certificates(text.as_bytes()).unwrap().len(), count, "{text}");
        }
        assert!(private_key(format!("{BOM}{key}").as_bytes()).is_ok());
        assert!(private_key(format!("{one}{BOM}{key}").as_bytes()).is_ok(), "one file for both");
        assert_eq!(chain(format!("{key}{BOM}{one}").as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn another_form_is_told_by_its_name_with_the_line_that_converts_it() {
        let (one, key) = issued();
        let der = certificates(one.as_bytes()).unwrap()[0].to_vec();
        let key_der = private_key(key.as_bytes()).unwrap().secret_der().to_vec();
        let utf16: Vec<u8> = BOM.chars().chain(one.chars()).flat_map(|c| (c as u16).to_le_bytes()).collect();
        let pkcs12 = [&[0x30, 0x82, 0x10, 0, 2, 1, 3, 0x30], &der[..]].concat();
        for (text, words) in [
            (der.clone(), ["DER", "`openssl x509 -inform DER -in FILE -out FILE.pem`"]),
            (pkcs12, ["PKCS #12", "`openssl pkcs12 "]),
            (utf16, ["UTF-16", "save it as UTF-8"]),
            (
                one.replace("CERTIFICATE", "TRUSTED CERTIFICATE").into_bytes(),
                ["TRUSTED CERTIFICATE", "`openssl x509 -in "],
            ),
            (one.replace("CERTIFICATE", "PKCS7").into_bytes(), ["PKCS7", "`openssl pkcs7 "]),
            (Vec::new(), ["no certificate", "PEM text is expected"]),
            (b"hello\n".to_vec(), ["no certificate", "PEM text is expected"]),
        ] {
            let refused = certificates(&text).unwrap_err().to_string();
            assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        }
        let refused = private_key(&key_der).unwrap_err().to_string();
        assert!(refused.contains("DER") && refused.contains("`openssl pkey -inform DER"), "{refused}");
        let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\nAAAA\n-----END RSA \
            PRIVATE KEY-----";
        for encrypted in [encrypted.to_owned(), key.replace("PRIVATE", "ENCRYPTED PRIVATE")] {
            let refused = private_key(encrypted.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("encrypted") && refused.contains("`openssl pkey -in"), "{refused}");
        }
    }

    #[test]
    fn a_bad_block_is_told_by_its_number_and_none_is_passed_over() {
        let ((one, key), (two, _)) = (issued(), issued());
        let broken = two.replacen("MII", "M!I", 1);
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let lines: Vec<&str> = two.lines().collect();
        let one_line = key.replace('\n', "");
        for (text, words) in [
            (format!("{one}{broken}"), "block 2 in it (CERTIFICATE) cannot be read: its base64 is broken"),
            (format!("{broken}{one}"), "block 1 in it (CERTIFICATE)"),
            (
                format!("{one}{no_certificate}{two}"),
                "block 2 in it (CERTIFICATE) cannot be read: it is no X.509 certificate",
            ),
            (
                format!("{one}{}", lines[..lines.len() - 1].join("\n")),
                "block 2 in it (CERTIFICATE) cannot be read: its END",
            ),
            (format!("{one}{}", lines[1..].join("\n")), "block 2 in it (CERTIFICATE) cannot be read: its BEGIN"),
            (two.replacen("-----BEGIN", "----BEGIN", 1), "block 1 in it (no name) cannot be read: its first line"),
            (format!("{one}{key}"), "block 2 in it is PRIVATE KEY, which does not belong here"),
            (format!("{one}{}", two.replace("CERTIFICATE", "X509 CRL")), "block 2 in it is X509 CRL"),
            (one_line.clone(), "block 1 in it (no name)"),
        ] {
            let refused = certificates(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with(words), "{refused}");
            assert!(!refused.contains(&one_line[30..60]), "{refused}");
        }
        let refused = private_key(format!("{key}{one}{key}").as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with("block 3 in it is a second private key"), "{refused}");
        assert_eq!(certificates_among(format!("{broken}{one}{key}{no_certificate}{two}").as_bytes()).len(), 2);
    }
}
