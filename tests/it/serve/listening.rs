//! Listening and stopping.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use pulse_telemetry::daemon::{Command, Handle};
use pulse_telemetry::serve::{Listen, Listener, Server};
use pulse_telemetry_http::server::{Limits, ServeSettings};
use pulse_telemetry_testkit::sidecar::LIMIT;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::{Daemon, app, bound, exchange, status};

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket is there");
    let listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    assert_eq!(listener.local_addr(), format!("unix:{}", path.display()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let server = Server::new(listener, &ServeSettings::default(), app(Daemon::default().spawn().0)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let ask = |request: &'static str| async { exchange(UnixStream::connect(&path).await.unwrap(), request).await };
    assert_eq!(ask("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 200);
    assert_eq!(ask("GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.status, 421);
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "whether this is CI is the environment's to say")]
async fn a_unix_socket_has_the_group_of_a_directory_that_passes_its_group_on() {
    const GROUP: u32 = 54_321;
    let dir = tempfile::tempdir().unwrap();
    if std::os::unix::fs::chown(dir.path(), None, Some(GROUP)).is_err() {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI must not skip what needs root");
        let name = "a_unix_socket_has_the_group_of_a_directory_that_passes_its_group_on";
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: only root may give a directory to another group");
        return;
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o2750)).unwrap();
    let path = dir.path().join("telemetry.sock");
    let _listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    let found = path.metadata().unwrap();
    assert_eq!((found.gid(), found.permissions().mode() & 0o777), (GROUP, 0o660));
}

#[tokio::test]
async fn neither_a_live_socket_nor_a_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    let second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(first);

    std::fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&Listen::Unix(path.clone())).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_socket_that_another_process_has_put_there_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    let _second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    drop(first);
    assert!(Path::exists(&path));
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops_and_an_idle_caller_is_not_waited_for() {
    let (handle, mut questions) = Handle::new(1);
    let hour = Duration::from_secs(3600);
    let limits = Limits { finish_time: hour, head_time: hour, connection_time: hour, ..Limits::default() };
    let (server, address) = bound(handle, ServeSettings::default(), limits).await;
    let _idle = TcpStream::connect(address).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let asking = tokio::spawn(async move {
        exchange(TcpStream::connect(address).await.unwrap(), "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
    });
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status was asked")
    };
    stop.send(()).unwrap();
    // The door is closed first.
    let closes = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(LIMIT, closes).await.unwrap();
    answer.send(status()).unwrap();
    assert_eq!(asking.await.unwrap().status, 200);
    running.await.unwrap();
}

#[tokio::test]
async fn a_request_that_gets_no_answer_does_not_keep_the_server_from_stopping() {
    let (handle, mut questions) = Handle::new(1);
    let limits = Limits { finish_time: Duration::from_millis(10), ..Limits::default() };
    let (server, address) = bound(handle, ServeSettings::default(), limits).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let _unanswered = questions.recv().await;
    stop.send(()).unwrap();
    running.await.unwrap();
}
