//! Arrays are counted right while the document arrives, whatever the pieces: `serde_json` is the judge.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;

use proptest::prelude::*;
use pulse_telemetry_core::count::{Counter, Counts, Malformed};
use pulse_telemetry_testkit::replay;
use serde::de::IgnoredAny;
use serde_json::Value;

const MEMBERS: &[&str] = &["nodes", "pbs", "vms", "a", ""];

fn run(mut counter: Counter, pieces: &[&[u8]]) -> Result<Counts, Malformed> {
    for piece in pieces {
        counter.push(piece)?;
    }
    counter.finish()
}

/// The text cut at these places, taken modulo its length.
fn cut<'a>(text: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place % (text.len() + 1)).collect();
    places.sort_unstable();
    let mut rest = text;
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        let (piece, tail) = rest.split_at(place - from);
        pieces.push(piece);
        rest = tail;
        from = place;
    }
    pieces.push(rest);
    pieces
}

/// The document is accepted as by `serde_json`, and counted as the value that `serde_json` reads from it.
fn agrees(text: &[u8], places: &[usize]) {
    let accepted = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    let value = serde_json::from_slice::<Value>(text).ok();
    let one_by_one: Vec<_> = text.chunks(1).collect();
    for pieces in [vec![text], cut(text, places), one_by_one] {
        let elements = run(Counter::elements(), &pieces);
        let members = run(Counter::members(MEMBERS), &pieces);
        for result in [&elements, &members] {
            match result {
                Ok(_) | Err(Malformed::WrongShape) => assert!(accepted, "{:?}", text.escape_ascii().to_string()),
                Err(Malformed::TooDeep) => assert!(value.is_none()),
                Err(Malformed::NotJson | Malformed::CutShort) => {
                    assert!(!accepted, "{:?}", text.escape_ascii().to_string());
                }
            }
        }
        if let Some(value) = &value {
            assert_eq!(elements.ok().map(|counts| counts.elements()), length(value));
            assert_eq!(members.ok().map(in_order), all_lengths(value));
        }
    }
}

fn in_order(counts: Counts) -> Vec<Option<u64>> {
    MEMBERS.iter().map(|name| counts.member(name)).collect()
}

fn length(value: &Value) -> Option<u64> {
    match value {
        Value::Null => Some(0),
        Value::Array(elements) => Some(elements.len() as u64),
        _ => None,
    }
}

/// `None` where the document is no object, or one of the members is neither an array nor null.
fn all_lengths(value: &Value) -> Option<Vec<Option<u64>>> {
    let object = value.as_object()?;
    MEMBERS.iter().map(|name| object.get(*name).map_or(Some(None), |member| length(member).map(Some))).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(MEMBERS).prop_map(str::to_owned),
        prop::sample::select(MEMBERS).prop_map(|name| format!("{name}é")),
        ".{0,12}",
        r#"["\\\n\t\x00-\x1f/é😀a]{0,24}"#,
        "[a-z ]{0,40}",
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..8).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Any byte, or one that means something in a document.
fn damaged_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(br#"[]{}":,\0e-. "#.to_vec())]
}

/// The document as compact or indented text, perhaps with some letters of its strings escaped.
fn document() -> impl Strategy<Value = Vec<u8>> {
    const ESCAPED: [(&str, &str); 4] = [("a", "\\u0061"), ("s", "\\u0073"), ("é", "\\u00e9"), ("😀", "\\ud83d\\ude00")];
    (json(), 0..4).prop_map(|(value, form)| match form {
        0 => serde_json::to_vec(&value).unwrap(),
        1 => serde_json::to_vec_pretty(&value).unwrap(),
        2 => serde_json::to_string_pretty(&value).unwrap().replace('\n', "\r\n\t").into_bytes(),
        _ => ESCAPED.iter().fold(value.to_string(), |text, (from, to)| text.replace(from, to)).into_bytes(),
    })
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "00e9",
        "d800",
        "0",
        "1",
        "-",
        ".",
        "e",
        "+",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "\r",
        "\t",
        "\u{0}",
        "é",
        "\"a\":",
        "\"nodes\":[",
        "\"vms\":null",
        "1e999",
        "/",
    ]);
    prop::collection::vec(pieces, 0..16).prop_map(|pieces| pieces.concat().into_bytes())
}

fn places() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<usize>(), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_in_any_pieces_is_counted_as_serde_json_reads_it(text in document(), places in places()) {
        agrees(&text, &places);
    }

    #[test]
    fn a_damaged_document_is_accepted_or_refused_as_by_serde_json(
        text in document(),
        damage in prop::collection::vec((any::<usize>(), 0..4, damaged_byte()), 1..4),
        places in places(),
    ) {
        let mut text = text;
        for (place, kind, byte) in damage {
            let place = place % (text.len() + 1);
            match kind {
                0 => text.insert(place, byte),
                1 => text.truncate(place),
                _ if place == text.len() => {}
                2 => text[place] = byte,
                _ => drop(text.remove(place)),
            }
        }
        agrees(&text, &places);
    }

    #[test]
    fn nonsense_is_accepted_or_refused_as_by_serde_json(text in soup(), places in places()) {
        agrees(&text, &places);
    }

    #[test]
    fn no_bytes_at_all_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..64), places in places()) {
        agrees(&text, &places);
    }

    #[test]
    fn long_strings_are_passed_over_right(
        plain in 0..64usize,
        special in prop::sample::select(vec!["\"", "\\", "\\\"", "\u{1f}", " ", "\u{7f}", "\u{80}", "ÿ"]),
        places in places(),
    ) {
        agrees(format!("[\"{}{special}{}\",1]", "x".repeat(plain), "y".repeat(9)).as_bytes(), &places);
    }
}

#[test]
fn real_answers_are_counted_as_serde_json_reads_them() {
    if replay::shared_or_skip("real_answers_are_counted_as_serde_json_reads_them").is_none() {
        return;
    }
    let mut seen = 0;
    for folder in replay::captures() {
        for caller in replay::tokens(&folder) {
            for name in ["api_state.json", "api_alerts_active.json"] {
                let path = folder.join(&caller).join(name);
                let Ok(text) = fs::read(&path) else { continue };
                let value: Value = serde_json::from_slice(&text).unwrap();
                for size in [1, 7, 4096, text.len()] {
                    let pieces: Vec<_> = text.chunks(size).collect();
                    let elements = run(Counter::elements(), &pieces).ok().map(|counts| counts.elements());
                    assert_eq!(elements, length(&value), "{}", path.display());
                    let members = run(Counter::members(MEMBERS), &pieces).ok().map(in_order);
                    assert_eq!(members, all_lengths(&value), "{}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 0);
}
