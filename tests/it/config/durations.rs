//! Durations, and that no text makes a parser panic.

use std::time::Duration;

use proptest::prelude::*;
use pulse_telemetry::config::Url;
use pulse_telemetry_process::config::parse_duration;

use super::with_variable;

#[test]
fn durations_are_numbers_with_units() {
    for (text, millis) in [
        ("500ms", 500),
        ("10s", 10_000),
        ("2m", 120_000),
        ("24h", 86_400_000),
        ("30d", 2_592_000_000),
        ("1h30m", 5_400_000),
        ("0s", 0),
        ("007s", 7_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "10", "s", "1.5h", "-1s", "+1s", "1 h", " 1h", "1h ", "30m1h", "1h1h", "1H", "1w", "1é", "٣s"] {
        let error = parse_duration(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(error.contains(r#"such as "90s", "24h" or "1h30m""#), "{error}");
    }
    for text in ["99999999999999999999s", "18446744073709551615d", "18446744073709551615ms1ms", "213503982334d23h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_compound_duration_is_the_sum_of_its_parts(
        days in 0u64..100_000,
        hours in 0u64..1_000,
        minutes in 0u64..1_000,
        seconds in 0u64..1_000,
        millis in 0u64..1_000,
    ) {
        let text = format!("{days}d{hours}h{minutes}m{seconds}s{millis}ms");
        let sum = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000 + millis;
        prop_assert_eq!(parse_duration(&text), Ok(Duration::from_millis(sum)));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".*", spaced in "[0-9dhms é]{0,40}") {
        let _ = parse_duration(&text);
        let _ = parse_duration(&spaced);
        let _ = Url::parse(&text);
        let _ = Url::parse(&format!("http://{text}"));
    }

    #[test]
    fn no_environment_makes_the_loading_panic_or_an_error_run_over_its_lines(
        key in "(pulse|serve|schedule|log|state|telemetry|x)__\
                (url|organizations|allowed_hosts|interval|level|enabled|y)",
        value in "[a-z0-9{}\\[\\]=,\"'\\\\\n :/.é-]{0,30}",
    ) {
        let setup = with_variable(&format!("PULSE_TELEMETRY_{}", key.to_uppercase()), &value);
        if let Err(error) = setup.load() {
            prop_assert!(!error.problems.is_empty());
            prop_assert_eq!(error.to_string().lines().count(), error.problems.len());
        }
    }
}
