//! The layers of a configuration, and what every section's check needs.
//!
//! A program's defaults are the text of the file that documents them; it is the bottom layer, and what it does not know
//! is not a key. Over it come the configuration file and the environment. Each section checks its own values with a
//! [`Checker`], so that everything that is wrong is told at once.

mod checker;
mod duration;
mod environment;
mod error;
mod exposure;
mod layers;
mod listen;
mod log;
mod program;
mod secret_file;
mod setting;
mod variables;

pub use self::checker::Checker;
pub use self::duration::parse_duration;
pub use self::environment::{Environment, authorities};
pub use self::error::{ConfigError, Problem};
pub use self::exposure::{SecretFile, credentials_directory, exposed};
pub use self::layers::Layers;
pub use self::listen::{allowed_host, tcp_address};
pub use self::log::{Log, LogFormat, RawLog};
pub use self::program::Program;
pub use self::secret_file::{SYSTEMD, TokenFile, token_of_variable};
pub use self::setting::Setting;
