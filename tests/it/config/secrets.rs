//! Tokens, passwords, and that none is shown.

use pulse_telemetry::config::{Config, TokenSource, Tokens};
use pulse_telemetry_process::config::Environment;
use secrecy::ExposeSecret as _;

use super::{SECRET, Setup, collector, one_token, origin, variable_name, with_file, with_variable};

#[test]
fn the_token_comes_from_the_first_source_there_is() {
    let setup = Setup::new();
    let key = setup.write("key", "of-the-key");
    let name = setup.write("name", "of-the-name\n");
    let credentials = setup.directory.path().to_str().unwrap().to_owned();

    let setup = setup.variable("CREDENTIALS_DIRECTORY", &credentials);
    assert!(matches!(setup.config().pulse.tokens, TokenSource::None), "there is no such credential");
    let credential = setup.write("pulse-token", "of-the-credential\n");
    assert_eq!(one_token(&setup.config()), "of-the-credential");
    assert_eq!(
        origin(&setup.config(), "pulse.token_file"),
        (format!("{credential:?}"), "systemd credential pulse-token".to_owned())
    );
    let setup = setup.file(&format!("pulse.token_file = '{key}'"));
    assert_eq!(one_token(&setup.config()), "of-the-key");
    let setup = setup.variable("PULSE_TOKEN_FILE", &name);
    assert_eq!(one_token(&setup.config()), "of-the-name");
    let setup = setup.variable("PULSE_TOKEN", " of-the-variable ");
    assert_eq!(one_token(&setup.config()), "of-the-variable");
    assert_eq!(
        origin(&setup.config(), "PULSE_TOKEN"),
        ("[not shown]".to_owned(), "environment variable PULSE_TOKEN".to_owned())
    );
}

#[test]
fn a_token_file_that_holds_no_token_is_named_and_not_quoted() {
    let said = |content: &[u8]| {
        let setup = Setup::new();
        let path = setup.write("token", content);
        let setup = setup.variable("PULSE_TOKEN_FILE", &path);
        setup.config().pulse.read_tokens().err().unwrap().to_string().replace(&path, "TOKEN")
    };
    let from = "pulse.token_file: \"TOKEN\" from environment variable PULSE_TOKEN_FILE";
    let empty = "it is empty";
    let lines = "it has more than one line";
    let words = "it has more than one word (take what stands before the token, such as Bearer or token:, away)";
    let others = "it has others (write the token anew)";
    for (content, found) in [
        (String::new(), empty),
        (" \n".to_owned(), empty),
        (format!("{SECRET}\n{SECRET}"), lines),
        (format!("# of anna\n{SECRET}"), lines),
        (format!("{SECRET} x"), words),
        (format!("Bearer {SECRET}"), words),
        (format!("token:\t{SECRET}"), words),
        (format!("{SECRET}\u{e9}"), others),
        (format!("\u{200b}{SECRET}"), others),
        (format!("{SECRET}\u{7f}"), others),
    ] {
        let expected = format!("{from}: must hold one token: visible ASCII characters on one line, and {found}");
        assert_eq!(said(content.as_bytes()), expected);
    }
    assert!(said(b"\xff").ends_with(others));
    assert_eq!(said(&[b'x'; 4097]), format!("{from}: cannot be read: more than 4096 bytes"));
    let absent = with_variable("PULSE_TOKEN_FILE", "/nonexistent/token").config().pulse.read_tokens();
    assert_eq!(
        absent.err().unwrap().to_string(),
        "pulse.token_file: \"/nonexistent/token\" from environment variable PULSE_TOKEN_FILE: \
         cannot be read: No such file or directory (os error 2). Write it, or name another one; it is read at a start \
         only"
    );
}

