//! Errors of both sides, and times as PostgreSQL has them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::words;
use crate::storage::StorageError;

pub(super) fn civil(at: Timestamp) -> DateTime {
    Offset::UTC.to_datetime(at)
}

pub(super) fn timestamp(civil: DateTime) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(civil).ok()
}

/// Either side's error, within this module.
pub(super) enum Failed {
    Postgres(tokio_postgres::Error),
    Storage(StorageError),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Storage(error) => error,
            Failed::Postgres(error) => Self::Failed(words::of(&error)),
        }
    }
}
