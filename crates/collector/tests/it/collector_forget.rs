//! Who asks is forgotten, whole and at once, and has the collector's signed word for it, and for each ping.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod files;
mod overtaken;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::capacity::Capacity;
use pulse_telemetry_collector::queue::queue;
use pulse_telemetry_collector::retry::Retry;
use pulse_telemetry_collector::storage::{Arrival, PingStore, Row};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ledger::sha256;
use pulse_telemetry_core::receipt::{Expected, Receipt, ReceiptKeys, ReceiptStanding, id_sha256, judge};
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_testkit::client::Reply;
use pulse_telemetry_testkit::collector::{Collector, Setup, Storage, block_on, install_id, open, ping, ping_of, row};
use pulse_telemetry_testkit::inside::Obedient;
use pulse_telemetry_testkit::jose;
use serde_json::json;

fn keys(collector: &Collector) -> ReceiptKeys {
    let contract = collector.get("/v1/contract").json();
    assert_eq!(contract["forget"], true);
    ReceiptKeys::from_jwk_set(contract["receipts"].to_string().as_bytes()).unwrap()
}

fn receipt(reply: &Reply) -> String {
    reply.header("pulse-telemetry-receipt").unwrap().to_owned()
}

/// A row of that installation that number of days ago.
fn days_ago(number: u64, days: i64, now: Timestamp) -> Row {
    let received_at = now - SignedDuration::from_hours(24 * days);
    row(&ping(&json!({"install_id": install_id(number), "vms": days})), received_at)
}

#[test]
fn every_row_of_an_id_is_gone_before_the_answer_which_is_the_same_for_an_id_that_was_never_there() {
    for storage in Storage::all() {
        let (name, now) = (storage.name(), SystemClock.now().wall);
        block_on(async {
            let rows = [0, 1, 2, 40, 88].iter().flat_map(|days| [1, 2].map(|id| days_ago(id, *days, now)));
            open(&storage).await.commit(rows.collect()).await.unwrap();
        });
        let collector = Setup::new(&storage).with_receipts().start();
        let keys = keys(&collector);
        let body = ping_of(1).to_string();
        let stored = collector.post_bytes(body.clone(), &[]);
        assert_eq!(stored.status, 204, "{name}");
        let expected = Expected::Received { body_sha256: &sha256(body.as_bytes()) };
        assert_eq!(judge(Some(&keys), Some(&receipt(&stored)), expected).0, ReceiptStanding::Verified, "{name}");
        assert_eq!(receipt(&collector.post_bytes(body, &[])), receipt(&stored), "{name}: of a retry");
        let Some(Receipt::Received { day, deleted_by, .. }) = Receipt::read(&receipt(&stored)) else { unreachable!() };
        assert_eq!(day.until(deleted_by).unwrap().get_days(), 90, "{name}");

        let forgotten = collector.forget(&install_id(1).to_uppercase());
        assert_eq!(storage.install_ids(), vec![install_id(2); 5], "{name}");
        let unknown = collector.forget(&install_id(3));
        for (reply, number) in [(&forgotten, 1), (&unknown, 3)] {
            assert_eq!(reply.status, 200, "{name}");
            let id_sha256 = id_sha256(&InstallId::parse(&install_id(number)).unwrap());
            let (answer, expected) = (reply.json(), Expected::Forgotten { id_sha256: &id_sha256 });
            let standing = judge(Some(&keys), answer["receipt"].as_str(), expected).0;
            assert_eq!(standing, ReceiptStanding::Verified, "{name}");
        }
        assert_eq!(forgotten.body.len(), unknown.body.len(), "{name}");
        let names = |reply: &Reply| reply.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&forgotten), names(&unknown), "{name}");
        let metrics = collector.ask_admin("/metrics").text();
        assert!(metrics.contains("deletions_total{outcome=\"done\"} 2"), "{name}");
        // A new ping of that ID is stored again, however equal it is.
        assert_eq!(collector.post(&ping_of(1)).status, 204, "{name}");
        assert_eq!(storage.install_ids().len(), 6, "{name}");
        let log = collector.stop();
        let simple = install_id(1).replace('-', "");
        for id in [install_id(1), install_id(1).to_uppercase(), simple, install_id(3)] {
            assert!(!log.contains(&id) && !metrics.contains(&id), "{name}: {id} is told");
        }
    }
}

#[test]
fn without_a_key_there_are_no_receipts_and_who_asks_is_forgotten_all_the_same() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).header("pulse-telemetry-receipt"), None);
    let contract = collector.get("/v1/contract").json();
    assert_eq!((contract["forget"].as_bool(), contract.get("receipts")), (Some(true), None));
    assert_eq!(collector.forget(&install_id(1)).json(), json!({}));
    assert_eq!(storage.install_ids(), Vec::<String>::new());
}

