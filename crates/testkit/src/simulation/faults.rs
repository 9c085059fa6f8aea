//! What may go wrong, and how often it does.

use super::time::{DAY, HOUR, MINUTE};
use crate::seeded::Seeded;

macro_rules! faults {
    ($($name:ident => $words:literal,)*) => {
        /// A kind of fault. It is counted when the engine meets it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($name,)*
        }

        /// All of them, with their names.
        pub const FAULTS: &[(Fault, &str)] = &[$((Fault::$name, $words),)*];
    };
}

faults! {
    Crash => "crash at any moment",
    CrashBetweenActions => "crash between two actions",
    TornWrite => "crash in the middle of a write",
    PowerLoss => "power loss in the middle of a write",
    CrashLoop => "crash in a crash loop",
    OperatorRestart => "restart by the operator",
    EnvironmentChanged => "restart with another opt-out in the environment",
    Reboot => "reboot",
    BootIn1970 => "boot without a clock, in 1970",
    ClockSlewed => "clock step of less than a minute",
    ClockForward => "clock step forward",
    ClockBack => "clock step back",
    ClockTenYears => "clock ten years ahead",
    ClockReset => "clock set right",
    Suspend => "suspend",
    DiskFull => "write to a full disk",
    DiskReadOnly => "write to a read-only disk",
    WriteError => "write error",
    ErrorAfterWrite => "write error after the write was done",
    DiskHangs => "write to a disk that hangs",
    StartFails => "start with a disk that fails",
    LedgerVanishes => "ledger removed while it is open",
    LedgerReplaced => "ledger replaced while it is open",
    LedgerCut => "ledger cut short while it is open",
    LedgerLengthened => "ledger written to by somebody else",
    LockVanishes => "lock removed or replaced while it is held",
    StateLost => "state file lost",
    IdLost => "ID file lost",
    LedgerLost => "ledger lost",
    EndpointSlow => "endpoint answers late",
    Refused => "endpoint refuses connections",
    CutShort => "endpoint resets the connection",
    TimedOut => "endpoint never answers",
    AnswerLost => "endpoint stores and the answer is lost",
    GarbageStatus => "endpoint answers nonsense",
    Redirected => "endpoint redirects",
    ClientError => "endpoint refuses the ping",
    ServerError => "endpoint answers 5xx",
    RateLimited => "endpoint answers 408, 425 or 429",
    RetryAfterSeconds => "Retry-After in seconds",
    RetryAfterDate => "Retry-After as a date",
    RetryAfterNonsense => "Retry-After that is nonsense",
    PulseDown => "Pulse is down",
    PulseUnauthorized => "Pulse refuses the token",
    PulseMissingScope => "Pulse misses a scope",
    PulseHalfFilled => "Pulse tells a part only",
    PulseStarting => "Pulse is starting",
    PulseMock => "Pulse shows mock data",
    PulseDemo => "Pulse is a demo",
    PulseReportsItself => "Pulse reports itself",
    PulseOptedOut => "Pulse is opted out in its settings",
    PulseRateLimited => "Pulse answers 429",
    PulseSlow => "Pulse answers late",
    SwitchedOff => "switched off",
    SwitchedOffByHand => "switched off by a file",
    SwitchedOn => "switched on",
    Reset => "reset of the ID",
    Forget => "deletion of all that was sent asked for",
    ForgetCancelled => "deletion cancelled",
    Viewer => "somebody else reads Pulse",
    DuringReading => "something happens while Pulse is read",
    DuringSend => "something happens while a send is under way",
    DuringDeletion => "something happens while a deletion is under way",
}

/// How an installation is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    Calm,
    Ordinary,
    Hostile,
    Raging,
}

impl Temper {
    pub fn of(chance: &mut Seeded) -> Self {
        match chance.draw(100) {
            0..50 => Self::Calm,
            50..85 => Self::Ordinary,
            85..98 => Self::Hostile,
            _ => Self::Raging,
        }
    }

    /// The mean time between two happenings.
    pub fn pause(self) -> u64 {
        match self {
            Self::Calm => 40 * DAY,
            Self::Ordinary => 6 * DAY,
            Self::Hostile => 15 * HOUR,
            Self::Raging => 25 * MINUTE,
        }
    }

    /// How many in a thousand readings and sends have something happen meanwhile.
    pub fn ambushes(self) -> u64 {
        match self {
            Self::Calm => 2,
            Self::Ordinary => 10,
            Self::Hostile => 60,
            Self::Raging => 150,
        }
    }

    /// How many in ten thousand lists of actions are cut short by a crash.
    pub fn crashes(self) -> u64 {
        match self {
            Self::Calm => 1,
            Self::Ordinary => 10,
            Self::Hostile => 60,
            Self::Raging => 150,
        }
    }
}

/// A time between the two, each doubling of it as likely as the next.
pub fn spread(chance: &mut Seeded, least: u64, most: u64) -> u64 {
    let doublings = u64::from((most / least).ilog2());
    let from = least << chance.draw(doublings + 1);
    (from + chance.draw(from)).min(most)
}
