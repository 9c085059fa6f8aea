//! Consent: every off wins, and the status names the source.

use proptest::prelude::*;
use pulse_telemetry_core::consent::{Fixed, OffSource, Sources};

fn by_variables(pulse_telemetry: Option<&str>, do_not_track: Option<&str>) -> Sources {
    Sources { fixed: Fixed::new(pulse_telemetry, do_not_track, true), ..Sources::default() }
}

#[test]
fn unset_everywhere_is_on() {
    assert_eq!(Sources::default().off(), None);
    assert_eq!(by_variables(None, None).off(), None);
    assert!(!Sources::default().is_forced_on());
}

#[test]
fn a_clear_yes_is_on_and_insists() {
    for yes in ["1", "t", "true", "y", "yes", "on", "enabled", "TRUE", "  Yes\t", "oN", "Enabled\n"] {
        let sources = by_variables(Some(yes), None);
        assert_eq!((sources.off(), sources.is_forced_on()), (None, true), "{yes:?}");
    }
}

#[test]
fn what_is_not_a_clear_yes_is_off() {
    for no in [
        "0",
        "f",
        "false",
        "n",
        "no",
        "off",
        "disabled",
        "FALSE",
        "yess",
        "truee",
        "01",
        "ja",
        "-",
        "null",
        "\u{ff54}rue",
    ] {
        let sources = by_variables(Some(no), None);
        assert_eq!((sources.off(), sources.is_forced_on()), (Some(OffSource::PulseTelemetry), false), "{no:?}");
    }
}

#[test]
fn a_blank_variable_is_unset() {
    for blank in ["", " ", "\t\n"] {
        let sources = by_variables(Some(blank), Some(blank));
        assert_eq!((sources.off(), sources.is_forced_on()), (None, false), "{blank:?}");
    }
}

#[test]
fn do_not_track_is_off_unless_it_is_zero_or_false() {
    for set in ["1", "true", "yes", "2", "no", "off", "anything"] {
        assert_eq!(by_variables(None, Some(set)).off(), Some(OffSource::DoNotTrack), "{set:?}");
    }
    for unset in ["0", "false", "FALSE", " false "] {
        assert_eq!(by_variables(None, Some(unset)).off(), None, "{unset:?}");
    }
}

#[test]
fn only_the_switchs_own_off_can_be_turned_on_again_here() {
    use OffSource::{Config, DoNotTrack, Pulse, PulseTelemetry, Switch};
    for source in [PulseTelemetry, DoNotTrack, Config, Pulse] {
        assert!(source.is_locked(), "{source}");
    }
    assert!(!Switch.is_locked());
}

#[test]
fn every_source_has_a_word_and_a_name_of_its_own() {
    use OffSource::{Config, DoNotTrack, Pulse, PulseTelemetry, Switch};
    let words = [PulseTelemetry, DoNotTrack, Config, Switch, Pulse].map(|source| source.reason().word());
    assert_eq!(words, ["pulse_telemetry", "do_not_track", "config", "switch", "pulse"]);
    let names = [PulseTelemetry, DoNotTrack, Config, Switch, Pulse].map(|source| source.to_string());
    let parts = ["PULSE_TELEMETRY", "DO_NOT_TRACK", "telemetry.enabled", "switch", "Pulse's own setting"];
    assert!(names.iter().zip(parts).all(|(name, part)| name.contains(part)), "{names:?}");
}

proptest! {
    #[test]
    fn every_off_wins_and_the_strongest_is_named(bits in any::<[bool; 5]>(), insists in any::<bool>()) {
        let [pulse_telemetry, do_not_track, config, switch, pulse] = bits;
        let variable = if pulse_telemetry { Some("no") } else if insists { Some("yes") } else { None };
        let sources = Sources {
            fixed: Fixed::new(variable, do_not_track.then_some("1"), !config),
            switched_off: switch,
            off_in_pulse: pulse,
        };
        use OffSource::{Config, DoNotTrack, Pulse, PulseTelemetry, Switch};
        let all = [PulseTelemetry, DoNotTrack, Config, Switch, Pulse];
        let first = bits.iter().position(|bit| *bit).map(|at| all[at]);
        prop_assert_eq!(sources.off(), first);
    }

    #[test]
    fn no_text_at_all_is_taken_for_a_yes_that_is_none(text in any::<String>()) {
        let yes = ["1", "t", "true", "y", "yes", "on", "enabled"].contains(&text.trim().to_lowercase().as_str());
        prop_assert_eq!(by_variables(Some(&text), None).is_forced_on(), yes);
        prop_assert_eq!(by_variables(Some(&text), None).off().is_none(), yes || text.trim().is_empty());
    }
}
