//! Consent: on, or off by a named source. Every off wins.

use std::fmt;

use crate::reason::LedgerReason;

/// What switched telemetry off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffSource {
    /// `PULSE_TELEMETRY` in the sidecar's environment.
    PulseTelemetry,
    /// `DO_NOT_TRACK` in the sidecar's environment.
    DoNotTrack,
    /// `telemetry.enabled = false` in the configuration.
    Config,
    /// The local switch: the page, or `pulse-telemetry off`.
    Switch,
    /// Pulse's own setting.
    Pulse,
}

impl OffSource {
    /// Whether the local switch could turn telemetry on in spite of it: only its own off.
    #[must_use]
    pub fn is_locked(self) -> bool {
        self != Self::Switch
    }

    /// The reason for it in the API and the ledger.
    #[must_use]
    pub fn reason(self) -> LedgerReason {
        match self {
            Self::PulseTelemetry => LedgerReason::OffByPulseTelemetry,
            Self::DoNotTrack => LedgerReason::OffByDoNotTrack,
            Self::Config => LedgerReason::OffByConfig,
            Self::Switch => LedgerReason::OffBySwitch,
            Self::Pulse => LedgerReason::OffByPulse,
        }
    }
}

impl fmt::Display for OffSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PulseTelemetry => "PULSE_TELEMETRY in the sidecar's environment",
            Self::DoNotTrack => "DO_NOT_TRACK in the sidecar's environment",
            Self::Config => "telemetry.enabled in the sidecar's configuration",
            Self::Switch => "the local switch (the page, or `pulse-telemetry off`)",
            Self::Pulse => "Pulse's own setting (Settings, System, General)",
        })
    }
}

/// What is fixed for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fixed {
    /// What `PULSE_TELEMETRY` says, where it is set.
    pub pulse_telemetry: Option<bool>,
    /// `DO_NOT_TRACK` asks not to be tracked.
    pub do_not_track: bool,
    /// `telemetry.enabled` is false.
    pub off_by_config: bool,
}

impl Fixed {
    /// Reads the two variables and the setting.
    #[must_use]
    pub fn new(pulse_telemetry: Option<&str>, do_not_track: Option<&str>, enabled: bool) -> Self {
        Self {
            pulse_telemetry: pulse_telemetry.and_then(read_pulse_telemetry),
            do_not_track: do_not_track.is_some_and(asks_not_to_be_tracked),
            off_by_config: !enabled,
        }
    }
}

/// All that decides about consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sources {
    /// The environment and the configuration.
    pub fixed: Fixed,
    /// The local switch is off.
    pub switched_off: bool,
    /// Pulse's own setting is off, and no variable in Pulse's environment decided it: as of the last reading.
    pub off_in_pulse: bool,
}

impl Sources {
    /// The source that switched telemetry off, the strongest first; `None` while it is on.
    #[must_use]
    pub fn off(&self) -> Option<OffSource> {
        [
            (self.fixed.pulse_telemetry == Some(false), OffSource::PulseTelemetry),
            (self.fixed.do_not_track, OffSource::DoNotTrack),
            (self.fixed.off_by_config, OffSource::Config),
            (self.switched_off, OffSource::Switch),
            (self.off_in_pulse, OffSource::Pulse),
        ]
        .into_iter()
        .find_map(|(is_off, source)| is_off.then_some(source))
    }

    /// The operator wrote `PULSE_TELEMETRY=true`: this sidecar is to report, also where Pulse reports itself.
    #[must_use]
    pub fn is_forced_on(&self) -> bool {
        self.fixed.pulse_telemetry == Some(true)
    }
}

/// What is not a clear yes is off; blank is unset.
fn read_pulse_telemetry(value: &str) -> Option<bool> {
    match value.trim().to_lowercase().as_str() {
        "" => None,
        "1" | "t" | "true" | "y" | "yes" | "on" | "enabled" => Some(true),
        _ => Some(false),
    }
}

fn asks_not_to_be_tracked(value: &str) -> bool {
    !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "false")
}
