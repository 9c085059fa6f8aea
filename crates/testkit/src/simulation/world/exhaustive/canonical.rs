//! What a state means: times are relative to now, IDs and readings are numbered as they appear, and sequence numbers,
//! hashes and what is only shown are left out.
//!
//! It is made of what engine, state directory and rules print for a developer, so that nothing that they come to hold
//! is forgotten here: what is not named below counts.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::Now;

use super::super::super::pulse::{id_of, number_of};
use super::super::super::saboteurs::Saboteur;
use super::super::World;

/// Fields that decide nothing: identities of files, places in the ledger, what is the same in every state, and what is
/// only shown.
const LEFT_OUT: [&str; 26] = [
    "candidate",
    "chance",
    "schedule",
    "started",
    "last",
    "last_seen",
    "last_seq",
    "seq",
    "hash",
    "prev",
    "id",
    "length",
    "notices",
    "fs",
    "dir",
    "file",
    "_held",
    "delivered",
    "id_file",
    "state_file",
    "ledger_file",
    "read",
    "last_bytes",
    "state_text",
    "looked_at",
    "confirmed_at",
];

/// Hands out what the state means.
pub(super) fn write<S: Saboteur>(world: &World<S>, out: &mut dyn FnMut(&str)) {
    let mut text = String::with_capacity(4096);
    let disk = &world.disk;
    let ledger_of_state = disk.fs.read("state.json").is_some_and(|state| {
        let known = format!("\"seq\":{},", disk.last_seq());
        state.windows(known.len()).any(|window| window == known.as_bytes())
    });
    let process = world.process.as_ref().map(|process| {
        let sending = process.sending.as_ref().map(|sending| &sending.body);
        let deleting = process.deleting.as_ref().map(|deleting| &deleting.id);
        (&process.engine, process.reading.is_some(), sending, deleting)
    });
    let _ = write!(
        text,
        "{process:?} {disk:?} {ledger_of_state} {:?} {:?} {:?} {:?} {:?}",
        disk.fs.outline(),
        disk.fs.mood(),
        world.pulse.own_sender,
        world.clock.offset,
        world.rules.relative(world.at),
    );
    Canonical { now: world.now(), newest: world.readings, ids: Vec::new(), out }.write(&text);
}

struct Canonical<'a> {
    now: Now,
    newest: u64,
    ids: Vec<String>,
    out: &'a mut dyn FnMut(&str),
}

impl Canonical<'_> {
    fn write(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let end = match byte {
                b'"' => end_of_string(bytes, at),
                byte if is_of_a_word(*byte) => end_of_word(bytes, at),
                _ => at + 1,
            };
            let token = &text[at..end];
            at = end;
            if bytes.get(at..at + 2) == Some(b": ") && LEFT_OUT.contains(&token) {
                at = end_of_value(bytes, at + 2);
                continue;
            }
            // The same in JSON.
            if token == "\"last\"" && bytes.get(at) == Some(&b':') {
                at = end_of_value(bytes, at + 1);
                continue;
            }
            self.token(token);
        }
    }

    fn token(&mut self, token: &str) {
        let first = token.as_bytes()[0];
        if first == b'"' {
            self.string(token);
        } else if let Some(time) = Some(token).filter(|t| t.ends_with('Z')).and_then(|t| t.parse::<Timestamp>().ok()) {
            self.number(time.duration_since(self.now.wall).as_secs());
        } else if let Some(time) = Some(token).filter(|_| first.is_ascii_digit()).and_then(duration) {
            // What has passed has passed.
            let left = time.saturating_sub(self.now.mono);
            self.number(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
        } else {
            (self.out)(token);
        }
    }

    fn string(&mut self, token: &str) {
        let content = &token[1..token.len() - 1];
        if content.starts_with("{\\\"install_id") {
            let body = content.replace("\\\"", "\"");
            self.id(id_of(&body));
            (self.out)(if body.contains("\"event\":\"startup\"") { "startup" } else { "heartbeat" });
            self.number(self.newest as i64 - number_of(&body) as i64);
        } else if let Some(time) =
            Some(content).filter(|it| it.ends_with('Z')).and_then(|it| it.parse::<Timestamp>().ok())
        {
            self.number(time.duration_since(self.now.wall).as_secs());
        } else if content.starts_with("{\\\"") {
            // JSON within a value.
            self.write(&unescaped(content));
        } else if content.len() == 36 && content.as_bytes()[8] == b'-' {
            self.id(content);
        } else {
            (self.out)(content);
        }
    }

    fn id(&mut self, id: &str) {
        let place = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        });
        self.number(place as i64);
    }

    fn number(&mut self, number: i64) {
        (self.out)(&number.to_string());
    }
}

fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | 0x80..)
}

fn unescaped(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    let mut characters = content.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

/// A time has colons in it.
fn end_of_word(bytes: &[u8], begin: usize) -> usize {
    let is_inside = |at: usize| {
        let is_in_a_time = || bytes[at] == b':' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        is_of_a_word(bytes[at]) || is_in_a_time()
    };
    (begin..bytes.len()).find(|at| !is_inside(*at)).unwrap_or(bytes.len())
}

fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Where the value ends that begins there.
fn end_of_value(bytes: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' if depth == 0 => break,
            b'}' | b')' | b']' => depth -= 1,
            b',' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    at
}

/// A duration as it is printed.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = [("ns", 1e-9), ("\u{b5}s", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|number| (number, seconds)))?;
    number.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * unit).ok())
}
