//! Counting by itself: at the start, and every day at `publish.at`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use pulse_telemetry_core::clock::Now;
use tokio::sync::watch;
use tokio::time::sleep;

use super::passed::PassedTime;
use super::{PublishError, Published, last_whole_day};
use crate::config::publish::PublishConfig;
use crate::metrics::CollectorMetrics;
use crate::queue::SharedClock;
use crate::storage::StorageError;

/// How often it is looked whether it is time, and what failed is tried again. The wall clock may step meanwhile.
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

/// Who counts, and for whom.
pub struct Publisher {
    /// Where the site is, and when it is written.
    pub config: PublishConfig,
    /// Whom the numbers are shown.
    pub numbers: Arc<LatestNumbers>,
    /// Where it is told whether it works.
    pub metrics: Arc<CollectorMetrics>,
    /// The time.
    pub clock: SharedClock,
    /// The time at the start, and when the newest row was received that was there before it.
    pub start: (Now, Option<Timestamp>),
}

/// Counts for ever. `count` gives what there is to show as of a time, and may take minutes; where a directory is set,
/// it keeps each day for good, and `write` makes the site. No directory that hangs keeps a day from being counted.
pub async fn count_by_itself<C, W>(
    publisher: Publisher,
    count: impl Fn(Timestamp) -> C,
    write: impl Fn(Arc<Published>, PathBuf) -> W,
) where
    C: Future<Output = Result<Published, StorageError>>,
    W: Future<Output = Result<(), PublishError>>,
{
    let (counted, site) = watch::channel(None);
    tokio::join!(publisher.count_days(count, &counted), publisher.write_site(write, site));
}

impl Publisher {
    async fn count_days<C>(&self, count: impl Fn(Timestamp) -> C, counted: &watch::Sender<Option<Arc<Published>>>)
    where
        C: Future<Output = Result<Published, StorageError>>,
    {
        let mut passed = PassedTime::new(self.start.0, self.start.1);
        let (mut day, mut told): (Option<Date>, _) = (None, None);
        loop {
            let now = self.clock.now();
            let passed = passed.at(now);
            // What is only shown is mended by the next day.
            let now = if self.config.dir.is_some() { passed } else { now.wall };
            let (whole, time) = (last_whole_day(now), Offset::UTC.to_datetime(now).time());
            // The clock may have been ahead.
            if day.is_none_or(|day| day != whole && time >= self.config.at) {
                match count(now).await {
                    Ok(published) => {
                        let published = Arc::new(published);
                        self.numbers.set(Arc::clone(&published));
                        self.metrics.publishing_works(self.config.dir.is_none());
                        counted.send_replace(Some(published));
                        (day, told) = (Some(whole), None);
                    }
                    // Before the first ping there is nothing to count.
                    Err(StorageError::NotYet(_)) => {}
                    Err(error) => {
                        self.metrics.publishing_works(false);
                        tell(&mut told, &error, "failed to count the last day; it is tried again");
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn write_site<W>(
        &self,
        write: impl Fn(Arc<Published>, PathBuf) -> W,
        mut counted: watch::Receiver<Option<Arc<Published>>>,
    ) where
        W: Future<Output = Result<(), PublishError>>,
    {
        let Some(dir) = &self.config.dir else { return };
        let mut told = None;
        while counted.changed().await.is_ok() {
            loop {
                let Some(published) = counted.borrow_and_update().clone() else { break };
                let days = published.days.len();
                match write(published, dir.clone()).await {
                    Ok(()) => tracing::info!(dir = %dir.display(), days, "numbers are published"),
                    Err(PublishError::Nothing) => tracing::info!("there are no numbers to publish yet"),
                    Err(error) => {
                        tell(&mut told, &error, "failed to publish numbers; it is tried again");
                        sleep(LOOK).await;
                        continue;
                    }
                }
                told = None;
                self.metrics.publishing_works(true);
                break;
            }
        }
    }
}

/// Tells what failed, where it is not what was told last.
fn tell(told: &mut Option<String>, error: &dyn std::error::Error, what: &str) {
    let error = error.to_string();
    if told.as_ref() != Some(&error) {
        tracing::error!(error, "{what}");
    }
    *told = Some(error);
}
