//! A commit that was given up, whose bytes arrive after the deletion of its ID was done.

use std::net::SocketAddr;
use std::path::PathBuf;

use pulse_telemetry_collector::postgres::PostgresStore;
use pulse_telemetry_collector::storage::PingStore as _;
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::collector::{Storage, block_on, install_id, ping_of, row};
use pulse_telemetry_testkit::postgres::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};

/// A network between a collector and PostgreSQL that can hold up what the collector sends, and deliver it later, also
/// where the collector has closed the connection meanwhile.
struct Network {
    address: SocketAddr,
    /// Of how many connections, the first ones, it holds up what is sent.
    held: watch::Sender<usize>,
    ended: mpsc::UnboundedReceiver<usize>,
}

impl Network {
    async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, is_held) = watch::channel(0);
        let (ends, ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let server = UnixStream::connect(&socket).await.unwrap();
                let (is_held, ends) = (is_held.clone(), ends.clone());
                tokio::spawn(async move {
                    pass_on(client, server, is_held, number).await;
                    ends.send(number).unwrap();
                });
            }
        });
        Self { address, held, ended }
    }

    /// Delivers what it held up of the first connection, and waits until the server has closed that.
    async fn deliver(&mut self) {
        self.held.send_replace(0);
        while self.ended.recv().await.unwrap() != 0 {}
    }
}

async fn pass_on(client: TcpStream, server: UnixStream, mut held: watch::Receiver<usize>, number: usize) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asks = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            held.wait_for(|held| number >= *held).await.unwrap();
            if to_server.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        // The server may have closed it.
        let _ = to_server.shutdown().await;
    };
    let answers = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            // Nobody may be there any more.
            let _ = to_client.write_all(&bytes[..count]).await;
        }
    };
    tokio::join!(asks, answers);
}

#[test]
fn a_ping_that_was_given_up_on_its_way_to_postgresql_is_not_stored_after_its_id_was_deleted() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    block_on(async {
        let mut network = Network::before(storage.dir().join(".s.PGSQL.5432")).await;
        let url = format!("postgres://pulse@{}/pulse?sslmode=disable", network.address);
        let store = PostgresStore::open(url.parse().unwrap(), None, &Trust::default()).await.unwrap();
        let at = |number| row(&ping_of(number), "2026-10-26T12:00:00Z".parse().unwrap());
        store.commit(vec![at(1)]).await.unwrap();
        network.held.send_replace(1);
        assert!(store.commit(vec![at(2)]).await.is_err(), "it is given up");
        assert_eq!(store.forget(vec![install_id(2)]).await.unwrap(), 1);
        network.deliver().await;
        assert_eq!(storage.install_ids(), [install_id(1)]);
    });
}
