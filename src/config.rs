//! The configuration, from the defaults up to the environment.
//!
//! `config/pulse-telemetry.toml` holds every key with its default and is built in; it is the bottom layer, and what it
//! does not know is not a key. Over it come the configuration file, `PULSE_TELEMETRY_<SECTION>__<KEY>`, and the short
//! names of Pulse's own agent. Each section then checks its own values, and everything that is wrong is told at once.

mod environment;
mod events;
mod pulse;
mod schedule;
mod serve;
mod state;
mod telemetry;
mod tokens;
mod url;

use std::path::{Path, PathBuf};

use pulse_telemetry_endpoint::ProxyVariables;
use pulse_telemetry_http::tls::Authorities;
use pulse_telemetry_process::config::{
    Checker, ConfigError, Environment, Layers, Log, Problem, Program, RawLog, SecretFile, Setting, authorities,
    credentials_directory, exposed,
};
use serde::Deserialize;

pub use self::environment::ConsentVariables;
use self::environment::proxy_variables;
pub use self::events::Events;
pub(crate) use self::pulse::DEFAULT_ORGANIZATION;
pub use self::pulse::{PlatformSetting, Pulse};
pub use self::schedule::ScheduleConfig;
pub use self::serve::{Listen, Serve};
pub use self::state::StateConfig;
pub use self::telemetry::{Telemetry, receipt_keys};
pub use self::tokens::{TokenSource, Tokens};
pub use self::url::Url;

/// The defaults: the text of `config/pulse-telemetry.toml`.
pub const DEFAULTS: &str = include_str!("../config/pulse-telemetry.toml");

/// The configuration file that is read, where it exists, when none is named.
pub const DEFAULT_FILE: &str = "/etc/pulse-telemetry/config.toml";

/// The layers of `pulse-telemetry`. The short names are those of Pulse's own agent; `PULSE_TOKEN` is no key: see
/// `tokens`.
const SIDECAR: Program = Program {
    defaults: DEFAULTS,
    default_file: DEFAULT_FILE,
    prefix: "PULSE_TELEMETRY_",
    short_names: &[
        ("PULSE_URL", "pulse", "url"),
        ("PULSE_TOKEN_FILE", "pulse", "token_file"),
        ("PULSE_CACERT", "pulse", "ca_file"),
    ],
    others: &["COLLECTOR_"],
    consent: "write PULSE_TELEMETRY=false or PULSE_TELEMETRY_TELEMETRY__ENABLED=false to switch telemetry off, and \
              PULSE_TELEMETRY_EVENTS__RECORD=false for the local events",
};

/// The whole configuration, checked. A part is handed its own section only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether and where pings are sent.
    pub telemetry: Telemetry,
    /// How Pulse is reached and read.
    pub pulse: Pulse,
    /// When pings are sent.
    pub schedule: ScheduleConfig,
    /// Where the state is kept.
    pub state: StateConfig,
    /// Where the local page and API listen, and for whom.
    pub serve: Serve,
    /// Whether local-only commercial events are recorded.
    pub events: Events,
    /// What is logged, and how.
    pub log: Log,
    /// The variables that speak of consent, as they were found. `consent` says what they mean.
    pub consent: ConsentVariables,
    /// The proxy variables, as they were found.
    pub proxy: ProxyVariables,
    /// The certificate authorities that the environment names.
    pub authorities: Authorities,
    origins: Vec<Setting>,
    warnings: Vec<Problem>,
    credentials: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the configuration: `file` (without one, [`DEFAULT_FILE`] where that exists), then `env`.
    /// `is_root` says whether the process runs as root, on which the default state directory depends.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told at once: each with its key, its origin and what is accepted.
    pub fn load(file: Option<&Path>, env: &Environment, is_root: bool) -> Result<Self, ConfigError> {
        let layers = Layers::stack(&SIDECAR, file, env)?;
        let sections: SidecarSections = layers.extract()?;
        let mut check = Checker::new(&layers);
        let config = sections.check(&mut check, env, is_root);
        check.finish(config)
    }

    /// Every key with the value in force and where it comes from, for `check` to show.
    #[must_use]
    pub fn origins(&self) -> &[Setting] {
        &self.origins
    }

    /// What was passed over and may have been meant for this program, for `check` and the log to tell.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A sentence for each file of a secret that everybody on this machine can read or change.
    #[must_use]
    pub fn exposed_secrets(&self) -> Vec<String> {
        let pulse = self.pulse.tokens.files().into_iter();
        let files = pulse.chain(&self.serve.token_file).map(SecretFile::from);
        exposed(files, self.credentials.as_deref())
    }
}

/// All sections as they are written, of the right types and not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SidecarSections {
    telemetry: telemetry::RawTelemetry,
    pulse: pulse::RawPulse,
    schedule: schedule::RawSchedule,
    state: state::RawState,
    serve: serve::RawServe,
    events: events::RawEvents,
    log: RawLog,
}

impl SidecarSections {
    fn check(self, check: &mut Checker<'_>, env: &Environment, is_root: bool) -> Option<Config> {
        // Each section is checked before the first `?`, so that one error does not hide another.
        let telemetry = self.telemetry.check(check);
        let pulse = self.pulse.check(check, env);
        let schedule = self.schedule.check(check, telemetry.as_ref().map(|telemetry| &telemetry.endpoint));
        let state = self.state.check(check, env, is_root);
        let serve = self.serve.check(check);
        let log = self.log.check(check);
        Some(Config {
            telemetry: telemetry?,
            pulse: pulse?,
            schedule: schedule?,
            state: state?,
            serve: serve?,
            events: self.events.check(),
            log: log?,
            consent: ConsentVariables::of(env),
            proxy: proxy_variables(env),
            authorities: authorities(env),
            origins: check.settings(),
            warnings: check.warnings(),
            credentials: credentials_directory(env),
        })
    }
}
