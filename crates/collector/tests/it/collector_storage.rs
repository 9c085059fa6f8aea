//! What is stored is what the contract says, also after somebody else had it in hand; and the configuration of the
//! collector.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod configuration;
mod opening;
mod running;

use pulse_telemetry_collector::config::{CollectorConfig, Storage as Configured};
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_testkit::collector::{Setup, Storage};
use rusqlite::Connection;

/// Changes a storage by hand, then starts a collector; what it says as it ends.
fn refused(storage: &Storage, change: &str) -> String {
    match storage {
        Storage::Sqlite(_) => Connection::open(storage.file()).unwrap().execute_batch(change).unwrap(),
        Storage::Postgres(cluster) => drop(cluster.psql("pulse", change)),
    }
    assert_eq!(Setup::new(storage).run(&["check"]).status.code(), Some(5));
    let ended = Setup::new(storage).run(&["run"]);
    assert_eq!(ended.status.code(), Some(5));
    String::from_utf8(ended.stderr).unwrap()
}

fn config(variables: &[(&str, &str)]) -> Result<CollectorConfig, String> {
    let name = |name: &str| format!("PULSE_TELEMETRY_COLLECTOR_{name}");
    let environment = Environment::new(variables.iter().map(|(key, value)| (name(key), (*value).to_owned())));
    CollectorConfig::load(None, &environment).map_err(|error| error.to_string())
}

fn postgres(url: &str) -> pulse_telemetry_collector::config::Postgres {
    match config(&[("STORAGE__URL", url)]).unwrap().storage {
        Configured::Postgres(postgres) => *postgres,
        Configured::Sqlite(_) => panic!("not PostgreSQL: {url}"),
    }
}
