use super::*;

/// RFC 8410, section 10.3, and the same key in RFC 8037, appendix A: a private key without its public one.
const PKCS8: &str = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v_VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
const BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&BASE64URL.decode(PKCS8).unwrap()).unwrap()
}

fn keys() -> ReceiptKeys {
    ReceiptKeys::new([signing_key().public().clone()]).unwrap()
}

fn received() -> Receipt {
    Receipt::Received {
        body_sha256: BODY.to_owned(),
        day: "2026-11-26".parse().unwrap(),
        deleted_by: "2027-02-24".parse().unwrap(),
        contract_sha256: sha256(b"contract"),
    }
}

fn forgotten() -> Receipt {
    Receipt::Forgotten {
        id_sha256: sha256(b"id"),
        day: "2026-11-26".parse().unwrap(),
        contract_sha256: sha256(b"contract"),
    }
}

/// What is signed says whatever the test wants.
fn signed(header: &str, claims: &str) -> String {
    let text = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let signature = signing_key().pair.sign(text.as_bytes());
    format!("{text}.{}", BASE64URL.encode(signature))
}

fn header(alg: &str) -> String {
    format!(r#"{{"alg":"{alg}","kid":"{KID}","typ":"{TYP}"}}"#)
}

fn standing(text: &str) -> ReceiptStanding {
    let expected = Expected::Received { body_sha256: BODY };
    let (standing, kept) = judge(Some(&keys()), Some(text), expected);
    assert_eq!(kept.is_some(), standing == ReceiptStanding::Verified, "the text of a false one is not kept: {text}");
    let (without, kept) = judge(None, Some(text), expected);
    assert_ne!(without, ReceiptStanding::Verified, "without a key: {text}");
    assert_eq!(kept.is_some(), without == ReceiptStanding::Unverified, "{text}");
    standing
}

#[test]
fn the_name_of_a_key_is_its_thumbprint_as_in_rfc_8037() {
    assert_eq!(signing_key().kid(), KID);
    assert!(!format!("{:?}", signing_key()).contains("nWGxne"), "a key is not shown");
}

#[test]
fn a_receipt_is_verified_by_its_key_and_an_equal_one_is_the_same_text() {
    let text = signing_key().sign(&received());
    assert_eq!(text, signing_key().sign(&received()));
    assert!(text.len() < 600, "{}", text.len());
    assert_eq!(Receipt::read(&text), Some(received()));
    assert_eq!(standing(&text), ReceiptStanding::Verified);
    let expected = Expected::Received { body_sha256: BODY };
    assert_eq!(judge(None, Some(&text), expected), (ReceiptStanding::Unverified, Some(text)));
    assert_eq!(judge(Some(&keys()), None, expected), (ReceiptStanding::Missing, None));
    let text = signing_key().sign(&forgotten());
    let expected = Expected::Forgotten { id_sha256: &sha256(b"id") };
    assert_eq!(judge(Some(&keys()), Some(&text), expected), (ReceiptStanding::Verified, Some(text)));
}

#[test]
fn the_old_name_of_the_algorithm_is_read_and_never_written() {
    let claims = json!(received()).to_string();
    assert_eq!(standing(&signed(&header("EdDSA"), &claims)), ReceiptStanding::Verified);
    let text = signing_key().sign(&received());
    let written = BASE64URL.decode(text.split('.').next().unwrap()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), header("Ed25519"));
}

