//! The digest by which bodies, lines and IDs are told.

use ring::digest::{SHA256, digest};

/// The SHA-256 in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 0xf)]);
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}
