//! The collecting of what is wrong with a configuration.

use super::error::{ConfigError, Problem};
use super::layers::Layers;
use super::setting::{BUILT_IN, Setting};

/// Collects what the sections refuse, and knows where each value comes from.
pub struct Checker<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    decided: Vec<Setting>,
}

impl<'a> Checker<'a> {
    /// A collector of what is wrong with these layers.
    #[must_use]
    pub fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: Vec::new(), decided: Vec::new() }
    }

    /// The parsed value, or `None` and a problem.
    pub fn accept<T>(&mut self, key: &str, written: &str, parsed: Result<T, impl Into<String>>) -> Option<T> {
        parsed.map_err(|accepted| self.refuse(key, written, accepted)).ok()
    }

    /// Records that the value of `key` is refused.
    pub fn refuse(&mut self, key: &str, written: &str, accepted: impl Into<String>) {
        let origin = self.origin(key);
        self.add(Problem::new(key, accepted).with_origin(origin).with_value(written));
    }

    /// Records a problem that is not one of a single value.
    pub fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &str) -> String {
        self.layers.origin(key)
    }

    /// Whether no layer above the defaults sets `key`.
    pub fn is_default(&self, key: &str) -> bool {
        self.origin(key) == BUILT_IN
    }

    /// Tells what a value that no layer sets was found to be.
    pub fn decide(&mut self, key: &str, value: String, origin: String) {
        self.decided.push(Setting { key: key.to_owned(), value, origin });
    }

    /// What was passed over.
    pub fn warnings(&self) -> Vec<Problem> {
        self.layers.warnings().to_vec()
    }

    /// Every key with its value and origin, by key.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = self.layers.settings();
        for decided in &self.decided {
            match settings.iter_mut().find(|setting| setting.key == decided.key) {
                Some(setting) => *setting = decided.clone(),
                None => settings.push(decided.clone()),
            }
        }
        settings
    }

    /// The result, or every problem there was.
    pub fn finish<T>(self, checked: Option<T>) -> Result<T, ConfigError> {
        match checked {
            Some(checked) if self.problems.is_empty() => Ok(checked),
            _ => Err(ConfigError { problems: self.problems }),
        }
    }
}
