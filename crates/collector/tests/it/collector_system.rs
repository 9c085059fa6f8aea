//! What needs root and a file system of its own: `make test-system`. The collector on a disk that is full.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::SignedDuration;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::alone::alone;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, open, ping_of, row};
use pulse_telemetry_testkit::load::{check_nothing_lost, post};
use pulse_telemetry_testkit::postgres::{Cluster, give_to_postgres};

#[test]
#[ignore = "needs root: make test-system"]
fn on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself() {
    let name = "on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself";
    alone(&format!("collector_system::{name}"), &["--mount"], || {}, sqlite_on_a_full_disk);
}

fn sqlite_on_a_full_disk() {
    let storage = Storage::sqlite();
    let disk = Disk::mounted(storage.dir(), "1m");
    fills_and_recovers(&storage, &disk);
}

/// The database is in a tablespace of that disk; the log that PostgreSQL writes ahead is not.
#[test]
#[ignore = "needs root: make test-system"]
fn with_postgresql_on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself() {
    let name =
        "with_postgresql_on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself";
    alone(&format!("collector_system::{name}"), &["--mount"], || {}, postgresql_on_a_full_disk);
}

fn postgresql_on_a_full_disk() {
    let Some(cluster) = Cluster::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mounted(dir.path(), "16m");
    give_to_postgres(dir.path());
    cluster.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", dir.path().display()));
    cluster.psql("postgres", "CREATE DATABASE pulse TABLESPACE small");
    fills_and_recovers(&Storage::Postgres(Box::new(cluster)), &disk);
}

#[test]
#[ignore = "needs root: make test-system"]
fn on_a_disk_with_no_room_for_a_log_of_a_day_that_day_is_purged_all_the_same() {
    let name = "on_a_disk_with_no_room_for_a_log_of_a_day_that_day_is_purged_all_the_same";
    alone(
        &format!("collector_system::{name}"),
        &["--mount"],
        || {},
        || {
            let storage = Storage::sqlite();
            let _disk = Disk::mounted(storage.dir(), "24m");
            let now = SystemClock.now().wall;
            let at = |days: i64| now - SignedDuration::from_hours(24 * days);
            block_on(async {
                let store = open(&storage).await;
                for numbers in (0..20_000).collect::<Vec<u64>>().chunks(400) {
                    store.commit(numbers.iter().map(|number| row(&ping_of(*number), at(100))).collect()).await.unwrap();
                }
                store.commit(vec![row(&ping_of(1), at(1))]).await.unwrap();
            });
            let size = |path: &Path| std::fs::metadata(path).unwrap().len();
            assert!(size(&storage.file()) > 3 << 20, "{}", size(&storage.file()));
            // What is left of the disk is less than a third of that.
            let free = rustix::fs::statvfs(storage.dir()).unwrap();
            let filler = vec![0; usize::try_from(free.f_bavail * free.f_frsize).unwrap() - (1 << 20)];
            std::fs::write(storage.dir().join("filler"), filler).unwrap();
            let ended = Setup::new(&storage).run(&["purge"]);
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            assert_eq!(storage.install_ids().len(), 1);
            let collector = Setup::new(&storage).start();
            assert_eq!(collector.post(&ping_of(2)).status, 204);
        },
    );
}

#[test]
#[ignore = "needs root: make test-system"]
fn a_file_that_is_mounted_by_itself_is_refused_for_its_log_would_be_elsewhere() {
    let name = "a_file_that_is_mounted_by_itself_is_refused_for_its_log_would_be_elsewhere";
    alone(
        &format!("collector_system::{name}"),
        &["--mount"],
        || {},
        || {
            let (storage, container) = (Storage::sqlite(), Storage::sqlite());
            Setup::new(&storage).start().stop();
            std::fs::write(container.file(), "").unwrap();
            let mounted = Command::new("mount").arg("--bind").args([storage.file(), container.file()]).status();
            assert!(mounted.unwrap().success());
            for command in ["check", "run"] {
                let ended = Setup::new(&container).run(&[command]);
                let said = String::from_utf8(ended.stderr).unwrap();
                assert!(ended.status.code() == Some(5) && said.contains("is a mount of its own"), "{command}: {said}");
            }
            Setup::new(&storage).start().stop();
        },
    );
}

