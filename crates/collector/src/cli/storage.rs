//! The storage that a command works on.

use pulse_telemetry_http::tls::{TlsError, Trust, tls};
use tokio_postgres::config::SslMode;

use super::error::CollectorError;
use crate::config::{Postgres, Storage};
use crate::postgres::{PostgresReader, PostgresStore};
use crate::sqlite::{SqliteReader, SqliteStore};
use crate::storage::{PingStore, Read};

/// What a command reads from. It makes and changes nothing.
pub(super) fn reader(storage: &Storage) -> Result<Box<dyn Read>, CollectorError> {
    Ok(match storage {
        Storage::Sqlite(path) => Box::new(SqliteReader::new(path)),
        Storage::Postgres(postgres) => {
            let (password, trust) = (postgres.read_password()?, trust(postgres)?);
            Box::new(PostgresReader::new(postgres.connect.clone(), password.as_ref(), &trust)?)
        }
    })
}

pub(super) async fn open_postgres(postgres: &Postgres) -> Result<PostgresStore, CollectorError> {
    let (password, trust) = (postgres.read_password()?, trust(postgres)?);
    Ok(PostgresStore::open(postgres.connect.clone(), password.as_ref(), &trust).await?)
}

/// Whose certificates PostgreSQL may have. Where TLS is used, what was named is known to be of use.
pub(super) fn trust(postgres: &Postgres) -> Result<Trust, CollectorError> {
    let set_up = |error: TlsError| CollectorError::SetUp(error.to_string());
    let trust = Trust::of(postgres.authorities.clone());
    let trust = match &postgres.ca_file {
        None => trust,
        Some(path) => trust.and_file("storage.ca_file", path).map_err(set_up)?,
    };
    if postgres.connect.get_ssl_mode() == SslMode::Disable {
        trust.check_own().map_err(set_up)?;
    } else {
        tls(&trust).map_err(set_up)?;
    }
    Ok(trust)
}

/// The storage that a collector has made, to write to.
pub(super) async fn open_existing(storage: &Storage) -> Result<Box<dyn PingStore>, CollectorError> {
    Ok(match storage {
        Storage::Sqlite(path) => Box::new(SqliteStore::open_existing(path)?),
        Storage::Postgres(postgres) => {
            let (password, trust) = (postgres.read_password()?, trust(postgres)?);
            let connect = postgres.connect.clone();
            Box::new(PostgresStore::open_existing(connect, password.as_ref(), &trust).await?)
        }
    })
}
