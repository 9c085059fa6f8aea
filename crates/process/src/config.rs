//! The layers of a configuration, and what every section's check needs.
//!
//! A program's defaults are the text of the file that documents them; it is the bottom layer, and what it does not know
//! is not a key. Over it come the configuration file and the environment. Each section checks its own values with a
//! [`Checker`], so that everything that is wrong is told at once.

mod duration;
mod environment;
mod error;
mod exposure;
mod layers;
mod listen;
mod log;
mod secret_file;
mod variables;

pub use self::duration::parse_duration;
pub use self::environment::{Environment, authorities};
pub use self::error::{Checker, ConfigError, Problem};
pub use self::exposure::{SecretFile, credentials_directory, exposed};
pub use self::layers::{Layers, Program};
pub use self::listen::{allowed_host, tcp_address};
pub use self::log::{Log, LogFormat, RawLog};
pub use self::secret_file::{SYSTEMD, TokenFile, token_of_variable};

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
