//! The layers of the configuration and their merging.

use std::fs;
use std::io;
use std::path::Path;

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use pulse_telemetry_http::file::read_bounded;
use serde::de::DeserializeOwned;

use super::environment::Environment;
use super::error::{ConfigError, Problem};
use super::program::Program;
use super::setting::{BUILT_IN, Setting};
use super::variables::Meaning;

/// Figment's reading of `{a="b"}` recurses for each bracket; a list or map of texts needs one. It also panics at some
/// backslashes beside characters that are not ASCII, so that a text with both is not given to it.
const BRACKETS_MAX: usize = 64;

/// The most bytes of a configuration file. The commented defaults have a hundredth of it.
const FILE_MAX: u64 = 1024 * 1024;

/// All layers merged. Every key of the defaults is there, with its type.
pub struct Layers {
    figment: Figment,
    merged: Value,
    warnings: Vec<Problem>,
}

impl Layers {
    /// Reads every layer and puts them on top of each other.
    ///
    /// # Errors
    /// What is not a key or not of its key's type, in any layer; a file that cannot be read.
    pub fn stack(program: &Program, file: Option<&Path>, env: &Environment) -> Result<Self, ConfigError> {
        let defaults = Layer { origin: BUILT_IN.to_owned(), values: parse_toml(program.defaults, BUILT_IN)? };
        let keys = Keys { defaults: &defaults.values };
        let names: Vec<String> = keys_of(Some(&defaults.values)).map(|(key, _)| key).collect();
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let mut layers = Vec::new();
        let read = match file {
            Some(file) => read_file(file).map(Some),
            None => read_file_if_there(Path::new(program.default_file)),
        };
        match read {
            Ok(layer) => layers.extend(layer),
            Err(problem) => problems.push(problem),
        }
        for (name, text) in env.iter() {
            let told = |what: String| Problem::new(&format!("environment variable {name}"), what);
            match program.meaning_of(name, &names) {
                Meaning::Key(section, key) => layers.push(keys.variable(name, &section, &key, text)),
                Meaning::Foreign => {}
                Meaning::Mistake(instead) => problems.push(told(format!("is not a key: {instead}"))),
                Meaning::Unknown(nearest) => {
                    warnings.push(told(format!("is not a key and changes nothing: the nearest key is {nearest}")));
                }
            }
        }
        for (name, section, key) in program.short_names {
            if let Some(text) = env.get_filled(name) {
                layers.push(Layer::variable(name, section, key, Value::from(text)));
            }
        }
        problems.extend(layers.iter().flat_map(|layer| keys.problems_of(layer)));
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let figment = layers.into_iter().map(Layer::without_blanks).fold(Figment::from(defaults), Figment::merge);
        let mut profiles = figment.data().map_err(|error| unforeseen(&error))?;
        let merged = profiles.remove(&Profile::Default).ok_or_else(|| Problem::new(BUILT_IN, "has no keys"))?;
        Ok(Self { figment, merged: Value::from(merged), warnings })
    }

    /// What was passed over and may have been meant for this program.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The merged values as `T`.
    ///
    /// # Errors
    /// The defaults do not fit `T`, which a test excludes.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.figment.extract().map_err(|error| unforeseen(&error).into())
    }

    /// Where the value of `key` comes from. A third part of the key is an entry of a map.
    pub fn origin(&self, key: &str) -> String {
        let value = key.splitn(3, '.').try_fold(&self.merged, |value, part| value.as_dict()?.get(part));
        value.map_or_else(|| BUILT_IN.to_owned(), |value| self.origin_of(value))
    }

    /// Every key with its value and origin; a map that is not empty has one for each entry.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for (key, value) in keys_of(self.merged.as_dict()) {
            match value.as_dict() {
                Some(entries) if !entries.is_empty() => {
                    settings.extend(entries.iter().map(|(name, value)| self.setting(format!("{key}.{name}"), value)));
                }
                _ => settings.push(self.setting(key, value)),
            }
        }
        settings
    }

    fn setting(&self, key: String, value: &Value) -> Setting {
        Setting { key, value: written(value), origin: self.origin_of(value) }
    }

    fn origin_of(&self, value: &Value) -> String {
        self.figment.get_metadata(value.tag()).map_or_else(String::new, |metadata| metadata.name.to_string())
    }
}

/// Some values that come from one place.
struct Layer {
    origin: String,
    values: Dict,
}

