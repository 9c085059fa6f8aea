//! `check`: tries what a start needs, in the order of a start and with its words, and leaves nothing behind.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;

use super::{Failure, trust};
use crate::collector::postgres::PostgresStore;
use crate::collector::server;
use crate::collector::sqlite::{SqliteStore, Trial};
use crate::collector::storage::StoreError;
use crate::config::collector::{Config, Storage};

pub(super) async fn check(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    for setting in config.origins() {
        writeln!(out, "{} = {} ({})", setting.key, setting.value, setting.origin)?;
    }
    for warning in config.warnings() {
        writeln!(out, "Note: {warning}.")?;
    }
    if let Some(files) = &config.serve.tls {
        server::tls(files).map_err(Failure::SetUp)?;
    }
    let taken = try_storage(&config.storage, out).await?;
    let is_in_use = !listens("serve.listen", config.serve.listen)?;
    match (taken, is_in_use, &config.storage) {
        (Some(_), true, _) => writeln!(out, "A collector runs with this storage and address.")?,
        (None, true, Storage::Postgres(_)) => {
            writeln!(out, "serve.listen: in use, by the collector that runs or by another program")?;
        }
        (Some(taken), false, _) => return Err(taken.into()),
        (None, true, Storage::Sqlite(_)) => return Err(in_use("serve.listen", config.serve.listen)),
        (None, false, _) => {}
    }
    Ok(())
}

/// Tries the storage; what a start would say where another collector has it.
async fn try_storage(storage: &Storage, out: &mut dyn Write) -> Result<Option<StoreError>, Failure> {
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
        writeln!(out, "storage: {}", StoreError::NotYet(name))?;
    }
    Ok(taken)
}

/// Whether the address can be bound; an error where it can never be.
fn listens(key: &str, address: SocketAddr) -> Result<bool, Failure> {
    match server::bind(address) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(Failure::Other(format!("failed to listen at {key} {address}: {error}"))),
    }
}

fn in_use(key: &str, address: SocketAddr) -> Failure {
    let error = std::io::Error::from_raw_os_error(rustix::io::Errno::ADDRINUSE.raw_os_error());
    Failure::Other(format!("failed to listen at {key} {address}: {error}"))
}
