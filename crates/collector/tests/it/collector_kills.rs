//! `kill -9` under load: every ping that was acknowledged is there exactly once.
//!
//! The collector is killed 10 times, 20 times among deletions, and PostgreSQL 3 times; `KILLS=100`,
//! `DELETION_KILLS=200` and `POSTGRES_KILLS=20` ask for more, as `make soak` does.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use jiff::SignedDuration;
use pulse_telemetry_collector::server::{FORGET_PATH, PING_PATH};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{Collector, Setup, Storage, block_on, install_id, open, ping_of, row};
use pulse_telemetry_testkit::load::{Load, check_nothing_lost, post_to};
use pulse_telemetry_testkit::postgres::Cluster;

#[expect(clippy::disallowed_methods, reason = "how many kills is the environment's to say")]
fn times(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|times| times.parse().ok()).unwrap_or(otherwise)
}

/// Where the senders find a collector now.
type Place = Arc<Mutex<Vec<SocketAddr>>>;

fn load(place: &Place) -> Load {
    let place = Arc::clone(place);
    Load::start(8, move |sender| {
        let places = place.lock().unwrap();
        let at = usize::try_from(sender).unwrap() % places.len().max(1);
        places.get(at).copied()
    })
}

#[test]
fn what_a_killed_collector_acknowledged_is_there_exactly_once() {
    for storage in Storage::all() {
        let setup = Setup::new(&storage).with("LOG__LEVEL", "info");
        let place: Place = Arc::default();
        let load = load(&place);
        for _ in 0..times("KILLS", 10) {
            let collector = setup.start_unready();
            *place.lock().unwrap() = vec![collector.address];
            load.wait_for_more(20);
            // The moment is that of whatever the senders are doing now.
            collector.kill();
        }
        let collector = setup.start();
        *place.lock().unwrap() = vec![collector.address];
        load.wait_for_more(20);
        let acknowledged = load.stop();
        collector.stop();
        check_nothing_lost(&acknowledged, &storage.install_ids());
    }
}

/// Senders that have each ping deleted as soon as it is acknowledged. The IDs that are in `receipted` have a receipt.
fn forgetters(place: &Place, stop: &Arc<AtomicBool>, receipted: &Arc<Mutex<Vec<String>>>) -> Vec<JoinHandle<()>> {
    let forgetter = |sender: u64| {
        let (place, stop, receipted) = (Arc::clone(place), Arc::clone(stop), Arc::clone(receipted));
        std::thread::spawn(move || {
            let until_done = |path: &str, body: &str, status: u16| {
                while !stop.load(Ordering::Relaxed) {
                    let at = place.lock().unwrap().first().copied();
                    if at.and_then(|at| post_to(at, path, body)).is_some_and(|(answered, _)| answered == status) {
                        return true;
                    }
                    std::thread::yield_now();
                }
                false
            };
            for number in 1.. {
                let id = install_id(sender * 1_000_000 + number);
                let ping = ping_of(sender * 1_000_000 + number).to_string();
                let deletion = serde_json::json!({"install_id": id}).to_string();
                if !until_done(PING_PATH, &ping, 204) || !until_done(FORGET_PATH, &deletion, 200) {
                    break;
                }
                receipted.lock().unwrap().push(id);
            }
        })
    };
    (10..14).map(forgetter).collect()
}

#[test]
fn no_receipt_of_a_killed_collector_is_for_an_id_of_which_a_row_is_there() {
    for storage in Storage::both() {
        let setup = Setup::new(&storage).with("LOG__LEVEL", "info").with_receipts();
        let (place, stop, receipted): (Place, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) = Default::default();
        let load = load(&place);
        let forgetters = forgetters(&place, &stop, &receipted);
        for _ in 0..times("DELETION_KILLS", 20) {
            let collector = setup.start_unready();
            *place.lock().unwrap() = vec![collector.address];
            let wanted = receipted.lock().unwrap().len() + 5;
            collector.wait_for("some are forgotten", || receipted.lock().unwrap().len() >= wanted);
            collector.kill();
            let receipted: BTreeSet<String> = receipted.lock().unwrap().iter().cloned().collect();
            let left: Vec<_> = storage.install_ids().into_iter().filter(|id| receipted.contains(id)).collect();
            assert!(left.is_empty(), "{}: {} of {} are there", storage.name(), left.len(), receipted.len());
        }
        stop.store(true, Ordering::Relaxed);
        forgetters.into_iter().for_each(|forgetter| forgetter.join().unwrap());
        let collector = setup.start();
        *place.lock().unwrap() = vec![collector.address];
        load.wait_for_more(20);
        let acknowledged = load.stop();
        collector.stop();
        let of_others = |id: &String| !receipted.lock().unwrap().contains(id);
        let stored: Vec<String> = storage.install_ids().into_iter().filter(of_others).collect();
        check_nothing_lost(&acknowledged, &stored);
    }
}

#[test]
fn what_was_acknowledged_before_postgresql_was_killed_is_there_exactly_once() {
    let Some(cluster) = Cluster::start() else { return };
    let mut storage = Storage::postgres(cluster);
    let setup = Setup::new(&storage).with("LOG__LEVEL", "info");
    let collector = setup.start();
    let place: Place = Arc::new(Mutex::new(vec![collector.address]));
    let load = load(&place);
    for _ in 0..times("POSTGRES_KILLS", 3) {
        load.wait_for_more(50);
        storage.cluster().kill();
        collector.wait_for("the collector notices", || collector.ask_admin("/readyz").status == 503);
        storage.cluster().restart();
        collector.wait_for("it recovers by itself", || collector.ask_admin("/readyz").status == 200);
    }
    load.wait_for_more(50);
    let acknowledged = load.stop();
    collector.stop();
    check_nothing_lost(&acknowledged, &storage.install_ids());
}

#[test]
fn of_two_collectors_on_one_postgresql_one_may_die_and_one_may_come_and_one_purges() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let now = SystemClock.now().wall;
    let old = now - SignedDuration::from_hours(24 * 91);
    block_on(async {
        // And a new one: a clock that is far from all rows would not be believed.
        let rows = vec![row(&ping_of(9_999_999), old), row(&ping_of(9_999_998), now - SignedDuration::from_hours(24))];
        open(&storage).await.commit(rows).await.unwrap();
    });
    let setup = Setup::new(&storage).with("LOG__LEVEL", "info");
    // At once, so that they bring the schema up to date and purge at the same time.
    let collectors: Vec<Collector> = {
        let start = || {
            let setup = setup.clone();
            std::thread::spawn(move || setup.start())
        };
        let (one, other) = (start(), start());
        [one, other].into_iter().map(|thread| thread.join().unwrap()).collect()
    };
    let places = |collectors: &[Collector]| collectors.iter().map(|c| c.address).collect::<Vec<_>>();
    let place: Place = Arc::new(Mutex::new(places(&collectors)));
    let load = load(&place);
    load.wait_for_more(100);
    let purged: f64 = collectors.iter().map(|collector| collector.metric("purged_tables_total")).sum();
    assert!((purged - 1.0).abs() < 0.5, "one of them purges, and once: {purged}");
    let mut collectors = collectors.into_iter();
    let (one, other) = (collectors.next().unwrap(), collectors.next().unwrap());
    one.kill();
    *place.lock().unwrap() = vec![other.address];
    load.wait_for_more(50);
    let both = [other, setup.start()];
    *place.lock().unwrap() = places(&both);
    load.wait_for_more(100);
    let acknowledged = load.stop();
    let stored = storage.install_ids();
    check_nothing_lost(&acknowledged, &stored);
    assert!(!stored.contains(&install_id(9_999_999)));
}
