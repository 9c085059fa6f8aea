//! Pulse: what a reading tells, how long it takes, and whether a ping may follow it.

use std::time::Duration;

use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading, Reason, Scope, Unknown};

use super::faults::Fault;
use super::time::{MINUTE, SECOND};
use crate::readings::{change, handed_over, unknown};
use crate::seeded::Seeded;

/// How Pulse is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Works,
    Down,
    Unauthorized,
    MissingScope,
    HalfFilled,
    Starting,
    Mock,
    Demo,
    RateLimited,
    Slow,
    /// Each reading meets another one, or none.
    Mixed,
}

const TROUBLES: [Mood; 10] = [
    Mood::Down,
    Mood::Unauthorized,
    Mood::MissingScope,
    Mood::HalfFilled,
    Mood::Starting,
    Mood::Mock,
    Mood::Demo,
    Mood::RateLimited,
    Mood::Slow,
    Mood::Mixed,
];

impl Mood {
    pub fn draw(chance: &mut Seeded) -> Self {
        TROUBLES[chance.draw(10) as usize]
    }
}

/// A reading, and what the world knows of it.
#[derive(Clone, Debug)]
pub struct Read {
    pub result: Box<Result<Reading, ReadError>>,
    pub takes: u64,
    /// What it says of Pulse's own sender, where that is known.
    pub own_sender: Option<OwnSender>,
    /// Nothing in it forbids a ping, Pulse's own sender apart.
    pub allows_a_ping: bool,
    pub faults: [Option<Fault>; 2],
}

/// Pulse, as it is configured.
#[derive(Clone, Debug)]
pub struct Pulse {
    pub mood: Mood,
    pub own_sender: OwnSender,
    /// Made once: most readings differ by two counts.
    template: Reading,
}

/// The counts of a reading say which one it was.
const GUESTS: u64 = 1_000_000;

impl Pulse {
    pub fn new() -> Self {
        Self { mood: Mood::Works, own_sender: OwnSender::OffByEnvironment, template: handed_over() }
    }

    /// The reading of that number.
    pub fn read(&self, number: u64, chance: &mut Seeded) -> Read {
        let mood = match self.mood {
            Mood::Mixed if chance.draw(2) == 0 => Mood::Works,
            Mood::Mixed => TROUBLES[chance.draw(9) as usize],
            mood => mood,
        };
        let mut reading = self.template.clone();
        if let Ok(payload) = &mut reading.payload {
            payload.vms = u32::try_from(number % GUESTS).unwrap();
            payload.containers = u32::try_from(number / GUESTS).unwrap();
        }
        reading.gate.own_sender = Ok(self.own_sender);
        let of_the_sender = match self.own_sender {
            OwnSender::On => Some(Fault::PulseReportsItself),
            OwnSender::OffBySetting => Some(Fault::PulseOptedOut),
            OwnSender::Absent | OwnSender::OffByEnvironment => None,
        };
        let mut takes = SECOND / 20 + chance.draw(2 * SECOND);
        let failure = match mood {
            Mood::Down => Some((ReadError::Unreachable("connection refused".to_owned()), Fault::PulseDown)),
            Mood::Unauthorized => Some((ReadError::Unauthorized(Credential::default()), Fault::PulseUnauthorized)),
            _ => None,
        };
        if let Some((error, fault)) = failure {
            return Read {
                result: Box::new(Err(error)),
                takes,
                own_sender: None,
                allows_a_ping: false,
                faults: [Some(fault), None],
            };
        }
        let fault = trouble(mood, &mut reading, &mut takes, chance);
        Read {
            own_sender: reading.gate.own_sender.as_ref().ok().copied(),
            allows_a_ping: matches!(mood, Mood::Works | Mood::Slow),
            takes,
            faults: [fault, of_the_sender],
            result: Box::new(Ok(reading)),
        }
    }
}

/// What a mood makes of a reading that comes about.
fn trouble(mood: Mood, reading: &mut Reading, takes: &mut u64, chance: &mut Seeded) -> Option<Fault> {
    match mood {
        Mood::Works | Mood::Mixed | Mood::Down | Mood::Unauthorized => None,
        Mood::MissingScope => {
            let scope = Reason::MissingScope(Scope::new("settings:read"));
            change(reading, |values| values.ai_enabled = Err(unknown("ai_enabled", scope.clone())));
            reading.gate.own_sender = Err(unknown("own_sender", scope));
            Some(Fault::PulseMissingScope)
        }
        Mood::HalfFilled => {
            forget_one(reading, chance);
            Some(Fault::PulseHalfFilled)
        }
        Mood::Starting => {
            reading.gate.starting = Ok(true);
            Some(Fault::PulseStarting)
        }
        Mood::Mock => {
            reading.gate.mock_mode = Ok(true);
            Some(Fault::PulseMock)
        }
        Mood::Demo => {
            reading.gate.demo_mode = Ok(true);
            Some(Fault::PulseDemo)
        }
        Mood::RateLimited => {
            let retry_after = [0, SECOND, 30 * SECOND, 10 * MINUTE, 60 * MINUTE][chance.draw(5) as usize];
            change(reading, |values| values.ai_enabled = Err(unknown("ai_enabled", Reason::RateLimited)));
            reading.retry_after = (retry_after > 0).then(|| Duration::from_nanos(retry_after));
            Some(Fault::PulseRateLimited)
        }
        Mood::Slow => {
            *takes = SECOND + chance.draw(10 * MINUTE);
            Some(Fault::PulseSlow)
        }
    }
}

/// One value could not be read.
fn forget_one(reading: &mut Reading, chance: &mut Seeded) {
    let reason =
        [Reason::Status(500), Reason::TimedOut, Reason::NotJson, Reason::CutShort][chance.draw(4) as usize].clone();
    let because = |what| -> Unknown { unknown(what, reason.clone()) };
    match chance.draw(9) {
        0 => change(reading, |values| values.version = Err(because("version"))),
        1 => change(reading, |values| values.pve_nodes = Err(because("pve_nodes"))),
        2 => change(reading, |values| values.vms = Err(because("vms"))),
        3 => change(reading, |values| values.paid_license = Err(because("paid_license"))),
        4 => change(reading, |values| values.has_api_tokens = Err(because("has_api_tokens"))),
        5 => reading.gate.mock_mode = Err(because("mock_mode")),
        6 => reading.gate.demo_mode = Err(because("demo_mode")),
        7 => reading.gate.starting = Err(because("starting")),
        _ => reading.gate.own_sender = Err(because("own_sender")),
    }
}

/// Which reading the ping of these bytes was built from.
pub fn number_of(body: &str) -> u64 {
    count(body, "\"containers\":") * GUESTS + count(body, "\"vms\":")
}

fn count(body: &str, key: &str) -> u64 {
    let at = body.find(key).unwrap() + key.len();
    body[at..].bytes().take_while(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// The ID in the bytes of a ping.
pub fn id_of(body: &str) -> &str {
    let rest = body.strip_prefix("{\"install_id\":\"").unwrap();
    &rest[..rest.find('"').unwrap()]
}
