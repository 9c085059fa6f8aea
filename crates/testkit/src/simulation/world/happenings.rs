//! What happens to an installation: faults, and people.

use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::Input;
use pulse_telemetry_core::observation::OwnSender;

use super::super::disk::{Lost, draw_mood};
use super::super::endpoint;
use super::super::faults::{Fault, spread};
use super::super::pulse;
use super::super::saboteurs::Saboteur;
use super::super::time::{DAY, HOUR, MINUTE, NEVER, SECOND, YEAR};
use super::{Died, Held, SLEW, WRONG_MOST, World, fixed};
use crate::memory_fs::{Mood, Vandalism};
use crate::seeded::Seeded;

impl<S: Saboteur> World<S> {
    pub(super) fn on_world(&mut self, due: u64) -> Held<Result<(), Died>> {
        let came = if due == self.starts_at {
            self.starts_at = NEVER;
            self.start()?
        } else if due == self.ambush_at {
            self.ambush_at = NEVER;
            self.something_happens()?
        } else if due == self.crashes_at {
            self.crashes_at = NEVER;
            Err(Died)
        } else if due == self.reboots_at {
            self.reboots_at = self.at + DAY - self.chance.draw(2 * MINUTE);
            self.meet(Fault::Reboot);
            self.reboot()
        } else if due == self.clock_set_at {
            self.clock_set_at = NEVER;
            self.meet(Fault::ClockReset);
            self.clock.offset = 0;
            Ok(())
        } else if due == self.disk_works_at {
            self.disk_works_at = NEVER;
            self.disk.fs.set_mood(Mood::Works);
            Ok(())
        } else if due == self.endpoint_works_at {
            self.endpoint_works_at = NEVER;
            self.endpoint = endpoint::Mood::Works;
            Ok(())
        } else if due == self.pulse_works_at {
            self.pulse_works_at = NEVER;
            self.pulse.mood = pulse::Mood::Works;
            Ok(())
        } else {
            self.happens_at = self.at + self.pause();
            self.something_happens()?
        };
        self.look_at_consent();
        Ok(came)
    }

    /// Whether anything is wrong that keeps pings from arriving.
    pub(super) fn look_at_consent(&mut self) {
        let is_forced_on = Sources { fixed: self.fixed, ..Sources::default() }.is_forced_on();
        let off_in_pulse = match self.pulse.own_sender {
            OwnSender::OffBySetting => true,
            OwnSender::On => !is_forced_on,
            OwnSender::Absent | OwnSender::OffByEnvironment => false,
        };
        let disturbed = off_in_pulse
            || self.rules.consent.is_off()
            || self.disk.switched_off
            || !self.disk.works()
            || self.endpoint != endpoint::Mood::Works
            || self.pulse.mood != pulse::Mood::Works
            || self.clock_set_at != NEVER
            || self.crashes_left > 0;
        self.rules.set_disturbed(self.at, disturbed);
    }

    pub(super) fn something_happens(&mut self) -> Held<Result<(), Died>> {
        let draw = self.chance.draw(100);
        // A crash or a restart by itself must not keep the heartbeat from going.
        if draw >= 12 {
            self.rules.disturb(self.at);
        }
        match draw {
            0..6 => {
                self.meet(Fault::Crash);
                return Ok(if self.process.is_some() { Err(Died) } else { Ok(()) });
            }
            6..12 => return self.restart_by_the_operator(),
            12..16 => {
                self.meet(Fault::Reboot);
                return Ok(self.reboot());
            }
            16..18 => {
                self.crashes_left = 1 + self.chance.draw(60);
                if self.chance.draw(2) == 0 {
                    self.endpoint = endpoint::Mood::draw(&mut self.chance);
                    self.endpoint_works_at = self.at + spread(&mut self.chance, HOUR, DAY);
                }
                return Ok(if self.process.is_some() { Err(Died) } else { Ok(()) });
            }
            18..30 => self.step_the_clock(),
            30..34 => self.suspend(),
            34..41 => {
                let mood = draw_mood(&mut self.chance);
                self.disk.fs.set_mood(mood);
                self.disk_works_at = self.at + spread(&mut self.chance, MINUTE, 10 * DAY);
            }
            41..43 => return Ok(self.lose_a_file()),
            43 => self.vandalise(),
            44..76 => self.trouble_a_server(draw),
            76..84 if self.disk.switched_off => {
                self.meet(Fault::SwitchedOn);
                return self.switch_on();
            }
            76..80 => {
                self.meet(Fault::SwitchedOff);
                if self.process.is_some() {
                    return Ok(self.switch(true)?.map(|_| ()));
                }
                self.disk.turn_by_hand(true);
            }
            80..84 => {
                self.meet(Fault::SwitchedOffByHand);
                self.disk.turn_by_hand(true);
            }
            84..92 => {
                self.meet(Fault::Reset);
                if self.process.is_some() {
                    return self.reset();
                }
            }
            92..94 => return self.forget(),
            94 => return self.cancel_forgetting(),
            _ => return self.somebody_looks(),
        }
        Ok(Ok(()))
    }

    fn somebody_looks(&mut self) -> Held<Result<(), Died>> {
        self.meet(Fault::Viewer);
        let read = self.pulse.read(self.readings, &mut self.chance);
        if let (Some(own_sender), true) = (read.own_sender, self.process.is_some()) {
            self.told_of_the_own_sender(Some(own_sender));
            return Ok(self.feed(Input::OwnSender(own_sender))?.map(|_| ()));
        }
        Ok(Ok(()))
    }

