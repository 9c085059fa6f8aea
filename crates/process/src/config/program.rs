//! Whose configuration it is.

/// One program's defaults, and where else its values come from.
pub struct Program {
    /// The text of the file that holds every key with its default.
    pub defaults: &'static str,
    /// The configuration file that is read, where it exists, when none is named.
    pub default_file: &'static str,
    /// What begins the name of every variable that is a key.
    pub prefix: &'static str,
    /// Further variables, and the section and key that each one sets.
    pub short_names: &'static [(&'static str, &'static str, &'static str)],
    /// What follows the prefix in variables that are meant for another program.
    pub others: &'static [&'static str],
    /// What to write instead of a variable that speaks of consent and is no key.
    pub consent: &'static str,
}
