//! Somebody looks: what the daemon tells of Pulse, as of when, and whom it lets wait.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry::daemon::{self, Handle, NoPreview, ResetAnswer};
use pulse_telemetry::readings::READERS_MAX;
use pulse_telemetry_core::clock::MINUTE;
use pulse_telemetry_core::engine::Engine;
use pulse_telemetry_core::reason::{LedgerReason, ReasonWord};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::pulse::Trouble;
use super::{Mistake, SCHEDULE, Seeded, Shared, World, parts};

/// Less than the daemon would need to hear from a Pulse that is slow.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Lets a daemon run beside that, with that trouble from the start.
fn beside_a_daemon<F: Future<Output = ()>>(trouble: Option<Trouble>, visit: impl FnOnce(Shared, Handle) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Shared(Arc::new(Mutex::new(World::new(Mistake::None, &mut Seeded(7)))));
        world.lock().pulse.set_trouble(trouble);
        let (handle, commands) = Handle::new(64);
        let engine = {
            let mut world = world.lock();
            let start = world.power_up(false);
            Engine::start(SCHEDULE, start, Seeded(8), world.time.now())
        };
        tokio::select! {
            () = daemon::run(parts(&world), engine, commands, std::future::pending()) => {
                unreachable!("it is not stopped")
            }
            () = visit(world.clone(), handle) => {}
        }
    });
}

impl Shared {
    fn readings(&self) -> u64 {
        self.lock().tally.readings
    }

    fn wall(&self) -> Timestamp {
        self.lock().time.now().wall
    }
}

#[test]
fn the_status_says_as_of_when_and_an_old_reading_is_followed_by_another_one_that_nobody_waits_for() {
    beside_a_daemon(None, |world, handle| async move {
        // The startup ping is out, and the engine has no reason to look before tomorrow.
        sleep(10 * MINUTE).await;
        handle.preview().await.unwrap().unwrap();
        let (first, read) = (handle.status().await.unwrap(), world.readings());
        assert!(!first.is_being_read && first.as_of.is_some(), "{first:?}");
        // It is switched off in Pulse, and nobody looked yet.
        world.lock().pulse.set_trouble(Some(Trouble::SwitchedOff));
        sleep(MINUTE - Duration::from_secs(1)).await;
        // A scrape leaves Pulse alone, however old the reading is.
        for _ in 0..100 {
            sleep(MINUTE).await;
            assert_eq!(handle.glance().await.unwrap().as_of, first.as_of);
        }
        assert_eq!(world.readings(), read);
        let asked = Instant::now();
        let known = handle.status().await.unwrap();
        assert_eq!((known.as_of, known.enabled, known.is_being_read), (first.as_of, true, true));
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(known.to_text(world.wall()).contains("has not answered yet; this is what was known before"));
        sleep(Duration::from_secs(2)).await;
        let newer = handle.status().await.unwrap();
        assert_eq!((newer.off_by.as_ref().map(ReasonWord::as_str), newer.is_being_read), (Some("pulse"), false));
        assert!(newer.as_of > first.as_of);
        assert_eq!(world.readings(), read + 1);
        // A reading that is not a minute old is told as it is, and where a switch of our own says off nobody asks.
        sleep(Duration::from_secs(50)).await;
        assert!(!handle.status().await.unwrap().is_being_read);
        handle.switch(false).await.unwrap();
        sleep(10 * MINUTE).await;
        assert!(!handle.status().await.unwrap().is_being_read);
        assert_eq!(world.readings(), read + 1);
    });
}

#[test]
fn the_text_for_people_says_as_of_when() {
    beside_a_daemon(None, |world, handle| async move {
        sleep(MINUTE).await;
        let status = handle.status().await.unwrap();
        let at = status.as_of.unwrap().strftime("%H:%M:%SZ");
        let text = status.to_text(world.wall());
        assert!(text.lines().next().unwrap().ends_with(&format!("(as of {at})")), "{text}");
        let tomorrow = world.wall().saturating_add(Duration::from_secs(86_400)).unwrap();
        let day = status.as_of.unwrap().strftime("%Y-%m-%d");
        assert!(status.to_text(tomorrow).contains(&format!("(as of {day}T{at})")));
    });
}

#[test]
fn whatever_pulse_does_what_is_known_is_told_at_once() {
    for trouble in [Trouble::NeverAnswers, Trouble::NeverConnects, Trouble::Refuses, Trouble::AnswersSlowly] {
        beside_a_daemon(Some(trouble), |world, handle| async move {
            for step in 0..400 {
                let ask = async {
                    let known = handle.known().await.unwrap();
                    handle.status().await.unwrap();
                    handle.glance().await.unwrap();
                    handle.history(None, 20).await.unwrap().unwrap();
                    handle.switch(step % 2 == 1).await.unwrap();
                    known
                };
                let known = timeout(AT_ONCE, ask).await.expect("nobody waits for Pulse");
                assert_eq!(known.preview.is_some(), known.status.as_of.is_some(), "{trouble:?}");
                sleep(Duration::from_millis(777)).await;
            }
            assert!(world.readings() > 0 || trouble != Trouble::AnswersSlowly);
            assert!(handle.known().await.unwrap().preview.is_some(), "a reading ends, whatever Pulse does");
        });
    }
}

