//! The ingest: whatever the bytes are, a row holds to the contract, or a refusal names a field of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
#![expect(clippy::cast_possible_truncation, reason = "what is drawn is smaller")]

use proptest::prelude::*;
use pulse_telemetry_collector::ingest::{Accepted, Cell, InvalidPing, read};
use pulse_telemetry_core::contract::{self, COUNT_MAX, FIELDS, FieldKind};
use pulse_telemetry_core::version;
use pulse_telemetry_testkit::collector::{expected_row, ping};
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::{Map, Value, json};

fn accepted(body: &Value) -> Accepted {
    read(body.to_string().as_bytes()).unwrap_or_else(|refusal| panic!("{refusal}: {body}"))
}

fn cell(body: &Value, name: &str) -> Cell {
    let at = FIELDS.iter().position(|field| field.name == name).unwrap();
    accepted(body).cells[at].clone()
}

/// A row as JSON.
fn json_of(accepted: &Accepted) -> Map<String, Value> {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => json!(text),
        Cell::Count(count) => json!(count),
        Cell::Flag(flag) => json!(flag),
    };
    FIELDS.iter().zip(&*accepted.cells).map(|(field, cell)| (field.name.to_owned(), value(cell))).collect()
}

/// What a row says holds to the contract, as the table and as the schema have it.
fn holds_to_the_contract(accepted: &Accepted) {
    let mut row = json_of(accepted);
    row.retain(|_, value| !value.is_null());
    contract::validate(&Value::Object(row)).unwrap();
}

/// What is said of a ping that is taken; a refusal names a field, or says what is wrong with the whole.
fn holds(body: &[u8]) -> bool {
    match read(body) {
        Ok(accepted) => {
            holds_to_the_contract(&accepted);
            let mut row = json_of(&accepted);
            row.retain(|_, value| !value.is_null());
            let again = read(Value::Object(row).to_string().as_bytes()).unwrap();
            assert_eq!(again.cells, accepted.cells, "what was stored is taken as it is");
            true
        }
        Err(InvalidPing::Invalid(field) | InvalidPing::Missing(field)) => {
            assert!(FIELDS.iter().any(|known| known.name == field), "{field}");
            false
        }
        Err(_) => false,
    }
}

/// Pings that are taken, broken in the ways in which bytes break: flipped, cut, doubled, taken out, mixed with another
/// one's, and given numbers and words that parsers stumble over. `MUTATIONS` says how many.
#[test]
#[expect(clippy::disallowed_methods, reason = "how much is tried is said in the environment")]
fn no_mutation_of_a_ping_panics_or_breaks_the_contract() {
    let mutations = std::env::var("MUTATIONS").map_or(20_000, |number| number.parse().unwrap());
    let whole = ping(&json!({"version_raw": "v6.3.0-\u{e9}\n", "license_tier": "pro", "extra": {"a": [1, {}]}}));
    let corpus: Vec<Vec<u8>> = [ping(&json!({})), ping(&json!({"vms": -1, "version_build": "git.1"})), whole]
        .iter()
        .map(|ping| ping.to_string().into_bytes())
        .collect();
    let stumbling = [
        "1e400",
        "-0",
        "\"\\ud800\"",
        "null",
        "{}",
        "[[",
        "\u{0}",
        "\u{feff}",
        "18446744073709551616",
        "\"\"",
        ",",
        "}",
    ];
    let mut seed = Seeded(20_261_124);
    let mut taken = 0;
    for _ in 0..mutations {
        let mut body = corpus[seed.draw(3) as usize].clone();
        for _ in 0..=seed.draw(4) {
            let (from, to) = (seed.draw(body.len() as u64 + 1) as usize, seed.draw(body.len() as u64 + 1) as usize);
            let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 40));
            let new = match seed.draw(6) {
                0 => vec![seed.draw(256) as u8],
                1 => Vec::new(),
                2 => [&body[from..to], &body[from..to]].concat(),
                3 => stumbling[seed.draw(stumbling.len() as u64) as usize].as_bytes().to_vec(),
                4 => corpus[seed.draw(3) as usize].iter().skip(from).take(to - from).copied().collect(),
                _ => seed.draw(u64::MAX).to_string().into_bytes(),
            };
            body.splice(from..to, new);
        }
        taken += u64::from(holds(&body));
    }
    assert!(taken > 0 && taken < mutations, "{taken} of {mutations} were taken");
}