#[test]
fn a_token_as_people_write_it_is_refused_with_a_sentence_that_names_what_was_found() {
    let utf_16 = |little: bool, text: &str| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let quoted = "has quotation marks around the token: take them away, for they would be sent with it";
    let assigned = "holds an assignment, such as PULSE_TOKEN=… or export PULSE_TOKEN=…: leave the token alone in it";
    let wide = "is UTF-16, as > of PowerShell writes it: save it as UTF-8 or ASCII (Set-Content -Encoding ascii)";
    let text = |pattern: &str| pattern.replace('@', SECRET).into_bytes();
    for (content, said) in [
        (text("\"@\""), quoted),
        (text("'@'\n"), quoted),
        (text("`@`"), quoted),
        (text("\u{feff}\"@\"\r\n"), quoted),
        (text("\u{201c}@\u{201d}"), quoted),
        (text("\"@"), quoted),
        (text("PULSE_TOKEN=@"), assigned),
        (text("PULSE_KEY=@\n"), assigned),
        (text("export PULSE_KEY=@"), assigned),
        (text("export key='@'"), assigned),
        (text("# of Pulse\nPULSE_KEY = \"@\"\n"), assigned),
        (text("$env:pulse=\"@\""), assigned),
        (text("pulse_token=@"), assigned),
        (text("\u{feff}api_token=@"), assigned),
        ([b"\xff\xfe".to_vec(), utf_16(true, SECRET)].concat(), wide),
        ([b"\xfe\xff".to_vec(), utf_16(false, SECRET)].concat(), wide),
        (utf_16(true, &format!("{SECRET}\r\n")), wide),
    ] {
        let setup = Setup::new();
        let path = setup.write("token", &content);
        for (key, read) in [
            ("pulse.token_file", &(|config: &Config| config.pulse.read_tokens().map(drop)) as &dyn Fn(&Config) -> _),
            ("serve.token_file", &|config: &Config| config.serve.read_token().map(drop)),
        ] {
            let config = with_variable(&variable_name(key), &path).config();
            let error = read(&config).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: {path:?} from")) && error.ends_with(said), "{error}");
            assert!(!error.contains(SECRET), "{error}");
        }
        if let Ok(text) = String::from_utf8(content)
            && !text.contains('\0')
        {
            let error = with_variable("PULSE_TOKEN", &text).error();
            assert_eq!(error, format!("environment variable PULSE_TOKEN: {said}"));
        }
    }
}

#[test]
fn a_byte_order_mark_alone_is_passed_over_and_a_token_may_look_like_much() {
    for token in [SECRET, "QUJDRA==", "a=b", "aB3=x", "{a=b}", "don't", "AB=", "=="] {
        for content in [token.to_owned(), format!("\u{feff}{token}\r\n"), format!(" {token}\n\n")] {
            let setup = Setup::new();
            let path = setup.write("token", &content);
            assert_eq!(one_token(&setup.variable("PULSE_TOKEN_FILE", &path).config()), token, "{content:?}");
        }
    }
}

#[test]
fn a_password_may_have_the_characters_that_a_token_may_not() {
    let setup = Setup::new();
    for password in ["\"quoted\"", "PASS=word", "it's"] {
        let path = setup.write("password", format!("\u{feff}{password}\n"));
        let config =
            collector(&[("storage.url", "postgres://pulse@127.0.0.1/pulse"), ("storage.password_file", &path)])
                .unwrap();
        let collector::Storage::Postgres(postgres) = config.storage else { panic!("PostgreSQL") };
        assert_eq!(postgres.read_password().unwrap().unwrap().expose_secret(), password);
    }
}

#[test]
fn organizations_have_a_token_file_each() {
    let setup = Setup::new();
    let (acme, default) = (setup.write("a", "token-a"), setup.write("d", "token-d"));
    let in_file = with_file(&format!("[pulse.organizations]\nacme = '{acme}'\ndefault = '{default}'"));
    let in_variable =
        with_variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{acme=\"{acme}\",default=\"{default}\"}}"));
    let joined = with_file(&format!("pulse.organizations.acme = '{acme}'"))
        .variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{default={default}}}"));
    for setup in [in_file, in_variable, joined] {
        let Tokens::Organizations(tokens) = setup.config().pulse.read_tokens().unwrap() else {
            panic!("tokens of organizations")
        };
        let tokens: Vec<_> = tokens.iter().map(|(name, token)| (name.as_str(), token.expose_secret())).collect();
        assert_eq!(tokens, [("acme", "token-a"), ("default", "token-d")]);
        assert_eq!(origin(&setup.config(), "pulse.organizations.acme").0, format!("{acme:?}"));
    }
}

