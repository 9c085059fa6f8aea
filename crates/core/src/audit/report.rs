//! What an audit found, and how it is told.

use std::fmt::Write as _;

use jiff::Timestamp;

/// How many findings of a check are told one by one; more are only counted.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many lines the ledger has.
    pub lines: u64,
    /// When its first and its last line were written.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The newest line that can be read: its `seq` and its hash.
    pub newest: Option<(u64, String)>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A word for it.
    pub name: &'static str,
    /// What was checked, with its count.
    pub what: String,
    /// What was found, at most the first 20.
    pub findings: Vec<Finding>,
    /// How much more was found.
    pub untold: u64,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) chain: Findings,
    pub(super) times: Findings,
    pub(super) bodies: Findings,
    pub(super) rotation: Findings,
    pub(super) spacing: Findings,
    pub(super) attempts: Findings,
    pub(super) consent: Findings,
    pub(super) receipts: Findings,
    pub(super) deletions: Findings,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    told: Vec<Finding>,
    untold: u64,
}

impl Findings {
    pub(super) fn add(&mut self, line: u64, what: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(Finding { line, what });
        } else {
            self.untold += 1;
        }
    }

    pub(super) fn of(self, name: &'static str, what: String) -> Check {
        Check { name, what, findings: self.told, untold: self.untold }
    }
}

impl Report {
    /// Nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings() == 0
    }

    /// How much was found.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.checks.iter().map(|check| check.findings.len() as u64 + check.untold).sum()
    }

    /// The report for people, line by line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = match self.times {
            Some((first, last)) => format!("{} lines, from {first:.0} to {last:.0}\n\n", self.lines),
            None => format!("{} lines\n\n", self.lines),
        };
        for Check { name, what, findings, untold } in &self.checks {
            let verdict = if findings.is_empty() { "ok" } else { "FOUND" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<9} {verdict:<6} {what}");
            for Finding { line, what } in findings {
                let _ = writeln!(text, "{:<16} line {line}: {what}", "");
            }
            if *untold > 0 {
                let _ = writeln!(text, "{:<16} and {untold} more", "");
            }
        }
        if let Some((seq, hash)) = &self.newest {
            let _ = writeln!(text, "\nThe newest line is entry {seq}, and its hash {hash}");
            let _ = writeln!(
                text,
                "(kept elsewhere, it shows later with --since whether the history was cut or rewritten)"
            );
        }
        let _ = match self.findings() {
            0 => writeln!(text, "\nNothing was found."),
            found => writeln!(text, "\n{found} found."),
        };
        text
    }
}