impl Layer {
    /// The layer of one variable that sets one key.
    fn variable(name: &str, section: &str, key: &str, value: Value) -> Self {
        let values = Dict::from([(section.to_owned(), Value::from(Dict::from([(key.to_owned(), value)])))]);
        Self { origin: format!("environment variable {name}"), values }
    }

    /// The layer without the keys that hold a blank text, for that means: not set.
    fn without_blanks(mut self) -> Self {
        for section in self.values.values_mut() {
            if let Value::Dict(_, keys) = section {
                keys.retain(|_, value| !is_blank(value));
            }
        }
        self
    }
}

fn is_blank(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The known keys and their types: those of the defaults.
struct Keys<'a> {
    defaults: &'a Dict,
}

impl Keys<'_> {
    /// The layer of a variable that has the form of a key.
    fn variable(&self, name: &str, section: &str, key: &str, text: &str) -> Layer {
        let default = self.defaults.get(section).and_then(|section| section.as_dict()?.get(key));
        let value = match default {
            _ if text.trim().is_empty() => Value::from(text),
            Some(Value::Bool(..)) => text.to_ascii_lowercase().parse().map_or_else(|_| Value::from(text), bool::into),
            Some(Value::Num(..)) => text.parse().map_or_else(|_| Value::from(text), i64::into),
            Some(Value::Array(..) | Value::Dict(..)) => parse_compound(text),
            // Texts are taken as they stand, so that a path or a name made of digits stays one.
            _ => Value::from(text),
        };
        Layer::variable(name, section, key, value)
    }

    /// Whatever of `layer` is not a key, or not of its key's type.
    fn problems_of(&self, layer: &Layer) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (section, values) in &layer.values {
            let known = self.defaults.get(section).and_then(Value::as_dict);
            match (known, values.as_dict()) {
                (None, _) => {
                    problems.push(Problem::new(section, unknown("section", "the sections are", self.defaults)))
                }
                (Some(_), None) => problems.push(Problem::new(section, format!("must be a section: [{section}]"))),
                (Some(known), Some(values)) => {
                    problems.extend(values.iter().filter_map(|(key, value)| problem_of(section, key, value, known)));
                }
            }
        }
        problems.into_iter().map(|problem| problem.with_origin(layer.origin.clone())).collect()
    }
}

fn problem_of(section: &str, key: &str, value: &Value, known: &Dict) -> Option<Problem> {
    let name = format!("{section}.{key}");
    let Some(default) = known.get(key) else {
        return Some(Problem::new(&name, unknown("key", &format!("the keys of {section} are"), known)));
    };
    if is_blank(value) {
        return None;
    }
    if value.as_str().is_some_and(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
        return Some(Problem::new(&name, "must be valid UTF-8"));
    }
    let problem = Problem::new(&name, type_mismatch(default, value)?);
    Some(match value {
        Value::String(_, text) => problem.with_value(text),
        Value::Bool(..) | Value::Num(..) => problem.with_literal(written(value)),
        _ => problem,
    })
}