#[test]
fn what_is_no_deletion_is_refused_and_deletes_nothing() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with_receipts().start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    let id = install_id(1);
    for (body, status) in [
        (String::new(), 400),
        ("{}".to_owned(), 400),
        ("[]".to_owned(), 400),
        (json!({"install_id": ""}).to_string(), 400),
        (json!({"install_id": null}).to_string(), 400),
        (json!({"install_id": [id]}).to_string(), 400),
        (json!({"install_id": format!("{id}%")}).to_string(), 400),
        (json!({"install_id": "' OR 1=1 --"}).to_string(), 400),
        (json!({"install_id": id, "all": true}).to_string(), 400),
        (format!(r#"{{"install_id":"{}","install_id":"{id}"}}"#, install_id(2)), 400),
        (format!("{} x", json!({"install_id": id})), 400),
        (format!("{}{}", json!({"install_id": id}), " ".repeat(256)), 413),
    ] {
        let reply = collector.forget_bytes(body.clone());
        assert_eq!(reply.status, status, "{body}");
        assert!(!reply.text().contains(&id), "{body}: {}", reply.text());
    }
    for (path, status) in [("/v1/telemetry/forget", 405), ("/v1/telemetry/forget/", 404)] {
        assert_eq!(collector.get(path).status, status, "{path}");
    }
    assert_eq!(storage.install_ids(), [id]);
}

#[test]
fn deletions_count_with_pings_for_the_limit_of_their_network() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with("LIMITS__PER_MINUTE", "3").start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    for _ in 0..2 {
        assert_eq!(collector.forget(&install_id(2)).status, 200);
    }
    let limited = collector.forget(&install_id(1));
    assert_eq!(limited.status, 429);
    assert!(limited.header("retry-after").is_some());
    assert_eq!(collector.post(&ping_of(3)).status, 429);
    assert_eq!(storage.install_ids(), [install_id(1)]);
}

#[test]
fn deletions_that_come_together_are_committed_together_after_the_pings_among_them() {
    block_on(async {
        let store = Obedient::new();
        let (queue, committer, answerer) = queue(
            1024,
            Arc::clone(&store) as Arc<dyn PingStore>,
            Arc::default(),
            Arc::new(Capacity::new(0)),
            Arc::default(),
            Arc::new(Mutex::new(Retry::new(Box::new(SystemRng)))),
            Arc::new(SystemClock),
        );
        let mut senders = tokio::task::JoinSet::new();
        for number in 0..60 {
            let queue = queue.clone();
            senders.spawn(async move {
                // Every third ID is deleted before its ping is in the queue, and every third after.
                let (id, row) = (install_id(number), row(&ping_of(number), SystemClock.now().wall));
                let store = queue.store(Arrival { row, may_be_new: true });
                match number % 3 {
                    0 => drop(tokio::join!(biased; queue.forget(id), store)),
                    1 => drop(tokio::join!(biased; store, queue.forget(id))),
                    _ => drop(store.await.unwrap()),
                }
            });
        }
        tokio::task::yield_now().await;
        tokio::spawn(committer.run());
        tokio::spawn(answerer.run());
        senders.join_all().await;
        assert_eq!(store.count(), 20, "who is told of a deletion has no row");
        assert_eq!(store.commits.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_deletion_of_many_rows_is_done_in_portions_so_that_pings_are_not_kept_waiting() {
    for storage in Storage::both() {
        block_on(async {
            let store = open(&storage).await;
            let now: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
            for id in 0..30 {
                let of_a_day = |vms: i64| row(&ping(&json!({"install_id": install_id(id), "vms": vms})), now);
                store.commit((0..60).map(of_a_day).collect()).await.unwrap();
            }
            let mut ids: Vec<String> = (0..30).map(install_id).collect();
            let first = store.forget(ids.clone()).await.unwrap();
            assert_eq!(first, 9, "{}: 540 rows", storage.name());
            let mut commits = 1;
            ids.drain(..first);
            while !ids.is_empty() {
                ids.drain(..store.forget(ids.clone()).await.unwrap());
                commits += 1;
            }
            assert_eq!((commits, storage.rows().len()), (4, 0), "{}", storage.name());
        });
    }
}

#[test]
fn another_library_verifies_receipts_and_finds_in_them_what_the_documents_say() {
    let name = "another_library_verifies_receipts_and_finds_in_them_what_the_documents_say";
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with_receipts().start();
    let body = ping_of(1).to_string();
    let received = receipt(&collector.post_bytes(body.clone(), &[]));
    let forgotten = collector.forget(&install_id(1)).json()["receipt"].as_str().unwrap().to_owned();
    let contract = collector.get("/v1/contract").json();
    let keys = &contract["receipts"];
    let Some(said) = jose::verify(keys, &[&received, &forgotten], name) else { return };
    let said = said.unwrap();
    let kid = &contract["receipts"]["keys"][0]["kid"];
    let today = said[1][1]["day"].as_str().unwrap();
    for (said, claims) in [
        (
            &said[0],
            json!({"kind": "received", "body_sha256": sha256(body.as_bytes()), "day": today,
            "deleted_by": said[0][1]["deleted_by"], "contract_sha256": contract["sha256"]}),
        ),
        (
            &said[1],
            json!({"kind": "forgotten", "id_sha256": sha256(install_id(1).as_bytes()), "day": today,
            "contract_sha256": contract["sha256"]}),
        ),
    ] {
        assert_eq!(said[0], json!({"alg": "Ed25519", "kid": kid, "typ": "pulse-telemetry-receipt"}));
        assert_eq!(said[1], claims);
    }
    let (head, rest) = received.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = forgotten.split('.').nth(1).unwrap();
    let mixed = jose::verify(keys, &[&format!("{head}.{other}.{signature}")], name);
    assert_eq!(mixed, Some(None), "the check checks");
}
