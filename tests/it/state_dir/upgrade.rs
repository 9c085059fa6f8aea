//! Directories that the version before wrote, which had the first layout of `state.json`: they are taken up without
//! loss.
//!
//! Each has its own time in a file `now`, so that nothing in it grows old.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry::config::{Config, TokenSource};
use pulse_telemetry::store::{Disk as _, Found, Store, read_ledger};
use pulse_telemetry_core::audit::{Audit, Report};
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{Action, Engine, EntryKind, ForgetAnswer, Input, KeptReceipt, Start, State};
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_testkit::history::{DAY, SCHEDULE, entries};
use pulse_telemetry_testkit::readings::handed_over;
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::Value;

use super::copy_all;

pub(crate) const FIXTURES: [&str; 6] = ["full", "pending", "interrupted", "off", "pruned", "doubted"];

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout-1").join(name)
}

/// A directory of the version before, taken up by this one.
struct Upgraded {
    dir: tempfile::TempDir,
    before: Value,
    ledger: Vec<u8>,
    now: Now,
    store: Store,
    found: Found,
}

fn upgrade(name: &str) -> Upgraded {
    let dir = tempfile::tempdir().unwrap();
    copy_all(&fixture(name), dir.path());
    let now: Timestamp = fs::read_to_string(dir.path().join("now")).unwrap().trim().parse().unwrap();
    let before = serde_json::from_slice(&fs::read(dir.path().join("state.json")).unwrap()).unwrap();
    let ledger = fs::read(dir.path().join("ledger.jsonl")).unwrap();
    let (store, found) = Store::open(dir.path()).unwrap();
    // Some hours later.
    let now = Now { wall: now + SignedDuration::from_hours(2), mono: Duration::from_secs(500) };
    Upgraded { dir, before, ledger, now, store, found }
}

fn audit(dir: &Path) -> Report {
    let mut audit = Audit::new(Timestamp::MAX, None);
    read_ledger(dir, |piece| audit.take(piece)).unwrap();
    audit.finish()
}

#[test]
fn a_state_file_of_the_version_before_is_read_without_loss_and_written_anew() {
    for name in FIXTURES {
        let Upgraded { dir, before, ledger, found, store, .. } = upgrade(name);
        assert_eq!(before["version"], 1);
        let expected: State = serde_json::from_value(before["state"].clone()).unwrap();
        assert_eq!(found.state, expected, "{name}");
        assert_eq!(found.damage, Vec::<String>::new(), "{name}");
        let anew: Value = serde_json::from_slice(&fs::read(dir.path().join("state.json")).unwrap()).unwrap();
        assert_eq!(anew["version"], 2, "{name}");
        for (key, value) in before["state"].as_object().unwrap() {
            assert_eq!(&anew["state"][key], value, "{name}: {key}");
        }
        let last = entries(&ledger).last().unwrap().seq;
        assert_eq!(anew["ledger"]["seq"], last, "{name}: from now on a loss is seen");
        assert_eq!(fs::read(dir.path().join("ledger.jsonl")).unwrap(), ledger, "{name}");
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().1.state, expected, "{name}: and again");
    }
}

#[test]
fn an_installation_of_the_version_before_goes_on_with_its_id_schedule_pending_ping_and_chain() {
    for name in FIXTURES {
        let Upgraded { dir, ledger, mut now, mut store, found, .. } = upgrade(name);
        let (state, identity, off) = (found.state.clone(), found.identity.clone(), found.switched_off);
        let id = identity.as_ref().map(|identity| identity.install_id.clone());
        assert_eq!((off, id.is_none()), (name == "off", name == "off"), "{name}");
        let start = Start {
            sources: Sources { switched_off: off, ..Sources::default() },
            identity,
            identity_is_ours: true,
            identity_is_forgotten: false,
            state: found.state,
            interrupted: found.interrupted,
        };
        assert_eq!(found.interrupted.is_some(), name == "interrupted", "{name}");
        let (mut engine, first) = Engine::start(SCHEDULE, start, Seeded(1), now);
        let mut sent = Vec::new();
        let mut inputs = carry_out(&mut store, first, now, &mut sent);
        {
            let status = engine.status(now);
            assert_eq!(status.last, state.last.as_ref(), "{name}");
            assert_eq!(status.off.is_some(), name == "off");
            let pending = status.pending.map(|(_, body, _)| body.to_owned());
            assert_eq!(pending, state.pending.as_ref().map(|pending| pending.body.clone()), "{name}");
            if let Some(id) = &id {
                assert_eq!(&engine.preview_id(now), id, "{name}");
            }
        }
        // A day and a half goes by, in steps of five minutes.
        for _ in 0..432 {
            while let Some(input) = inputs.pop() {
                inputs.extend(carry_out(&mut store, engine.handle(now, input), now, &mut sent));
            }
            now.mono += Duration::from_secs(300);
            now.wall += SignedDuration::from_secs(300);
            inputs.push(Input::Tick);
        }
        carry_out(&mut store, engine.handle(now, Input::Stop), now, &mut sent);
        assert_eq!(sent.is_empty(), name == "off", "{name}");
        if let Some(pending) = &state.pending {
            assert_eq!(sent[0], pending.body, "{name}: what was pending goes first, as it was");
        }
        if let (Some(id), Some(first)) = (&id, sent.first()) {
            assert!(first.contains(id.as_str()), "{name}: the ID is kept");
        }
        let joined = fs::read(dir.path().join("ledger.jsonl")).unwrap();
        if name != "pruned" {
            assert!(joined.starts_with(&ledger), "{name}: the chain goes on");
        }
        assert!(entries(&joined).iter().all(|line| line.kind != EntryKind::HistoryLost), "{name}");
        let report = audit(dir.path());
        assert!(report.is_clean(), "{name}: {}", report.to_text());
        let due = state.heartbeat_due.map(|due| due.duration_since(now.wall).abs() < DAY * 3);
        assert_ne!(due, Some(false), "{name}: the fixture's own time is right");
    }
}