#[test]
fn organizations_without_default_or_with_an_odd_name_are_refused() {
    assert_eq!(
        with_file("pulse.organizations = {acme = '/a'}").error(),
        "pulse.organizations from FILE: must have an entry named default: the flags of the whole installation come \
         from it"
    );
    assert_eq!(
        with_file("pulse.organizations = {default = '/a', 'a b' = '/b', '' = '/c'}").error(),
        "pulse.organizations. from FILE: must have a name of 1 to 64 letters, digits, - and _\n\
         pulse.organizations.a b from FILE: must have a name of 1 to 64 letters, digits, - and _"
    );
    let long = "x".repeat(65);
    assert!(with_file(&format!("pulse.organizations = {{default = '/a', {long} = '/b'}}")).load().is_err());
    for text in ["{default=", "default=/a", "{default=1}", "[/a]", "/a"] {
        let error = with_variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", text).error();
        assert!(error.contains(r#"such as {acme="/path",default="/path"}"#), "{error}");
    }
}

#[test]
fn every_unreadable_token_file_of_the_organizations_is_told() {
    let config = with_file("pulse.organizations = {default = '/nonexistent/d', acme = '/nonexistent/a'}").config();
    let error = config.pulse.read_tokens().err().unwrap();
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["pulse.organizations.acme", "pulse.organizations.default"]);
}

#[test]
fn organizations_and_a_single_token_contradict_each_other() {
    let organizations = || with_file("pulse.organizations = {default = '/d'}");
    let error = |other: &str| {
        format!(
            "pulse.organizations from FILE: contradicts {other}: \
             give either one token or a token file for each organization"
        )
    };
    assert_eq!(organizations().variable("PULSE_TOKEN", SECRET).error(), error("environment variable PULSE_TOKEN"));
    assert_eq!(
        organizations().variable("PULSE_TOKEN_FILE", "/t").error(),
        error("pulse.token_file from environment variable PULSE_TOKEN_FILE")
    );
    assert_eq!(
        organizations().file("pulse = {token_file = '/t', organizations = {default = '/d'}}").error(),
        error("pulse.token_file from FILE")
    );
}

#[test]
fn no_secret_is_in_debug_or_in_the_origins() {
    let setup = with_variable("PULSE_TOKEN", SECRET);
    let path = setup.write("token", SECRET);
    let setup = setup
        .variable("PULSE_TELEMETRY_SERVE__TOKEN_FILE", &path)
        .variable("HTTPS_PROXY", &format!("http://me:{SECRET}@proxy:3128"));
    let config = setup.config();
    let env = Environment::new(setup.variables.clone());
    for shown in [
        format!("{config:?}"),
        format!("{:?}", config.origins()),
        format!("{:?}", config.pulse.read_tokens()),
        format!("{:?}", config.serve.read_token()),
        format!("{env:?}"),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn a_secret_in_a_wrong_place_is_refused_and_not_repeated() {
    let url = format!("http://me:{SECRET}@pulse.lan");
    let query = format!("http://pulse.lan/?token={SECRET}");
    for (name, value) in [
        ("PULSE_TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__TOKEN", SECRET),
        ("PULSE_TELEMETRY_SERVE__TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE_TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", SECRET),
        ("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{default={SECRET}}}")),
        ("PULSE_TOKEN", &format!("{SECRET}\n{SECRET}")),
        ("PULSE_URL", &url),
        ("PULSE_URL", &query),
        ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", &url),
        ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", &query),
    ] {
        let setup = with_variable(name, value);
        let error = setup.load().err().unwrap_or_else(|| panic!("{name} is accepted"));
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
    let numeric = with_file("pulse.token_file = 8675309").error();
    assert!(!numeric.contains("8675309"), "{numeric}");
}