#[test]
fn counts_are_clamped_and_not_refused() {
    let count = |value: Value| cell(&ping(&json!({"vms": value})), "vms");
    assert_eq!(count(json!(25)), Cell::Count(25));
    assert_eq!(count(json!(-1)), Cell::Count(0));
    assert_eq!(count(json!(i64::MIN)), Cell::Count(0));
    assert_eq!(count(json!(COUNT_MAX)), Cell::Count(COUNT_MAX));
    assert_eq!(count(json!(u64::MAX)), Cell::Count(COUNT_MAX));
    // A whole number may be written with a point or an exponent, and may be larger than any type of ours.
    for (written, count) in
        [("1.0", 1), ("-0", 0), ("2e3", 2000), ("99999999999999999999", COUNT_MAX), ("1e300", COUNT_MAX), ("-1e300", 0)]
    {
        let body = ping(&json!({"vms": 4711})).to_string().replace("4711", written);
        let at = FIELDS.iter().position(|field| field.name == "vms").unwrap();
        assert_eq!(read(body.as_bytes()).unwrap().cells[at], Cell::Count(count), "{written}");
    }
    // What no floating-point number can hold is taken for broken JSON.
    let body = ping(&json!({"vms": 4711})).to_string().replace("4711", "1e400");
    assert_eq!(read(body.as_bytes()), Err(InvalidPing::NotJson));
    for wrong in [json!(1.5), json!("1"), json!(true), json!([1])] {
        let body = ping(&json!({"vms": wrong})).to_string();
        assert_eq!(read(body.as_bytes()), Err(InvalidPing::Invalid("vms")));
    }
}

#[test]
fn an_id_has_one_spelling_in_a_row_so_that_it_counts_once() {
    let canonical = Cell::Text("4564b43e-e025-4641-8744-36ca666fdf59".to_owned());
    for spelling in [
        "4564b43e-e025-4641-8744-36ca666fdf59",
        "4564B43E-E025-4641-8744-36CA666FDF59",
        "{4564b43e-e025-4641-8744-36ca666fdf59}",
        "URN:uuid:4564b43e-e025-4641-8744-36ca666fdf59",
        "4564b43ee0254641874436ca666fdf59",
    ] {
        assert_eq!(cell(&ping(&json!({"install_id": spelling})), "install_id"), canonical, "{spelling}");
    }
}

#[test]
fn an_optional_text_that_is_out_of_bounds_is_left_out_for_pulse_itself_bounds_none() {
    for name in ["version_raw", "version_build"] {
        assert_eq!(cell(&ping(&json!({name: ""})), name), Cell::Null);
        for text in BEYOND {
            let body = ping(&json!({name: text}));
            assert_eq!(cell(&body, name), Cell::Null, "{text}");
            assert_eq!(accepted(&body).dropped, 1, "it is counted: {text}");
        }
        let body = ping(&json!({name: 7})).to_string();
        assert_eq!(read(body.as_bytes()), Err(InvalidPing::Invalid(name)));
        assert_eq!(cell(&ping(&json!({name: "x".repeat(64)})), name), Cell::Text("x".repeat(64)));
    }
}

#[test]
fn a_version_that_is_not_of_the_alphabet_or_too_long_is_refused() {
    for text in BEYOND {
        assert_eq!(
            read(ping(&json!({"version": text})).to_string().as_bytes()),
            Err(InvalidPing::Invalid("version")),
            "{text}"
        );
    }
    assert_eq!(cell(&ping(&json!({"version": "x".repeat(64)})), "version"), Cell::Text("x".repeat(64)));
}

