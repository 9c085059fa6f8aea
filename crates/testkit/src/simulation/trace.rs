//! What happened, for a person to read. Kept only where somebody asks, for it costs more than the simulation.

use std::collections::VecDeque;

use super::time::{DAY, HOUR, MINUTE, SECOND};

const LAST: usize = 60;

#[derive(Clone, Default)]
pub struct Trace {
    /// Keep the last steps.
    pub keeps: bool,
    /// Tell every step.
    pub tell: Option<fn(&str)>,
    steps: VecDeque<String>,
}

impl Trace {
    pub fn is_on(&self) -> bool {
        self.keeps || self.tell.is_some()
    }

    /// Something happened at that true time, while the wall clock was wrong by `offset` nanoseconds.
    pub fn note(&mut self, at: u64, offset: i64, what: &str) {
        let (day, hour, minute) = (at / DAY, at / HOUR % 24, at / MINUTE % 60);
        let seconds = (at % MINUTE) as f64 / SECOND as f64;
        let wrong = if offset == 0 { String::new() } else { format!(" [clock {:+} s]", offset / SECOND as i64) };
        let step = format!("day {day:4} {hour:02}:{minute:02}:{seconds:06.3}{wrong} {what}");
        if let Some(tell) = self.tell {
            tell(&step);
        }
        if self.keeps {
            if self.steps.len() == LAST {
                self.steps.pop_front();
            }
            self.steps.push_back(step);
        }
    }

    pub fn last(self) -> Vec<String> {
        self.steps.into()
    }
}
