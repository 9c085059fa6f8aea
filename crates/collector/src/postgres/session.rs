//! Connections, and what is said at the beginning of each transaction.
//!
//! Between two transactions a pooler may hand a connection to somebody else, so nothing outlives one: statements have
//! no names, settings are `SET LOCAL`, locks are those of a transaction, and a temporary table goes with its commit.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Transaction};
use pulse_telemetry_http::tls::{Trust, tls};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, IsolationLevel, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::words;
use crate::storage::StorageError;

/// Connections of one collector: a commit, a purge, a look, and one to spare.
const CONNECTIONS: usize = 4;

/// How long it may take to connect, to whichever of the hosts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The limits of a transaction that writes, which the server keeps: what this side gave up must not run later, and one
/// that is stuck or whose collector is gone must not hold the locks that every collector waits for. What is
/// acknowledged is on the disk, whatever the server's own setting is, and where a policy hides rows, which could not be
/// deleted, it fails. An earlier ping of the same ID is looked for in the index: of a day that has just begun the
/// planner has no statistics, and would read all of it, and sort it, for every commit, or have the statement compiled
/// first, which takes many times as long as to run it.
pub(super) const WRITING: &str = "SET LOCAL synchronous_commit = on; SET LOCAL row_security = off; SET LOCAL jit = off;
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_material = off; SET LOCAL lock_timeout = '7s'; SET LOCAL statement_timeout = '8s';
    SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL tcp_keepalives_idle = 15;
    SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3";

/// Those of a transaction that reads. It may take as long as it likes, for it holds no lock that a commit waits for.
const READING: &str = "SET LOCAL row_security = off; SET LOCAL lock_timeout = '7s'; SET LOCAL tcp_keepalives_idle = 15;
    SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3";

/// Begins a commit, and waits for its lock. A statement behind a lock must see what was committed while it waited for
/// the lock, so the isolation is not left to the server's setting.
pub(super) async fn begin_commit(client: &Client, lock: i64) -> Result<(), tokio_postgres::Error> {
    let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; {WRITING}; SELECT pg_advisory_xact_lock({lock})");
    let begun = client.batch_execute(&begin).await;
    if begun.is_err() {
        // Else the next one would find the connection in a transaction that failed.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    begun
}

/// A transaction that writes.
pub(super) async fn writing(client: &mut Object) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    transaction.batch_execute(WRITING).await?;
    Ok(transaction)
}

/// A transaction that can write nothing, and reads all as of one moment.
pub(super) async fn reading(client: &mut Object) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let beginning = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = beginning.start().await?;
    transaction.batch_execute(READING).await?;
    Ok(transaction)
}

/// Takes a lock for as long as the transaction lasts.
pub(super) async fn lock(transaction: &Transaction<'_>, key: i64) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({key})")).await
}

/// Connections to a database.
pub(super) fn pool(
    mut connect: tokio_postgres::Config,
    password: Option<&SecretString>,
    trust: &Trust,
) -> Result<Pool, StorageError> {
    if let Some(password) = password {
        connect.password(password.expose_secret());
    }
    // One host that does not answer must not take the time of the next one.
    let hosts = connect.get_hosts().len().max(connect.get_hostaddrs().len()).max(1);
    let for_each = CONNECT_TIMEOUT / u32::try_from(hosts).unwrap_or(u32::MAX);
    connect.application_name("pulse-telemetry-collector").connect_timeout(for_each);
    connect.keepalives_idle(Duration::from_secs(15)).keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if connect.get_ssl_mode() == SslMode::Disable {
        Manager::from_config(connect, NoTls, recycling)
    } else {
        let tls = tls(trust).map_err(|error| StorageError::Failed(format!("TLS to PostgreSQL: {error}")))?;
        Manager::from_config(connect, MakeRustlsConnect::new(tls), recycling)
    };
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .map_err(|error| StorageError::Failed(format!("PostgreSQL: {error}")))
}

/// A connection, a new one where none is at rest.
pub(super) async fn connection(pool: &Pool) -> Result<Object, StorageError> {
    pool.get().await.map_err(|error| match error {
        deadpool_postgres::PoolError::Backend(error) => StorageError::Failed(words::of(&error)),
        deadpool_postgres::PoolError::Timeout(_) => StorageError::Failed(
            "PostgreSQL: no connection in time: look whether the server and its port can be reached".to_owned(),
        ),
        error => StorageError::Failed(format!("PostgreSQL: {}", words::chain(&error))),
    })
}
