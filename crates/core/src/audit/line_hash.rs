//! The hash by which a later audit finds a line again.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 of a line, as an audit prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineHash([u8; 32]);

impl FromStr for LineHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            b'A'..=b'F' => Some(byte - b'A' + 10),
            _ => None,
        };
        let digits = text.bytes().map(digit).collect::<Option<Vec<u8>>>();
        let digits = digits.filter(|digits| digits.len() == 64);
        let digits = digits.ok_or("a hash is 64 digits of 0 to 9 and a to f, as an audit prints it")?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