    /// The endpoint or Pulse is in another mood for a while, or Pulse's own sender is switched.
    fn trouble_a_server(&mut self, draw: u64) {
        match draw {
            44..58 => {
                self.endpoint = endpoint::Mood::draw(&mut self.chance);
                self.endpoint_works_at = self.at + spread(&mut self.chance, MINUTE, 40 * DAY);
            }
            58..70 => {
                self.pulse.mood = pulse::Mood::draw(&mut self.chance);
                self.pulse_works_at = self.at + spread(&mut self.chance, MINUTE, 20 * DAY);
            }
            _ => {
                let choices = [OwnSender::On, OwnSender::OffBySetting];
                self.pulse.own_sender = match self.pulse.own_sender {
                    OwnSender::OffByEnvironment | OwnSender::Absent => choices[self.chance.draw(2) as usize],
                    _ => OwnSender::OffByEnvironment,
                };
            }
        }
    }

    /// As the daemon does: on that is not on the disk is not on.
    pub(super) fn switch_on(&mut self) -> Held<Result<(), Died>> {
        if self.process.is_none() {
            self.disk.turn_by_hand(false);
            return Ok(Ok(()));
        }
        match self.switch(false)? {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(self.switch(true)?.map(|_| ())),
            Err(Died) => Ok(Err(Died)),
        }
    }

    pub(super) fn restart_by_the_operator(&mut self) -> Held<Result<(), Died>> {
        self.meet(Fault::OperatorRestart);
        if self.process.is_none() {
            return Ok(Ok(()));
        }
        if self.chance.draw(4) == 0 {
            self.meet(Fault::EnvironmentChanged);
            self.rules.disturb(self.at);
            self.fixed = fixed(&mut self.chance);
        }
        self.stop()
    }

    pub(super) fn reboot(&mut self) -> Result<(), Died> {
        let ran = self.process.is_some();
        let before = self.at;
        if ran {
            self.process_ends();
        }
        self.starts_at = before + spread(&mut self.chance, 20 * SECOND, 8 * MINUTE);
        self.clock.reboot(before, self.has_battery);
        if !self.has_battery {
            self.meet(Fault::BootIn1970);
            self.rules.disturb(self.at);
            // Mostly the time comes from the network soon; sometimes late.
            let soon = self.chance.draw(8) > 0;
            let most = if soon { 5 * MINUTE } else { 3 * DAY };
            self.clock_set_at = before + spread(&mut self.chance, SECOND, most);
        }
        Ok(())
    }

    pub(super) fn step_the_clock(&mut self) {
        let ahead = |chance: &mut Seeded, most| spread(chance, 2 * MINUTE, most) as i64;
        match self.chance.draw(6) {
            0 | 1 => {
                self.meet(Fault::ClockSlewed);
                self.clock.offset += self.chance.draw(2 * SLEW as u64) as i64 - SLEW;
            }
            2 | 3 => {
                self.meet(Fault::ClockForward);
                self.clock.offset += ahead(&mut self.chance, 60 * DAY);
            }
            4 => {
                self.meet(Fault::ClockBack);
                self.clock.offset -= ahead(&mut self.chance, 60 * DAY);
            }
            _ => {
                self.meet(Fault::ClockTenYears);
                self.clock.offset += 10 * YEAR as i64;
            }
        }
        self.clock.offset = self.clock.offset.clamp(-WRONG_MOST, WRONG_MOST);
        self.clock_set_at = self.at + spread(&mut self.chance, MINUTE, 20 * DAY);
    }

    /// Nothing runs for a while, and both clocks go on.
    pub(super) fn suspend(&mut self) {
        self.meet(Fault::Suspend);
        self.at += spread(&mut self.chance, 10 * SECOND, 30 * DAY);
        self.rules.disturb(self.at);
    }

    /// A file is gone at the next start.
    pub(super) fn lose_a_file(&mut self) -> Result<(), Died> {
        let ran = self.process.is_some();
        match self.chance.draw(3) {
            0 => {
                self.meet(Fault::StateLost);
                self.disk.lose(Lost::State);
                self.rules.state_lost();
            }
            1 => {
                self.meet(Fault::IdLost);
                self.disk.lose(Lost::Id);
            }
            _ => {
                self.meet(Fault::LedgerLost);
                self.disk.lose(Lost::Ledger);
                self.rules.deletions.ledger_lost(&self.disk.state);
            }
        }
        if ran { Err(Died) } else { Ok(()) }
    }

    /// Somebody else is at the files of the daemon while it runs.
    pub(super) fn vandalise(&mut self) {
        use Vandalism::{Cut, Lengthened, Replaced, Vanishes};
        if self.chance.draw(4) == 0 {
            self.meet(Fault::LockVanishes);
            let how = [Vanishes, Replaced][self.chance.draw(2) as usize];
            return self.disk.vandalise_the_lock(how);
        }
        let (how, fault) = [
            (Vanishes, Fault::LedgerVanishes),
            (Replaced, Fault::LedgerReplaced),
            (Cut, Fault::LedgerCut),
            (Lengthened, Fault::LedgerLengthened),
        ][self.chance.draw(4) as usize];
        self.meet(fault);
        self.vandalise_the_ledger(how);
    }

    pub(super) fn vandalise_the_ledger(&mut self, how: Vandalism) {
        self.disk.vandalise_the_ledger(how);
        self.rules.deletions.ledger_lost(&self.disk.state);
    }
}