#[test]
fn what_the_version_before_sent_can_be_deleted_and_it_refuses_the_directory_for_as_long_as_that_is_pending() {
    for name in FIXTURES {
        let Upgraded { dir, before, ledger, mut now, mut store, found } = upgrade(name);
        let attempted = entries(&ledger).into_iter().filter_map(|line| {
            let body: Value = serde_json::from_str(line.body.as_deref()?).unwrap();
            Some(body["install_id"].as_str().unwrap().to_owned())
        });
        let attempted: BTreeSet<String> = attempted.collect();
        assert!(!attempted.is_empty(), "{name}: there is something to delete");
        let ids = store.read_sent_ids()().unwrap();
        assert_eq!(ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), attempted, "{name}");

        let start = Start {
            sources: Sources { switched_off: found.switched_off, ..Sources::default() },
            identity: found.identity,
            identity_is_ours: true,
            identity_is_forgotten: false,
            state: found.state,
            interrupted: found.interrupted,
        };
        let (mut engine, first) = Engine::start(SCHEDULE, start, Seeded(1), now);
        let mut sent = Vec::new();
        carry_out(&mut store, first, now, &mut sent);
        let mut actions = engine.handle(now, Input::Forget { ids });
        let mut asked = BTreeSet::new();
        let state_file =
            || -> Value { serde_json::from_slice(&fs::read(dir.path().join("state.json")).unwrap()).unwrap() };
        // Two days go by, in steps of five minutes; of one whose clock was suspect the doubt takes the first.
        for step in 0..576 {
            let asks: Vec<_> = actions
                .iter()
                .filter_map(|it| if let Action::Forget(id) = it { Some(id.clone()) } else { None })
                .collect();
            carry_out(&mut store, actions, now, &mut sent);
            if step == 0 {
                assert_eq!(state_file()["version"], 3, "{name}: the version before refuses it, and loses none");
            }
            now.mono += Duration::from_secs(300);
            now.wall += SignedDuration::from_secs(300);
            actions = match asks.into_iter().next() {
                Some(id) => {
                    asked.insert(id.to_string());
                    engine.handle(now, Input::ForgetAnswer { id, answer: ForgetAnswer::Done(KeptReceipt::NONE) })
                }
                None => engine.handle(now, Input::Tick),
            };
        }
        carry_out(&mut store, actions, now, &mut sent);
        carry_out(&mut store, engine.handle(now, Input::Stop), now, &mut sent);
        assert_eq!(asked, attempted, "{name}");
        let lines = fs::read(dir.path().join("ledger.jsonl")).unwrap();
        let done = entries(&lines).into_iter().filter(|line| line.kind == EntryKind::Forgotten).count();
        assert_eq!(done, attempted.len(), "{name}");
        let after = state_file();
        assert_eq!(after["version"], 2, "{name}: and takes it up again once they are over");
        let of_version_2 = ["schedule_of", "id_is_unused"];
        let known = |key: &String| before["state"].get(key).is_some() || of_version_2.contains(&key.as_str());
        assert!(after["state"].as_object().unwrap().keys().all(known), "{name}: {after}");
        assert!(audit(dir.path()).is_clean(), "{name}: {}", audit(dir.path()).to_text());
    }
}

