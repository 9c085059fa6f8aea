//! A file that holds one secret, and the reading of it.

use std::io;
use std::path::PathBuf;

use pulse_telemetry_http::file::read_bounded;
use secrecy::SecretString;

use super::checker::Checker;
use super::error::Problem;

/// The most bytes a token file may have. Pulse's tokens have 64 characters; a larger file is something else.
const FILE_MAX: u64 = 4096;

const EMPTY: &str = "must hold one token: visible ASCII characters on one line, and it is empty";
const LINES: &str = "must hold one token: visible ASCII characters on one line, and it has more than one line";
const WORDS: &str = "must hold one token: visible ASCII characters on one line, and it has more than one word (take \
    what stands before the token, such as Bearer or token:, away)";
const STRANGE: &str =
    "must hold one token: visible ASCII characters on one line, and it has others (write the token anew)";

/// How the origin of a credential of systemd begins.
pub const SYSTEMD: &str = "systemd credential";

/// What was found instead of a bare token, and what to do. Nothing of it is ever shown.
const QUOTED: &str = "has quotation marks around the token: take them away, for they would be sent with it";
const ASSIGNED: &str =
    "holds an assignment, such as PULSE_TOKEN=… or export PULSE_TOKEN=…: leave the token alone in it";
const UTF_16: &str = "is UTF-16, as > of PowerShell writes it: save it as UTF-8 or ASCII (Set-Content -Encoding ascii)";

/// A file that holds one token and perhaps white space around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The key that names it.
    pub key: String,
    /// Where that key's value comes from.
    pub origin: String,
}

impl TokenFile {
    /// The file that `key` names in `written`. The outer `None` stands for a refused path, the inner for no path.
    pub fn check_optional(check: &mut Checker<'_>, key: &str, written: &str) -> Option<Option<Self>> {
        if written.is_empty() { Some(None) } else { Self::check(check, key, written).map(Some) }
    }

    /// The file that `key` names in `written`. Only what is clearly a path is taken for one, because paths are shown in
    /// messages, and a token written here by mistake must not be.
    pub fn check(check: &mut Checker<'_>, key: &str, written: &str) -> Option<Self> {
        let is_path = ["/", "./", "../"].iter().any(|start| written.starts_with(start));
        let secret = match key {
            _ if key.contains("password") => "password",
            _ if key.contains("key") => "key",
            _ => "token",
        };
        let path = is_path.then(|| PathBuf::from(written)).ok_or_else(|| {
            format!(
                "must be the path of a file that holds the {secret}, and start with / or ./ \
                 (what is written there is not shown, in case it is the {secret} itself)"
            )
        });
        let path = check.accept(key, written, path)?;
        Some(Self { path, key: key.to_owned(), origin: check.origin(key) })
    }

    /// The token in the file, without the white space around it.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one token. What it holds is not told.
    pub fn read(&self) -> Result<SecretString, Problem> {
        parse_token(&self.bytes()?).map_err(|what| self.problem(what.to_owned()))
    }

    /// The bytes of a file in PEM.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_pem(&self) -> Result<Vec<u8>, Problem> {
        self.bytes()
    }

    fn bytes(&self) -> Result<Vec<u8>, Problem> {
        read_bounded(&self.path, FILE_MAX).map_err(|error| self.unreadable(&error))
    }

    /// The system's words, and what to do.
    #[must_use]
    pub fn unreadable(&self, error: &io::Error) -> Problem {
        let advice = match error.kind() {
            _ if self.origin.starts_with(SYSTEMD) => {
                ". Look at LoadCredential= and its file in the unit (systemctl cat pulse-telemetry), and restart it"
            }
            io::ErrorKind::PermissionDenied => {
                ". The user of this process has to be able to read it; it is read at a start only"
            }
            io::ErrorKind::NotFound => ". Write it, or name another one; it is read at a start only",
            _ => "",
        };
        self.problem(format!("cannot be read: {error}{advice}"))
    }

    /// The password in the file: the text of its one line, blanks included, without its end.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one line of text. What it holds is not told.
    pub fn read_password(&self) -> Result<SecretString, Problem> {
        let bytes = self.bytes()?;
        let text = text_of(&bytes, "must hold the password in UTF-8").map_err(|what| self.problem(what.to_owned()))?;
        let line = text.trim_end_matches(['\r', '\n']);
        let is_password = !line.is_empty() && !line.contains(['\r', '\n', '\0']);
        let accepted = "must hold one password: any text, on one line";
        is_password.then(|| SecretString::from(line)).ok_or_else(|| self.problem(accepted.to_owned()))
    }

    /// What is wrong with the file. What it holds is not told.
    #[must_use]
    pub fn problem(&self, accepted: String) -> Problem {
        let value = Some(format!("{:?}", self.path.display().to_string()));
        Problem { value, ..Problem::new(&self.key, accepted).with_origin(&self.origin) }
    }
}

/// The token that a variable holds.
///
/// # Errors
/// It does not hold one token. What it holds is not told.
pub fn token_of_variable(name: &str, value: &str) -> Result<SecretString, Problem> {
    parse_token(value.as_bytes()).map_err(|what| Problem::new(&format!("environment variable {name}"), what))
}

/// The token in `bytes`, which becomes part of a header's value; else what was found.
fn parse_token(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = text_of(bytes, STRANGE)?;
    if text.lines().any(is_assignment) {
        return Err(ASSIGNED);
    }
    if text.trim().starts_with(QUOTES) || text.trim().ends_with(QUOTES) {
        return Err(QUOTED);
    }
    let word = text.trim();
    Err(match () {
        () if word.is_empty() => EMPTY,
        () if word.lines().count() > 1 => LINES,
        () if word.contains([' ', '\t']) => WORDS,
        () if !word.bytes().all(|byte| byte.is_ascii_graphic()) => STRANGE,
        () => return Ok(SecretString::from(word)),
    })
}

/// The text of a file without a byte order mark; `otherwise` is said of what is no text.
fn text_of<'a>(bytes: &'a [u8], otherwise: &'static str) -> Result<&'a str, &'static str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let is_ascii_in_pairs = !bytes.is_empty() && bytes.chunks(2).all(|pair| pair.len() == 2 && pair.contains(&0));
    if is_marked || is_ascii_in_pairs { Err(UTF_16) } else { std::str::from_utf8(bytes).map_err(|_| otherwise) }
}

/// Quotation marks, those that an editor makes of them included.
const QUOTES: [char; 9] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}'];

/// Whether a line sets a variable, as a shell or a file of variables does. A token may have `=` in it, as in base64, so
/// the name has to be one that people give to a variable.
fn is_assignment(line: &str) -> bool {
    let line = line.trim();
    let words = ["export ", "set ", "$env:"];
    let (line, is_command) =
        words.into_iter().find_map(|word| Some((line.strip_prefix(word)?.trim_start(), true))).unwrap_or((line, false));
    let Some((name, value)) = line.split_once('=') else { return false };
    let name = name.trim_end();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_part);
    let is_padding = value.bytes().all(|byte| byte == b'=');
    let is_upper = name.len() >= 3 && !is_padding && !name.contains(|c: char| c.is_ascii_lowercase());
    is_name && (is_command || is_upper || name.to_ascii_lowercase().contains("token"))
}
