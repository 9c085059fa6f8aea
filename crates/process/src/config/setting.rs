//! What `check` shows of each key.

/// The origin of what nobody set.
pub(super) const BUILT_IN: &str = "built-in default";

/// One key's value in force, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key, such as `schedule.interval`.
    pub key: String,
    /// The value as it would be written in the file. A token is never among them.
    pub value: String,
    /// `built-in default`, a file's path, `environment variable NAME`, or `systemd credential NAME`.
    pub origin: String,
}