/// Texts of a version that the contract does not allow.
const BEYOND: [&str; 9] = [
    "two\nlines",
    "a b",
    "6.3.0-a_b",
    "6.3.0-<script>alert(1)</script>",
    "6.3.0-=HYPERLINK(\"http://x\",\"y\")",
    "root@pve01:/home/anna Büro",
    "6.3.0-\u{202e}x",
    "6.3.0-ü",
    "6.3.0-65-bytes-are-more-than-64-bytes-which-is-what-there-may-be-here",
];

#[test]
fn of_a_key_that_comes_twice_the_last_value_counts() {
    let body = ping(&json!({})).to_string();
    let twice = format!("{},\"vms\":3,\"vms\":4}}", body.trim_end_matches('}'));
    let at = FIELDS.iter().position(|field| field.name == "vms").unwrap();
    assert_eq!(read(twice.as_bytes()).unwrap().cells[at], Cell::Count(4));
}

#[test]
fn a_refusal_repeats_nothing_of_the_body() {
    let secret = "hunter2-hunter2";
    for field in &FIELDS {
        let body = ping(&json!({field.name: {"a": secret}})).to_string();
        let refusal = read(body.as_bytes()).unwrap_err();
        assert_eq!(refusal.field(), Some(field.name));
        assert!(!refusal.to_string().contains(secret), "{refusal}");
    }
}

/// A value for a field, or one of a kind that it may not have.
fn value() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        any::<String>(),
        "[a-z0-9]{1,17}",
        Just("stable".to_owned()),
        Just("docker".to_owned()),
        Just("startup".to_owned()),
        Just("{4564b43e-e025-4641-8744-36ca666fdf59}".to_owned()),
        "v?[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(-[a-z0-9.]{1,300})?",
    ];
    prop_oneof![
        6 => texts.prop_map(Value::from),
        3 => any::<i64>().prop_map(Value::from),
        3 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        3 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!({"a": [1, null]})),
    ]
}