/// What is accepted, where `value` is not of the type of `default`.
fn type_mismatch(default: &Value, value: &Value) -> Option<String> {
    let is_text = |value: &Value| value.as_str().is_some();
    match (default, value) {
        (Value::String(..), Value::String(..)) | (Value::Bool(..), Value::Bool(..)) => None,
        (Value::Num(..), Value::Num(_, number)) if is_whole(*number) => None,
        (Value::Array(..), Value::Array(_, items)) if items.iter().all(is_text) => None,
        (Value::Dict(..), Value::Dict(_, entries)) if entries.values().all(is_text) => None,
        (Value::Bool(..), _) => Some("must be true or false".to_owned()),
        (Value::Num(..), _) => Some("must be a whole number".to_owned()),
        (Value::Array(..), _) => Some(r#"must be a list of texts, such as ["one","two"]"#.to_owned()),
        (Value::Dict(..), _) => Some(r#"must be a map of texts, such as {acme="/path",default="/path"}"#.to_owned()),
        (Value::String(_, example), _) if !example.is_empty() => {
            Some(format!("must be a text in quotes, such as {example:?}"))
        }
        _ => Some("must be a text in quotes".to_owned()),
    }
}

fn is_whole(number: figment::value::Num) -> bool {
    number.to_u128().is_some() || number.to_i128().is_some_and(|number| number >= 0)
}

fn unknown(what: &str, introduction: &str, known: &Dict) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    format!("is not a {what}: {introduction} {}", names.join(", "))
}

/// Each `section.key` of a dictionary of sections, with its value.
fn keys_of(sections: Option<&Dict>) -> impl Iterator<Item = (String, &Value)> {
    sections.into_iter().flatten().flat_map(|(section, values)| {
        values.as_dict().into_iter().flatten().map(move |(key, value)| (format!("{section}.{key}"), value))
    })
}

/// A value as the file could have it: what JSON writes for texts, truth values, numbers and lists of them is TOML too.
fn written(value: &Value) -> String {
    // A number of more than 64 bits, which no key takes.
    serde_json::to_string(value).unwrap_or_else(|error| format!("[{error}]"))
}

/// A list or a map from a variable, as figment writes them; what is neither becomes a text, which is then refused.
fn parse_compound(text: &str) -> Value {
    if text.matches(['{', '[']).count() > BRACKETS_MAX || (text.contains('\\') && !text.is_ascii()) {
        return Value::from(text);
    }
    text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

fn read_file(path: &Path) -> Result<Layer, Problem> {
    let text = read_bounded(path, FILE_MAX).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    parse_file(path, &text.map_err(|error| unreadable(path, &error.to_string()))?)
}

/// Nothing is there where its name, or that of a directory above it, is no link that leads nowhere.
fn read_file_if_there(path: &Path) -> Result<Option<Layer>, Problem> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let there = path.ancestors().find(|part| fs::symlink_metadata(part).is_ok());
            match there.filter(|part| fs::metadata(part).is_err()) {
                Some(link) => Err(unreadable(path, &format!("{} is a link that leads nowhere", link.display()))),
                None => Ok(None),
            }
        }
        _ => read_file(path).map(Some),
    }
}

fn unreadable(path: &Path, why: &str) -> Problem {
    Problem::new(&path.display().to_string(), format!("cannot be read: {why}"))
}

fn parse_file(path: &Path, text: &str) -> Result<Layer, Problem> {
    let origin = path.display().to_string();
    Ok(Layer { values: parse_toml(text, &origin)?, origin })
}

fn parse_toml(text: &str, origin: &str) -> Result<Dict, Problem> {
    let mut profiles = Toml::string(text).data().map_err(|error| Problem::new(origin, toml_fault(&error)))?;
    Ok(profiles.remove(&Profile::Default).unwrap_or_default())
}

/// What the TOML parser says, on one line and without the source line that it repeats, which might hold a token.
fn toml_fault(error: &figment::Error) -> String {
    let text = error.kind.to_string();
    let in_margin = |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    let lines: Vec<&str> = text.lines().filter(|line| !in_margin(line)).map(str::trim).collect();
    lines.join(": ")
}

/// An error of figment's that only a fault of the built-in defaults can cause.
fn unforeseen(error: &figment::Error) -> Problem {
    Problem::new(&error.path.join("."), error.kind.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_default_file_that_is_absent_is_fine_and_a_named_one_is_not() {
        let absent = Path::new("/nonexistent/config.toml");
        assert!(read_file_if_there(absent).unwrap().is_none());
        let problem = read_file(absent).err().unwrap();
        assert_eq!(
            problem.to_string(),
            "/nonexistent/config.toml: cannot be read: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_default_file_that_is_there_and_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read_file_if_there(directory.path()).is_err());
    }

    #[test]
    fn a_default_file_whose_link_leads_nowhere_is_not_taken_for_absent() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink("nowhere", &link).unwrap();
        for path in [link.clone(), link.join("config.toml"), link.join("deeper/config.toml")] {
            let problem = read_file_if_there(&path).err().unwrap().to_string();
            assert!(problem.ends_with(&format!("cannot be read: {} is a link that leads nowhere", link.display())));
        }
        fs::create_dir(directory.path().join("nowhere")).unwrap();
        assert!(read_file_if_there(&link.join("config.toml")).unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_endless_or_a_pipe_to_which_nobody_writes_holds_up_no_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        symlink("/dev/zero", &path).unwrap();
        assert!(read_file(&path).err().unwrap().to_string().ends_with("more than 1048576 bytes"));
        fs::remove_file(&path).unwrap();
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        assert!(read_file(&path).err().unwrap().to_string().ends_with("nobody writes to it for 5s"));
    }
}
