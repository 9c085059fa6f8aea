//! What the name of a variable means: a key, something of a neighbour's, or a mistake.
//!
//! A program shares its environment with whatever else runs beside it. Kubernetes and Docker write the addresses of
//! neighbours into it, and people write one file of variables for several containers. A neighbour must not stop the
//! program, and a mistake that changes what it does must.

use super::program::Program;

/// Ends of names that speak of consent. The operator who writes one expects it to be kept.
const CONSENT: [&str; 8] = ["ENABLED", "ENABLE", "DISABLED", "DISABLE", "OFF", "OPT_OUT", "OPTOUT", "DO_NOT_TRACK"];

/// What the name of a variable means.
pub enum Meaning {
    /// A key, or what has the form of one: section and key, in lower case.
    Key(String, String),
    /// Nothing: it is another program's.
    Foreign,
    /// A mistake that must end the start: what to write instead.
    Mistake(String),
    /// Nothing that this program knows: what the operator may have meant.
    Unknown(String),
}

impl Program {
    /// What a variable of that name means to this program, whose keys are `keys`.
    pub fn meaning_of(&self, name: &str, keys: &[String]) -> Meaning {
        let Some(rest) = name.strip_prefix(self.prefix) else { return Meaning::Foreign };
        if self.others.iter().any(|other| rest.starts_with(other)) {
            return Meaning::Foreign;
        }
        if let Some((section, key)) = rest.to_ascii_lowercase().split_once("__") {
            return Meaning::Key(section.to_owned(), key.to_owned());
        }
        if is_service_link(rest) {
            return Meaning::Foreign;
        }
        let letters = |text: &str| text.replace(['.', '_'], "").to_ascii_lowercase();
        if let Some(key) = keys.iter().find(|key| letters(key) == letters(rest)) {
            return Meaning::Mistake(format!("write {}", self.variable_name(key)));
        }
        let rest = rest.to_ascii_uppercase();
        if CONSENT.iter().any(|end| ends_with_word(&rest, end)) {
            return Meaning::Mistake(self.consent.to_owned());
        }
        match keys.iter().min_by_key(|key| distance(&rest, key)) {
            Some(nearest) => Meaning::Unknown(self.variable_name(nearest)),
            None => Meaning::Foreign,
        }
    }

    fn variable_name(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.replace('.', "__").to_ascii_uppercase())
    }
}

/// Whether `name` has the form of what Kubernetes and Docker write for a service, whatever stands before it:
/// `SERVICE_HOST`, `SERVICE_PORT`, `SERVICE_PORT_<NAME>`, `PORT`, and `PORT_<N>_TCP`, `_UDP` or `_SCTP`, alone or with
/// `_ADDR`, `_PORT` or `_PROTO`.
fn is_service_link(name: &str) -> bool {
    if ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|end| ends_with_word(name, end)) {
        return true;
    }
    let of_a_named_port = name.starts_with("SERVICE_PORT_") || name.contains("_SERVICE_PORT_");
    if of_a_named_port && !name.ends_with('_') {
        return true;
    }
    let words: Vec<&str> = name.split('_').collect();
    let words = match words.as_slice() {
        [before @ .., "ADDR" | "PORT" | "PROTO"] => before,
        all => all,
    };
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    matches!(words, [.., "PORT", number, "TCP" | "UDP" | "SCTP"] if is_number(number))
}

/// Whether `name` is `end` or ends in it after an underscore.
fn ends_with_word(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('_'))
}

/// How far `name` is from a key, the nearest first: one whose own name it ends in, then by single letters.
fn distance(name: &str, key: &str) -> (bool, usize) {
    let full = key.replace('.', "_").to_ascii_uppercase();
    let own = key.rsplit('.').next().unwrap_or(key).to_ascii_uppercase();
    let letters = strsim::damerau_levenshtein(name, &full).min(strsim::damerau_levenshtein(name, &own));
    (!ends_with_word(name, &own), letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_link_is_known_by_its_form_whatever_stands_before_it() {
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_7656_TCP",
            "METRICS_SERVICE_HOST",
            "METRICS_SERVICE_PORT_WEB_UI",
            "METRICS_PORT",
            "STATE_PORT_53_UDP_PROTO",
            "SERVE_PORT_9090_TCP_ADDR",
            "PULSE_PORT_132_SCTP_PORT",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in [
            "",
            "HOST",
            "SERVICE",
            "SERVICE_HOSTS",
            "SERVICE_PORT_",
            "PORTS",
            "PORT_TCP",
            "PORT_X_TCP",
            "PORT_80_HTTP",
            "PORT_80_TCP_START",
            "SERVE_LISTEN",
            "PORT_80_TCP_ADDR_X",
            "IMPORT",
        ] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