proptest! {
    #[test]
    fn no_bytes_at_all_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_broken_ping_makes_it_panic(at in 0usize..600, byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = ping(&json!({})).to_string().into_bytes();
        let at = at % body.len();
        if cut { body.truncate(at) } else { body[at] = byte }
        if let Ok(accepted) = read(&body) {
            holds_to_the_contract(&accepted);
        }
    }

    #[test]
    fn whatever_the_fields_hold_a_row_holds_to_the_contract_and_a_refusal_names_one_of_them(
        changes in proptest::collection::vec((0..FIELDS.len() + 2, value()), 0..4)
    ) {
        let mut body = ping(&json!({}));
        let mut changed = Vec::new();
        for (at, value) in changes {
            let name = FIELDS.get(at).map_or("license_tier", |field| field.name);
            body[name] = value;
            changed.push(name);
        }
        match read(body.to_string().as_bytes()) {
            Ok(accepted) => {
                holds_to_the_contract(&accepted);
                let is_left_out = |name: &&str| {
                    let said = body[*name].as_str().unwrap_or_default();
                    !said.is_empty() && !contract::field(name).unwrap().accepts(&body[*name])
                };
                let left_out = ["version_raw", "version_build"].iter().filter(|name| is_left_out(name)).count();
                let unknown = usize::from(changed.contains(&"license_tier"));
                prop_assert_eq!(accepted.dropped, (unknown + left_out) as u64);
                // What the contract accepts as it is, is stored as it is; only the ID has one spelling.
                for (field, (_, stored)) in FIELDS.iter().zip(json_of(&accepted)) {
                    let sent = &body[field.name];
                    if field.kind != FieldKind::InstallId && field.accepts(sent) {
                        prop_assert_eq!(sent, &stored);
                    }
                }
            }
            Err(refusal) => {
                let field = refusal.field().unwrap();
                prop_assert!(changed.contains(&field));
                prop_assert!(FIELDS.iter().any(|known| known.name == field && !known.accepts(&body[field])));
            }
        }
    }

    #[test]
    fn no_version_that_a_sidecar_can_send_is_refused(
        raw in prop_oneof![any::<String>(), "v?[0-9]+\\.[0-9]+\\.[0-9]+[-+.a-z0-9]{0,40}"],
    ) {
        if let Some(identity) = version::identify(&raw) {
            let mut body = ping(&json!({"version": identity.version, "version_channel": identity.channel.word()}));
            for (name, value) in [("version_raw", identity.raw), ("version_build", identity.build)] {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            prop_assert_eq!(json_of(&accepted(&body)), expected_row(&body));
        }
    }
}

/// The ping of Pulse 6.0.0-rc.1 as it was released: 20 fields.
fn of_the_first_candidate(version: &str) -> Value {
    let mut ping = ping(&json!({"version": version}));
    ping.as_object_mut().unwrap().retain(|name, _| !name.starts_with("version_"));
    assert_eq!(ping.as_object().unwrap().len(), 20);
    ping
}

#[test]
fn a_ping_with_none_of_the_five_fields_on_its_version_gets_them_from_its_version() {
    for (sent, version, raw, channel, build, is_development, is_published_release) in [
        ("6.0.0-rc.1", "6.0.0-rc.1", None, "rc", None, false, true),
        ("6.0.0", "6.0.0", None, "stable", None, false, true),
        ("v6.0.0", "6.0.0", Some("v6.0.0"), "stable", None, false, true),
        ("6.0.0-dev", "6.0.0-dev", None, "dev", None, true, false),
        ("6.0.0-beta", "6.0.0-beta", None, "prerelease", None, false, false),
        (
            "6.0.0-rc.1-3-gABC-dirty",
            "6.0.0-rc.1+git.3.gabc.dirty",
            Some("6.0.0-rc.1-3-gABC-dirty"),
            "dev",
            Some("git.3.gabc.dirty"),
            true,
            false,
        ),
        ("main", "0.0.0-main", Some("main"), "prerelease", None, false, false),
    ] {
        let mut expected = expected_row(&ping(&json!({
            "version": version, "version_channel": channel, "version_is_development": is_development,
            "version_is_published_release": is_published_release,
        })));
        expected["version_raw"] = json!(raw);
        expected["version_build"] = json!(build);
        let accepted = accepted(&of_the_first_candidate(sent));
        holds_to_the_contract(&accepted);
        assert_eq!((json_of(&accepted), accepted.dropped), (expected, 0), "{sent}");
    }
    for version in ["", "6.0.0 ", "6.0.0-\u{e9}", &"x".repeat(65), &"x".repeat(64), "6.0.0-<b>"] {
        let body = of_the_first_candidate(version).to_string();
        assert_eq!(read(body.as_bytes()), Err(InvalidPing::Invalid("version")), "{version:?}");
    }
}

#[test]
fn a_ping_with_some_of_the_five_fields_on_its_version_is_refused_for_the_first_required_one_that_is_missing() {
    let five =
        ["version_raw", "version_channel", "version_build", "version_is_development", "version_is_published_release"];
    let whole = ping(&json!({"version_raw": "v6.0.0", "version_build": "git.1"}));
    for some in 1_u32..32 {
        let mut body = of_the_first_candidate("6.0.0-rc.1");
        for (_, name) in five.iter().enumerate().filter(|(at, _)| some >> at & 1 == 1) {
            body[name] = whole[name].clone();
        }
        let missing = five.into_iter().find(|name| {
            body.get(name).is_none() && FIELDS.iter().any(|field| field.name == *name && field.required())
        });
        assert_eq!(read(body.to_string().as_bytes()).err(), missing.map(InvalidPing::Missing), "{body}");
    }
}