/// A file system whose server never answers, as one of another machine that is gone.
const HANGING: &str = r#"
import ctypes, os, sys
server = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hanging", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
sys.stdin.read()
"#;

#[test]
#[ignore = "needs root: make test-system"]
fn a_directory_of_the_site_that_hangs_stops_no_ping_no_counting_and_no_stop() {
    let name = "a_directory_of_the_site_that_hangs_stops_no_ping_no_counting_and_no_stop";
    alone(&format!("collector_system::{name}"), &["--mount"], || {}, site_that_hangs);
}

/// Its server; who waits for it is told that it is gone when this is dropped.
struct HangingServer(Child);

impl Drop for HangingServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether anything is answered there, before long.
fn answers(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

fn site_that_hangs() {
    let (storage, site) = (Storage::sqlite(), tempfile::tempdir().unwrap());
    let server = Command::new("python3")
        .args(["-c", HANGING])
        .arg(site.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let (mut server, mut said) = (HangingServer(server.unwrap()), String::new());
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "mounted\n");
    let now = SystemClock.now().wall;
    block_on(async {
        let store = open(&storage).await;
        for days in [2, 1, 0] {
            let at = now - SignedDuration::from_hours(24 * days);
            store.commit((0..60).map(|number| row(&ping_of(number), at)).collect()).await.unwrap();
        }
    });
    let site = site.path().join("site");
    let collector = Setup::new(&storage).with("PUBLISH__DIR", site.to_str().unwrap()).start();
    collector.wait_for("the days are counted", || {
        answers(collector.address) && collector.ask_admin("/").text().contains("id=\"active\"")
    });
    assert_eq!(collector.post(&ping_of(100)).status, 204);
    assert!(collector.metric("publishing_works") < 0.5);
    collector.stop();
}

/// The user of the collector's image.
const USER: u32 = 65_532;

/// The files of a directory: name, owner, content.
fn files(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().uid(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
#[ignore = "needs root: make test-system"]
fn what_root_does_in_the_collectors_directory_is_done_as_its_owner_and_makes_nothing_where_there_is_no_storage() {
    // As systemd has it: a directory of the user's below one that is closed to him.
    let storage = Storage::sqlite();
    let private = storage.dir().join("private");
    let dir = private.join("collector");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&dir, Some(USER), Some(USER)).unwrap();
    let url = format!("sqlite:{}/pings.sqlite", dir.display());
    let root = Setup::new(&storage).with("STORAGE__URL", &url);
    let outside = tempfile::tempdir().unwrap();
    let export = outside.path().join("export.sqlite");
    let commands = [&["check"][..], &["purge"], &["report"], &["export", "--sqlite", export.to_str().unwrap()]];
    for (command, code) in commands.iter().zip([0, 0, 5, 5]) {
        assert_eq!(root.run(command).status.code(), Some(code), "{command:?}");
        assert!(files(&dir).is_empty(), "{command:?} made {:?}", files(&dir));
    }
    // Where root makes the storage it belongs to the user, who can go on with it.
    let collector = root.start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    let is_the_users = || files(&dir).iter().all(|(_, owner, _)| *owner == USER);
    assert!(files(&dir).len() == 4 && is_the_users(), "{:?}", files(&dir));
    collector.kill();
    for command in &commands {
        assert_eq!(root.run(command).status.code(), Some(0), "{command:?}");
        assert!(is_the_users(), "{command:?} made {:?}", files(&dir));
    }
    assert_eq!(std::fs::metadata(&export).map(|export| std::os::unix::fs::MetadataExt::uid(&export)).unwrap(), 0);
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(storage.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let collector = Setup::new(&storage).with("STORAGE__URL", &url).with_user(USER).start();
    assert_eq!(collector.post(&ping_of(2)).status, 204);
    collector.stop();
}

#[test]
#[ignore = "needs root: make test-system"]
fn no_link_in_the_collectors_directory_makes_root_change_or_give_away_a_file_of_its_own() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    for hard in [false, true] {
        for name in ["pings.sqlite", "pings.sqlite-lock", "pings.sqlite-wal", "pings.sqlite-shm", "pings.sqlite-check"]
        {
            let storage = Storage::sqlite();
            let secret = storage.dir().join("secret");
            std::fs::write(&secret, "of root alone").unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            let dir = storage.dir().join("collector");
            std::fs::create_dir(&dir).unwrap();
            std::os::unix::fs::chown(&dir, Some(USER), Some(USER)).unwrap();
            let link = dir.join(name);
            if hard {
                std::fs::hard_link(&secret, &link).unwrap();
            } else {
                std::os::unix::fs::symlink(&secret, &link).unwrap();
            }
            let root = Setup::new(&storage)
                .with("STORAGE__URL", &format!("sqlite:{}/pings.sqlite", dir.display()))
                .with("SERVE__LISTEN", "192.0.2.1:1");
            for command in [&["purge"][..], &["check"], &["report"], &["run"]] {
                root.run(command);
                let file = std::fs::metadata(&secret).unwrap();
                let content = std::fs::read(&secret).unwrap();
                assert!(content == b"of root alone" && file.uid() == 0, "{command:?}, {name}, hard: {hard}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: make test-system"]
fn no_link_in_the_collectors_directory_makes_root_read_a_storage_that_only_root_may_read() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    let roots = Storage::sqlite();
    let collector = Setup::new(&roots).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.stop();
    for (hard, mode, user, is_read) in [(false, 0o600, 0, false), (true, 0o640, 0, false), (false, 0o600, USER, true)] {
        std::fs::set_permissions(roots.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        chown(roots.file(), Some(user), Some(user)).unwrap();
        let storage = Storage::sqlite();
        chown(storage.dir(), Some(USER), Some(USER)).unwrap();
        if hard {
            std::fs::hard_link(roots.file(), storage.file()).unwrap();
        } else {
            symlink(roots.file(), storage.file()).unwrap();
        }
        let export = roots.dir().join("export.sqlite").display().to_string();
        for command in [&["report"][..], &["export", "--sqlite", &export], &["purge"], &["check"]] {
            let output = Setup::new(&storage).run(command);
            let said = String::from_utf8_lossy(&output.stderr);
            let is_refused = said.contains("belongs to somebody else") && output.status.code() == Some(5);
            assert_eq!(is_refused, !is_read, "{command:?}, {mode:o}, of {user}: {said}");
        }
        assert!(!Path::new(&export).exists());
        std::fs::remove_file(storage.file()).unwrap();
    }
}

#[test]
#[ignore = "needs root: make test-system"]
fn no_command_waits_for_a_pipe_that_was_planted_in_the_databases_place() {
    let outside = tempfile::tempdir().unwrap();
    let export = outside.path().join("export.sqlite");
    for command in [&["purge"][..], &["report"], &["check"], &["export", "--sqlite", export.to_str().unwrap()]] {
        let storage = Storage::sqlite();
        std::os::unix::fs::chown(storage.dir(), Some(USER), Some(USER)).unwrap();
        assert!(Command::new("mkfifo").arg(storage.file()).status().unwrap().success());
        let output = Setup::new(&storage).run(command);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn fills_and_recovers(storage: &Storage, disk: &Disk) {
    let collector = Setup::new(storage).start();
    let mut acknowledged = BTreeSet::new();
    let mut send = |number: u64| {
        let ping = ping_of(number);
        let (status, after) = post(collector.address, &ping.to_string()).unwrap();
        if status == 204 {
            acknowledged.insert(ping["install_id"].as_str().unwrap().to_owned());
        } else {
            assert!(status == 503 && after.is_some(), "{status} {after:?}");
        }
        status
    };
    assert_eq!(send(0), 204);
    let filler = disk.0.join("filler");
    // Until it is full, and one cannot even say how far one got.
    let _ = std::fs::write(&filler, vec![0; 32 << 20]);
    assert!((1..2000).map(&mut send).any(|status| status == 503), "there is room for some more, and then for none");
    assert_eq!(collector.ask_admin("/readyz").status, 503);
    std::fs::remove_file(filler).unwrap();
    collector.wait_until_ready();
    assert_eq!(send(5000), 204);
    collector.stop();
    check_nothing_lost(&acknowledged, &storage.install_ids());
}

/// A small disk; gone when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mounted(at: &'a Path, size: &str) -> Self {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status();
        assert!(mount.unwrap().success());
        Self(at)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // What still holds it open lets go of it later.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
