//! What an answer of the endpoint means.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::{Answer, ProxyFault, RETRY_AFTER_MAX, Verdict, parse_retry_after};

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn verdict(code: u16, retry_after: Option<&str>) -> Verdict {
    Answer::Status { code, retry_after: retry_after.map(str::to_owned) }.verdict(now())
}

#[test]
fn any_2xx_is_delivered() {
    for code in [200, 201, 202, 204, 299] {
        assert_eq!(verdict(code, Some("60")), Verdict::Delivered, "{code}");
    }
}

#[test]
fn what_may_pass_is_tried_again_each_with_its_reason() {
    for (code, reason) in [
        (408, "asked_to_retry"),
        (425, "asked_to_retry"),
        (429, "rate_limited"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (599, "server_error"),
    ] {
        let reason = LedgerReason::parse(reason).unwrap();
        assert_eq!(verdict(code, None), Verdict::Retry { after: None, reason }, "{code}");
        let after = Some(Duration::from_secs(90));
        assert_eq!(verdict(code, Some("90")), Verdict::Retry { after, reason }, "{code}");
    }
    let retry = |word| Verdict::Retry { after: None, reason: LedgerReason::parse(word).unwrap() };
    assert_eq!(Answer::NoConnection("refused".to_owned()).verdict(now()), retry("no_connection"));
    assert_eq!(Answer::CutShort.verdict(now()), retry("cut_short"));
    assert_eq!(Answer::TimedOut.verdict(now()), retry("timed_out"));
}

#[test]
fn a_proxy_that_gives_no_tunnel_may_give_one_later_and_each_fault_is_told_with_its_status() {
    for (fault, reason, status) in [
        (ProxyFault::Unreachable, "proxy_unreachable", None),
        (ProxyFault::Login, "proxy_login", Some(407)),
        (ProxyFault::Refused(403), "proxy_refused", Some(403)),
        (ProxyFault::Answered(302), "proxy_failed", Some(302)),
        (ProxyFault::CutShort, "proxy_failed", None),
        (ProxyFault::NotHttp, "proxy_failed", None),
        (ProxyFault::SpeaksTls, "proxy_failed", None),
    ] {
        let answer = Answer::NoTunnel(fault);
        let reason = LedgerReason::parse(reason).unwrap();
        assert_eq!(answer.verdict(now()), Verdict::Retry { after: None, reason }, "{fault}");
        assert_eq!((answer.status(), answer.detail()), (status, Some(fault.to_string())));
    }
}

#[test]
fn everything_else_is_dropped_with_its_reason() {
    for (code, reason) in [
        (300, "redirected"),
        (301, "redirected"),
        (307, "redirected"),
        (308, "redirected"),
        (399, "redirected"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (410, "refused"),
        (413, "refused"),
        (499, "refused"),
        (100, "not_http"),
        (199, "not_http"),
        (600, "not_http"),
        (999, "not_http"),
    ] {
        let reason = LedgerReason::parse(reason).unwrap();
        assert_eq!(verdict(code, Some("90")), Verdict::Drop { reason }, "{code}");
    }
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date_in_its_three_forms() {
    let read = |value| parse_retry_after(value, now());
    assert_eq!(read("0"), Some(Duration::ZERO));
    assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
    for date in ["Mon, 23 Nov 2026 12:30:00 GMT", "Monday, 23-Nov-26 12:30:00 GMT", "Mon Nov 23 12:30:00 2026"] {
        assert_eq!(read(date), Some(Duration::from_secs(30 * 60)), "{date}");
    }
    assert_eq!(read("Sun, 22 Nov 2026 12:30:00 GMT"), Some(Duration::ZERO), "a date that has passed");
}

#[test]
fn retry_after_is_honoured_for_a_day_at_most() {
    let read = |value| parse_retry_after(value, now());
    assert_eq!(read("86400"), Some(RETRY_AFTER_MAX));
    assert_eq!(read("86401"), Some(RETRY_AFTER_MAX));
    assert_eq!(read("99999999999999999999999999"), Some(RETRY_AFTER_MAX));
    assert_eq!(read("Mon, 23 Nov 2099 12:30:00 GMT"), Some(RETRY_AFTER_MAX));
    assert_eq!(RETRY_AFTER_MAX, Duration::from_secs(24 * 60 * 60));
}

#[test]
fn a_retry_after_that_cannot_be_read_is_left_to_the_back_off() {
    for nonsense in ["", " ", "-1", "1.5", "soon", "+5", "0x10", "Mon, 32 Nov 2026 12:30:00 GMT", "\u{661}"] {
        assert_eq!(parse_retry_after(nonsense, now()), None, "{nonsense:?}");
    }
}

#[test]
fn an_answer_tells_its_status_and_why_there_was_no_connection() {
    let refused = Answer::NoConnection("connection refused".to_owned());
    let status = Answer::Status { code: 503, retry_after: None };
    assert_eq!((status.status(), status.detail()), (Some(503), None));
    assert_eq!((refused.status(), refused.detail()), (None, Some("connection refused".to_owned())));
    assert_eq!((Answer::TimedOut.status(), Answer::TimedOut.detail()), (None, None));
}

proptest! {
    #[test]
    fn no_retry_after_is_longer_than_a_day_or_makes_it_panic(value in any::<String>(), digits in "[0-9]{0,30}") {
        for value in [value, digits] {
            prop_assert!(parse_retry_after(&value, now()).is_none_or(|after| after <= RETRY_AFTER_MAX));
        }
    }
}