#[test]
fn a_receipt_of_another_thing_another_form_or_another_key_is_false() {
    let good = signing_key().sign(&received());
    let claims = json!(received()).to_string();
    let with = |from: &str, to: &str| {
        assert!(claims.contains(from), "{from}");
        signed(&header("Ed25519"), &claims.replace(from, to))
    };
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let none = BASE64URL.encode(header("none"));
    for (what, text) in [
        ("another body", with(BODY, &sha256(b"another"))),
        ("the other kind", signing_key().sign(&forgotten())),
        ("no algorithm", format!("{none}.{body}.")),
        ("no algorithm, signed", signed(&header("none"), &claims)),
        ("RSA", signed(&header("RS256"), &claims)),
        ("HMAC", signed(&header("HS256"), &claims)),
        ("another curve", signed(&header("Ed448"), &claims)),
        ("another type", signed(&header("Ed25519").replace(TYP, "JWT"), &claims)),
        ("no type", signed(&format!(r#"{{"alg":"Ed25519","kid":"{KID}"}}"#), &claims)),
        ("a header of more", signed(&header("Ed25519").replace('}', r#","crit":["b64"]}"#), &claims)),
        ("a key in it", signed(&header("Ed25519").replace('}', r#","jwk":{}}"#), &claims)),
        ("an unknown claim", with("}", r#","at":"12:00"}"#)),
        ("a claim twice", with("}", r#","kind":"received"}"#)),
        ("a claim is missing", with(r#""deleted_by":"2027-02-24","#, "")),
        ("an hour", with("2026-11-26", "2026-11-26T12:00:00")),
        ("no day", with("2026-11-26", "2026-11-31")),
        ("a digest of capitals", with(&sha256(b"contract"), &sha256(b"contract").to_uppercase())),
        ("a short digest", with(&sha256(b"contract"), "ab")),
        ("not JSON", signed(&header("Ed25519"), "{")),
        ("a list", signed(&header("Ed25519"), "[]")),
        ("huge", with(&sha256(b"contract"), &"a".repeat(4096))),
        ("long", format!("{good}{}", "A".repeat(RECEIPT_MAX))),
        ("cut", good[..good.len() - 1].to_owned()),
        ("padded", format!("{good}==")),
        ("a space", format!("{good} ")),
        ("a line break", format!("{good}\n")),
        ("a part more", format!("{good}.AA")),
        ("a part less", format!("{head}.{body}")),
        ("empty", String::new()),
        ("letters of elsewhere", good.replacen('.', "é.", 1)),
    ] {
        assert_eq!(standing(&text), ReceiptStanding::False, "{what}");
        let expected = Expected::Received { body_sha256: BODY };
        assert_eq!(judge(None, Some(&text), expected), (ReceiptStanding::False, None), "without keys: {what}");
    }
    let other = "A".repeat(86);
    for (what, text) in [
        ("another's signature", format!("{head}.{body}.{other}")),
        (
            "the signature of another",
            format!("{}.{signature}", with("2027-02-24", "2027-02-25").rsplit_once('.').unwrap().0),
        ),
        ("another's kid", signed(&header("Ed25519").replace(KID, "kPrK"), &claims)),
    ] {
        assert_eq!(standing(&text), ReceiptStanding::False, "{what}");
    }
}

#[test]
fn what_the_digest_of_an_id_is_does_not_depend_on_its_spelling() {
    let canonical = "6f1e6f8e-9d64-4b7e-8a3e-0123456789ab";
    for spelling in
        [canonical.to_owned(), canonical.to_uppercase(), canonical.replace('-', ""), format!("{{{canonical}}}")]
    {
        assert_eq!(id_sha256(&InstallId::parse(&spelling).unwrap()), sha256(canonical.as_bytes()), "{spelling}");
    }
}

#[test]
fn a_jwk_set_is_read_as_it_is_written_and_what_is_wrong_with_one_is_named() {
    let set = keys().jwk_set();
    assert_eq!(ReceiptKeys::from_jwk_set(set.to_string().as_bytes()), Ok(keys()));
    assert_eq!(set["keys"][0]["kid"], KID);
    let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    let mixed = json!({"keys": [rsa, set["keys"][0], set["keys"][0]]});
    assert_eq!(ReceiptKeys::from_jwk_set(mixed.to_string().as_bytes()), Ok(keys()), "others are passed over");
    let with = |member: &str, value: &str| {
        let mut set = json!({"keys": [rsa, set["keys"][0]]});
        set["keys"][1][member] = value.into();
        set.to_string()
    };
    for (text, words) in [
        (String::new(), "it is no JWK set"),
        ("-----BEGIN PUBLIC KEY-----".to_owned(), "it is no JWK set"),
        (set["keys"][0].to_string(), "it is no JWK set"),
        (r#"{"keys":[]}"#.to_owned(), "there is no key of Ed25519 in it"),
        (json!({"keys": [rsa]}).to_string(), "there is no key of Ed25519 in it"),
        (with("d", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"), "key 2 in it is a private key"),
        (with("x", "AAAA"), "key 2 in it has no `x` of 32 bytes"),
        (with("alg", "ES256"), "key 2 in it has an `alg`"),
        (with("use", "enc"), "key 2 in it is not for signatures"),
        (with("kid", "mine"), "key 2 in it has a `kid` that is not its thumbprint"),
    ] {
        let refused = ReceiptKeys::from_jwk_set(text.as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with(words), "{refused}");
        assert!(!refused.contains("nWGxne"), "{refused}");
    }
}
