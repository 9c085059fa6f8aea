//! The endpoint: what it answers, when, and whether it stored the ping.

use std::time::{Duration, SystemTime};

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::engine::{ForgetAnswer, KeptReceipt};
use pulse_telemetry_core::receipt::ReceiptStanding;
use pulse_telemetry_core::verdict::{Answer, Verdict};

use super::faults::Fault;
use super::time::SECOND;
use crate::seeded::Seeded;

/// How the endpoint behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Works,
    Always(Trouble),
    /// Each attempt meets another one, or none.
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Slow,
    Refuses,
    CutsShort,
    TimesOut,
    LosesAnswers,
    Garbage,
    Redirects,
    ClientError,
    ServerError,
    RateLimits,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::Slow,
    Trouble::Refuses,
    Trouble::CutsShort,
    Trouble::TimesOut,
    Trouble::LosesAnswers,
    Trouble::Garbage,
    Trouble::Redirects,
    Trouble::ClientError,
    Trouble::ServerError,
    Trouble::RateLimits,
];

impl Mood {
    pub fn draw(chance: &mut Seeded) -> Self {
        match chance.draw(4) {
            0 => Self::Mixed,
            _ => Self::Always(pick(chance, &TROUBLES)),
        }
    }
}

/// What an attempt meets.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub answer: Answer,
    /// How long it takes.
    pub takes: u64,
    pub stored: bool,
    /// For how long the endpoint asks for silence, as far as that does not depend on the sidecar's clock.
    pub retry_after: RetryAfter,
    pub faults: [Option<Fault>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    None,
    Seconds(u64),
    /// Seconds since 1970, by the endpoint's clock.
    Date(i64),
}

/// What comes of an attempt, at that true time in seconds since 1970.
pub fn meet(mood: Mood, chance: &mut Seeded, true_seconds: i64) -> Outcome {
    let trouble = match mood {
        Mood::Works => None,
        Mood::Always(trouble) => Some(trouble),
        Mood::Mixed => (chance.draw(3) > 0).then(|| pick(chance, &TROUBLES)),
    };
    let takes = SECOND / 50 + chance.draw(SECOND);
    let stored = Outcome {
        answer: status(pick(chance, &[200, 202, 204]), None),
        takes,
        stored: true,
        retry_after: RetryAfter::None,
        faults: [None; 2],
    };
    let Some(trouble) = trouble else { return stored };
    let failed = |answer, fault| Outcome { answer, stored: false, faults: [Some(fault), None], ..stored };
    match trouble {
        Trouble::Slow => Outcome { takes: SECOND + chance.draw(9 * SECOND), ..with(stored, Fault::EndpointSlow) },
        Trouble::Refuses => failed(Answer::NoConnection("connection refused".to_owned()), Fault::Refused),
        Trouble::CutsShort => failed(Answer::CutShort, Fault::CutShort),
        Trouble::TimesOut => Outcome { takes: 10 * SECOND, ..failed(Answer::TimedOut, Fault::TimedOut) },
        Trouble::LosesAnswers => {
            let answer = pick(chance, &[Answer::CutShort, Answer::TimedOut, status(502, None), status(504, None)]);
            Outcome { answer, takes: 10 * SECOND, ..with(stored, Fault::AnswerLost) }
        }
        Trouble::Garbage => {
            failed(status(pick(chance, &[0, 1, 99, 100, 101, 199, 600, 999, 65_535]), None), Fault::GarbageStatus)
        }
        Trouble::Redirects => {
            failed(status(pick(chance, &[300, 301, 302, 303, 304, 307, 308]), None), Fault::Redirected)
        }
        Trouble::ClientError => {
            failed(status(pick(chance, &[400, 401, 403, 404, 410, 413, 422]), None), Fault::ClientError)
        }
        Trouble::ServerError => {
            let code = pick(chance, &[500, 501, 502, 503, 503, 503, 504, 599]);
            later(code, Fault::ServerError, stored, chance, true_seconds)
        }
        Trouble::RateLimits => {
            let code = pick(chance, &[408, 425, 429, 429, 429]);
            later(code, Fault::RateLimited, stored, chance, true_seconds)
        }
    }
}

/// What comes of asking for a deletion, and how long it takes: what a ping would meet, where it is offered.
pub fn delete(mood: Mood, chance: &mut Seeded, true_seconds: i64, is_offered: bool, now: Now) -> (u64, ForgetAnswer) {
    let outcome = meet(mood, chance, true_seconds);
    let answer = match outcome.answer.verdict(now.wall) {
        Verdict::Delivered if is_offered => ForgetAnswer::Done(receipt()),
        Verdict::Delivered => ForgetAnswer::NotOffered,
        Verdict::Retry { after, .. } => ForgetAnswer::Failed { after },
        Verdict::Drop { .. } if outcome.answer.status() == Some(404) => ForgetAnswer::NoContract,
        Verdict::Drop { .. } => ForgetAnswer::Failed { after: None },
    };
    (outcome.takes, answer)
}

/// The endpoint's word.
pub fn receipt() -> KeptReceipt {
    KeptReceipt { standing: ReceiptStanding::Verified, text: Some("the endpoint's word".to_owned()) }
}

/// An answer that asks for another try, mostly with a `Retry-After`.
fn later(code: u16, fault: Fault, base: Outcome, chance: &mut Seeded, true_seconds: i64) -> Outcome {
    let (retry_after, text, how) = match chance.draw(5) {
        0 | 1 => {
            let seconds = pick(chance, &[0, 1, 30, 120, 900, 3600, 7200, 43_200, 86_400, 100_000, u64::MAX]);
            (RetryAfter::Seconds(seconds), Some(seconds.to_string()), Some(Fault::RetryAfterSeconds))
        }
        2 => {
            let at = true_seconds + pick(chance, &[-86_400, 0, 60, 3600, 20_000, 80_000, 400_000]);
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(at.try_into().unwrap());
            (RetryAfter::Date(at), Some(httpdate::fmt_http_date(date)), Some(Fault::RetryAfterDate))
        }
        3 => {
            let nonsense = pick(chance, &["", "soon", "-5", "1.5", "12 h", "Thu, 99 Foo 2026 00:00:00 GMT", "\u{661}"]);
            (RetryAfter::None, Some(nonsense.to_owned()), Some(Fault::RetryAfterNonsense))
        }
        _ => (RetryAfter::None, None, None),
    };
    Outcome { answer: status(code, text), stored: false, retry_after, faults: [Some(fault), how], ..base }
}

fn status(code: u16, retry_after: Option<String>) -> Answer {
    Answer::Status { code, retry_after }
}

fn with(outcome: Outcome, fault: Fault) -> Outcome {
    Outcome { faults: [Some(fault), None], ..outcome }
}

fn pick<T: Clone>(chance: &mut Seeded, from: &[T]) -> T {
    from[chance.draw(from.len() as u64) as usize].clone()
}
