//! `check`: tries what a start needs, in the order of a start and with its words, and leaves nothing behind.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;

use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use tokio::net::TcpListener;

use super::error::CollectorError;
use super::storage::trust;
use crate::config::{CollectorConfig, Storage};
use crate::postgres::PostgresStore;
use crate::server;
use crate::sqlite::{SqliteStore, Trial};
use crate::storage::StorageError;

pub(super) async fn check(config: &CollectorConfig, out: &mut dyn Write) -> Result<(), CollectorError> {
    for setting in config.origins() {
        writeln!(out, "{} = {} ({})", setting.key, setting.value, setting.origin)?;
    }
    for warning in config.warnings() {
        writeln!(out, "Note: {warning}.")?;
    }
    for exposed in config.exposed_secrets() {
        writeln!(out, "Note: {exposed}")?;
    }
    if let Some(files) = &config.serve.tls {
        let tls = server::tls(files).map_err(CollectorError::SetUp)?;
        if let Some(warning) = server::warning(tls.ends, SystemClock.now().wall) {
            writeln!(out, "Note: {warning}.")?;
        }
    }
    config.admin.read_token()?;
    config.receipts.read()?;
    let taken = try_storage(&config.storage, out).await?;
    let serve = listen("serve.listen", config.serve.listen)?;
    // While the first one is held, for a start holds both.
    let admin = listen("admin.listen", config.admin.listen)?;
    match (taken, serve.and(admin), &config.storage) {
        (None, Ok(_), _) => {}
        (Some(taken), Ok(_), _) => return Err(taken.into()),
        (Some(_), Err(_), _) => writeln!(out, "A collector runs with this storage and these addresses.")?,
        // Whose it is cannot be told: any number of collectors share a database.
        (None, Err(in_use), Storage::Postgres(_)) => {
            writeln!(out, "Note: {in_use}: by the collector that runs, or by another program.")?;
        }
        (None, Err(in_use), Storage::Sqlite(_)) => return Err(CollectorError::Other(in_use)),
    }
    Ok(())
}

/// Tries the storage; what a start would say where another collector has it.
async fn try_storage(storage: &Storage, out: &mut dyn Write) -> Result<Option<StorageError>, CollectorError> {
    let (is_made, taken) = match storage {
        Storage::Sqlite(path) => match SqliteStore::try_out(path)? {
            Trial::Free => (true, None),
            Trial::NotYet => (false, None),
            Trial::Taken(taken) => (true, Some(taken)),
        },
        Storage::Postgres(postgres) => {
            let (password, trust) = (postgres.read_password()?, trust(postgres)?);
            (PostgresStore::try_out(postgres.connect.clone(), password.as_ref(), &trust).await?, None)
        }
    };
    let name = match storage {
        Storage::Sqlite(path) => path.display().to_string(),
        Storage::Postgres(_) => "the database of storage.url".to_owned(),
    };
    if is_made {
        writeln!(out, "storage: it can be used, and has the columns of the contract")?;
    } else {
        writeln!(out, "storage: {}", StorageError::NotYet(name))?;
    }
    Ok(taken)
}

/// Binds the address, or says that it is in use. An error where it can never be bound.
fn listen(key: &str, address: SocketAddr) -> Result<Result<TcpListener, String>, CollectorError> {
    server::bind(address).map(Ok).or_else(|error| {
        let failed = format!("failed to listen at {key} {address}: {error}");
        if error.kind() == ErrorKind::AddrInUse { Ok(Err(failed)) } else { Err(CollectorError::Other(failed)) }
    })
}
