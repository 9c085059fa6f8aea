//! Counting by itself: at the start, and every day at `publish.at`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::Offset;
use tokio::time::sleep;

use super::{PublishError, Published, last_whole_day, write};
use crate::config::publish::PublishConfig;
use crate::queue::SharedClock;
use crate::storage::StorageError;

/// How often it is looked whether it is time. The wall clock may step meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// The numbers of the last whole day that was counted, for those who are shown them.
#[derive(Debug, Default)]
pub struct LatestNumbers(Mutex<Option<Arc<Published>>>);

impl LatestNumbers {
    /// What was counted last; `None` before the first time.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Published>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, published: Arc<Published>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(published);
    }
}

/// Counts for ever. `count` gives what there is to show as of the time it is called, and may take minutes; where a
/// directory is set, it keeps each day for good.
pub async fn count_by_itself<F>(
    config: PublishConfig,
    numbers: Arc<LatestNumbers>,
    clock: SharedClock,
    count: impl Fn() -> F,
) where
    F: Future<Output = Result<Published, StorageError>>,
{
    let mut counted: Option<Date> = None;
    loop {
        let now = clock.now().wall;
        let (whole, time) = (last_whole_day(now), Offset::UTC.to_datetime(now).time());
        if counted.is_none_or(|day| day < whole && time >= config.at) {
            match count().await {
                Ok(published) => {
                    if let Some(dir) = &config.dir {
                        publish(&published, dir);
                    }
                    numbers.set(Arc::new(published));
                    counted = Some(whole);
                }
                // Before the first ping there is nothing to count.
                Err(StorageError::NotYet(_)) => {}
                Err(error) => tracing::error!(%error, "failed to count the last day; it is tried again"),
            }
        }
        sleep(LOOK).await;
    }
}

fn publish(published: &Published, dir: &Path) {
    match write(published, dir) {
        Ok(()) => tracing::info!(dir = %dir.display(), days = published.days.len(), "numbers are published"),
        Err(PublishError::Nothing) => tracing::info!("there are no numbers to publish yet"),
        Err(error) => tracing::error!(%error, "failed to publish numbers; it is tried again tomorrow"),
    }
}
