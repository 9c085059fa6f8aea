//! Durations as people write them.

use std::time::Duration;

const ACCEPTED: &str = r#"must be a duration with its unit, such as "90s", "24h" or "1h30m" (units: d, h, m, s, ms)"#;

const TOO_LONG: &str = "must be a duration that is not longer than 500 million years";

/// Milliseconds in each unit, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `500ms`, `10s`, `2m`, `24h`, `30d` or several of them, longest unit first: `1h30m`.
///
/// # Errors
/// What is accepted instead, in words.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    if text.is_empty() {
        return Err(ACCEPTED);
    }
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = cut(rest, |c| !c.is_ascii_digit());
        let (unit, after) = cut(after, |c| c.is_ascii_digit());
        let place = units.iter().position(|(name, _)| *name == unit).ok_or(ACCEPTED)?;
        if number.is_empty() {
            return Err(ACCEPTED);
        }
        let number: u64 = number.parse().map_err(|_| TOO_LONG)?;
        millis = number.checked_mul(units[place].1).and_then(|more| millis.checked_add(more)).ok_or(TOO_LONG)?;
        units = &units[place + 1..];
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Cuts `text` in front of the first character for which `ends` holds.
fn cut(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}
