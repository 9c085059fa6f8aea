//! What the service manager is told: that the program is ready, that it lives, that it stops.
//!
//! systemd names its socket, and how often it wants to hear, in the environment, where `sd-notify` looks for them
//! itself. Where there is none, nobody is told anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The service manager that started this process and watches it, or none.
#[derive(Debug)]
pub struct Supervisor {
    is_there: bool,
    /// When to say that the program lives; none where the service manager has no watchdog for it.
    beats: Option<Interval>,
}

impl Supervisor {
    /// The service manager of this process. To be called within a runtime.
    #[must_use]
    pub fn of_this_process() -> Self {
        // Twice in the time, so that one that comes late is no reason to kill. A watchdog of zero is none.
        let period = sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| *half > Duration::ZERO);
        let beats = period.map(|period| {
            let mut beats = interval(period);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        Self { is_there: true, beats }
    }

    /// Nobody: for a program within another one, such as a test.
    #[must_use]
    pub fn nobody() -> Self {
        Self { is_there: false, beats: None }
    }

    /// The program does its work from now on.
    pub fn ready(&self) {
        self.tell(&NotifyState::Ready);
    }

    /// The program was asked to stop, and does.
    pub fn stopping(&self) {
        self.tell(&NotifyState::Stopping);
    }

    /// Waits until it is time to say that the program lives, and says it. It belongs into the very loop that must not
    /// hang, and nowhere else. Dropped before it is ready it loses nothing; without a watchdog it is never ready.
    pub async fn beat(&mut self) {
        match &mut self.beats {
            Some(beats) => beats.tick().await,
            None => std::future::pending().await,
        };
        self.tell(&NotifyState::Watchdog);
    }

    fn tell(&self, state: &NotifyState<'_>) {
        if self.is_there
            && let Err(error) = sd_notify::notify(std::slice::from_ref(state))
        {
            tracing::warn!(%error, "failed to tell the service manager how this program is");
        }
    }
}