/// Carries out what the engine asks for, and says what comes of it.
fn carry_out(store: &mut Store, actions: Vec<Action>, now: Now, sent: &mut Vec<String>) -> Vec<Input> {
    let mut inputs = Vec::new();
    for action in actions {
        match action {
            Action::Disk(action) => store.carry_out(&action, now.wall).unwrap(),
            Action::ReadPulse => inputs.push(Input::Reading(Box::new(Ok(handed_over())))),
            Action::Send(body) => {
                sent.push(body.into());
                inputs.push(Input::Answer(Answer::Status { code: 204, retry_after: None }, KeptReceipt::NONE));
            }
            _ => {}
        }
    }
    store.confirm().unwrap();
    inputs
}

fn configuration_1(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/configuration-1").join(name)
}

/// Each key of that version with the value that it had there: the file's, or that version's default.
fn values_then(file: &Path) -> BTreeMap<String, toml::Value> {
    let read = |file: &Path| fs::read_to_string(file).unwrap().parse::<toml::Table>().unwrap();
    let mut values = BTreeMap::new();
    for (section, keys) in read(&configuration_1("defaults.toml")).into_iter().chain(read(file)) {
        for (key, value) in keys.as_table().unwrap() {
            let key = format!("{section}.{key}");
            match value.as_table().filter(|entries| !entries.is_empty()) {
                None => drop(values.insert(key, value.clone())),
                Some(entries) => {
                    values.remove(&key);
                    values.extend(entries.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())));
                }
            }
        }
    }
    values
}

#[test]
fn a_configuration_of_the_version_before_has_the_values_that_it_had_there() {
    // `state.dir` follows from the home directory where nothing names it.
    let environment = Environment::new([("HOME".to_owned(), "/home/pulse".to_owned())]);
    let mut seen = 0;
    for file in fs::read_dir(configuration_1("")).unwrap() {
        let file = file.unwrap().path();
        let config = Config::load(Some(&file), &environment, false);
        let config = config.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut then = values_then(&file);
        if then["state.dir"].as_str() == Some("") {
            then.insert("state.dir".to_owned(), "/home/pulse/.local/state/pulse-telemetry".into());
        }
        // A key that came later has its default.
        then.insert("telemetry.receipt_keys_file".to_owned(), "".into());
        let now: BTreeMap<String, toml::Value> = (config.origins().iter())
            .map(|setting| (setting.key.clone(), format!("v = {}", setting.value).parse::<toml::Table>().unwrap()))
            .map(|(key, mut value)| (key, value.remove("v").unwrap()))
            .collect();
        assert_eq!(now, then, "{}", file.display());
        assert!(config.warnings().is_empty(), "{}", file.display());
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// What is made of the values: none of `other-values.toml` is a default.
#[test]
fn the_values_of_a_configuration_of_the_version_before_mean_what_they_meant_there() {
    let environment = Environment::new([("HOME".to_owned(), "/home/pulse".to_owned())]);
    let config = |name: &str| Config::load(Some(&configuration_1(name)), &environment, false).unwrap();
    let then = |config: &Config| {
        let Config { telemetry, pulse, schedule, state, serve, events, log, .. } = config;
        let tokens = match &pulse.tokens {
            TokenSource::Organizations(files) => {
                files.iter().map(|(name, file)| format!("{name} {}", file.path.display())).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        };
        let hosts: Vec<_> = serve.allowed_hosts.iter().map(ToString::to_string).collect();
        let file = serve.token_file.as_ref().map(|file| file.path.display().to_string());
        [
            format!("{} {}", telemetry.enabled, telemetry.endpoint),
            format!("{} {:?} {:?} {:?}", pulse.url, pulse.ca_file, pulse.timeout, pulse.platform),
            tokens,
            format!("{:?} {:?} {:?}", schedule.startup_delay, schedule.interval, schedule.jitter),
            format!("{}", state.dir.display()),
            format!("{} {file:?} {hosts:?}", serve.listen),
            format!("{} {} {:?}", events.record, log.level, log.format),
        ]
    };
    assert_eq!(
        then(&config("other-values.toml")),
        [
            "false https://collector.lan:8443/v1/telemetry/ping",
            "https://pulse.lan:7655/pulse Some(\"/etc/pulse-telemetry/ca.pem\") 90s Binary",
            "acme /etc/pulse-telemetry/acme default /etc/pulse-telemetry/default",
            "300s 129600s 90s",
            "/srv/pulse-telemetry",
            "[::1]:7700 Some(\"/etc/pulse-telemetry/page-token\") [\"pulse.lan\", \"10.0.0.5\"]",
            "false warn Json",
        ]
    );
    assert_eq!(
        then(&config("defaults.toml")),
        [
            "true https://license.pulserelay.pro/v1/telemetry/ping",
            "http://127.0.0.1:7655/ None 10s Auto",
            "None",
            "120s 86400s 1800s",
            "/home/pulse/.local/state/pulse-telemetry",
            "127.0.0.1:7656 None []",
            "true info Text",
        ]
    );
}