#[test]
fn half_of_the_places_wait_for_a_reading_and_whoever_asks_beyond_that_learns_when_to_ask_again() {
    beside_a_daemon(Some(Trouble::NeverAnswers), |_, handle| async move {
        let mut waiting = JoinSet::new();
        for _ in 0..READERS_MAX {
            let handle = handle.clone();
            waiting.spawn(async move { handle.preview().await.unwrap() });
        }
        sleep(AT_ONCE).await;
        assert!(waiting.try_join_next().is_none(), "they wait");
        let busy = |no: NoPreview| {
            assert_eq!((no.because.reason.as_str(), no.retry_after.is_zero()), ("busy", false));
        };
        for _ in 0..READERS_MAX {
            busy(timeout(AT_ONCE, handle.preview()).await.unwrap().unwrap().unwrap_err());
            busy(timeout(AT_ONCE, handle.posture()).await.unwrap().unwrap().unwrap_err());
            assert_eq!(timeout(AT_ONCE, handle.commercial()).await.unwrap().unwrap(), None);
            let Ok(Ok(ResetAnswer::Done(Err(no)))) = timeout(AT_ONCE, handle.reset()).await else {
                unreachable!("the reset is done, and there is no preview")
            };
            busy(no);
        }
        // Who has gone makes room.
        drop(waiting);
        sleep(AT_ONCE).await;
        assert!(timeout(AT_ONCE, handle.preview()).await.is_err(), "it waits");
    });
}

#[test]
fn a_reset_is_done_before_pulse_is_asked_and_says_why_there_is_no_preview() {
    for trouble in [Trouble::NeverAnswers, Trouble::NeverConnects, Trouble::AnswersSlowly] {
        beside_a_daemon(None, |world, handle| async move {
            sleep(MINUTE).await;
            let mut ids = HashSet::new();
            for _ in 0..3 {
                world.lock().pulse.set_trouble(None);
                sleep(MINUTE).await;
                let preview = handle.preview().await.unwrap().unwrap();
                ids.insert(preview.bytes[..60].to_owned());
                world.lock().pulse.set_trouble(Some(trouble));
                sleep(MINUTE).await;
                let issued_at = handle.glance().await.unwrap().id.unwrap().issued_at;
                let mut reset = std::pin::pin!(handle.reset());
                assert!(timeout(AT_ONCE, &mut reset).await.is_err(), "the preview is waited for");
                assert!(handle.glance().await.unwrap().id.unwrap().issued_at > issued_at, "the reset is not");
                match reset.await.unwrap() {
                    ResetAnswer::Done(Ok(preview)) => {
                        assert_eq!(trouble, Trouble::AnswersSlowly);
                        ids.insert(preview.bytes[..60].to_owned());
                    }
                    ResetAnswer::Done(Err(no)) => assert!(!no.because.message.is_empty()),
                    ResetAnswer::NotPersisted => unreachable!("the disk works"),
                }
            }
            assert!(ids.len() >= 3, "{ids:?}");
        });
    }
}

#[test]
fn one_429_hides_no_preview_and_ends_when_pulse_may_be_asked_again() {
    beside_a_daemon(None, |world, handle| async move {
        sleep(MINUTE).await;
        let good = handle.preview().await.unwrap().unwrap();
        assert_eq!(good.paused_until, None);
        world.lock().pulse.set_trouble(Some(Trouble::RateLimits));
        sleep(MINUTE).await;
        let (asked, read) = (world.wall(), world.readings());
        let kept = handle.preview().await.unwrap().unwrap();
        let until = kept.paused_until.expect("Pulse asked for a pause");
        assert!(until > asked && kept.age >= MINUTE, "{kept:?}");
        assert_eq!(kept.bytes, good.bytes);
        assert!(handle.posture().await.unwrap().is_ok());
        // It asks for nothing any more, and is left alone until then all the same.
        world.lock().pulse.set_trouble(None);
        let pause = Duration::try_from(until.duration_since(world.wall())).unwrap();
        sleep(pause / 2).await;
        let kept = handle.preview().await.unwrap().unwrap();
        assert!(kept.paused_until == Some(until) && kept.age >= MINUTE + pause / 2, "{kept:?}");
        let status = handle.status().await.unwrap();
        let at = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert!(status.warnings.iter().any(|said| said.contains("429") && said.contains(&at)), "{status:?}");
        assert_eq!((status.is_being_read, world.readings()), (false, read + 1));
        sleep(pause).await;
        let fresh = handle.preview().await.unwrap().unwrap();
        assert!(fresh.paused_until.is_none() && fresh.age < MINUTE, "{fresh:?}");
        assert_ne!(fresh.bytes, good.bytes, "no two readings are the same");
    });
}

#[test]
fn where_there_is_no_good_reading_a_429_says_when_the_next_one_comes() {
    beside_a_daemon(Some(Trouble::RateLimits), |world, handle| async move {
        let no = handle.preview().await.unwrap().unwrap_err();
        let at = world.wall().saturating_add(no.retry_after).unwrap();
        assert!(no.retry_after > MINUTE, "{no:?}");
        let said = at.strftime("it is read again at %Y-%m-%dT%H:%M:%SZ").to_string();
        assert!(no.because.message.contains(&said), "{no:?}");
        world.lock().pulse.set_trouble(None);
        sleep(no.retry_after).await;
        assert!(handle.preview().await.unwrap().is_ok());
    });
}

#[test]
fn a_pulse_that_is_gone_is_not_hidden_by_an_earlier_reading() {
    for trouble in [Trouble::Refuses, Trouble::Unauthorized, Trouble::Fails("/api/resources/stats")] {
        beside_a_daemon(None, |world, handle| async move {
            sleep(MINUTE).await;
            assert!(handle.preview().await.unwrap().is_ok());
            world.lock().pulse.set_trouble(Some(trouble));
            sleep(MINUTE).await;
            let no = handle.preview().await.unwrap().unwrap_err();
            assert!(no.because.reason != LedgerReason::Busy && no.retry_after <= Duration::from_secs(10), "{no:?}");
        });
    }
}
