//! The directory that a web server shows: nobody is led elsewhere by it, and no file is ever half there.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs::{File, Permissions, create_dir, read_dir, read_to_string, set_permissions, symlink_metadata, write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use jiff::civil::date;
use pulse_telemetry_collector::publish::{self, Published};
use pulse_telemetry_testkit::collector::{Setup, Storage, binary, block_on};
use pulse_telemetry_testkit::fleet::Fleet;

use super::collector_numbers::two_days;

/// A leftover of a writer that was killed.
const LEFTOVER: &str = ".pulse-telemetry-collector-0.new";

fn published(size: u64) -> Published {
    Published { days: Fleet::new(size, date(2026, 9, 11), 5, 17).numbers(5) }
}

fn names(dir: &Path) -> BTreeSet<String> {
    read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn mode(path: &Path) -> u32 {
    symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_planted_where_the_site_is_written_is_neither_followed_nor_waited_for_and_a_web_server_can_read_it() {
    let storage = Storage::sqlite();
    block_on(two_days(&storage));
    let site = tempfile::tempdir().unwrap();
    let (dir, secret) = (site.path().join("site"), site.path().join("secret"));
    create_dir(&dir).unwrap();
    write(&secret, "secret").unwrap();
    for name in [".pulse-telemetry-collector-0.new", "index.html"] {
        symlink(&secret, dir.join(name)).unwrap();
    }
    let pipe = dir.join("numbers.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    Setup::new(&storage).start().stop();
    let ended = Setup::new(&storage).run(&["publish", dir.to_str().unwrap()]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(read_to_string(&secret).unwrap(), "secret");
    let modes = ["index.html", "numbers.json", "days"].map(|name| mode(&dir.join(name)));
    assert_eq!(modes, [0o644, 0o644, 0o755]);
}

#[test]
fn a_link_in_the_place_of_the_days_leads_nobody_elsewhere_and_files_of_other_programs_stay() {
    let site = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (site.path().join("site"), site.path().join("elsewhere"));
    create_dir(&dir).unwrap();
    create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, dir.join("days")).unwrap();
    let others = ["index.new", "numbers.new", "robots.txt", ".pulse-telemetry-collector-a.new"];
    others.iter().for_each(|name| write(dir.join(name), "of another program").unwrap());
    let said = publish::write(&published(60), &dir).unwrap_err().to_string();
    assert!(said.contains("/days: it is no directory, or a link"), "{said}");
    assert_eq!(names(&elsewhere), BTreeSet::new());
    std::fs::remove_file(dir.join("days")).unwrap();
    publish::write(&published(60), &dir).unwrap();
    for name in others {
        assert_eq!(read_to_string(dir.join(name)).unwrap(), "of another program", "{name}");
    }
    // A link that the operator made and named is his way to say where.
    let named = site.path().join("named");
    symlink(&elsewhere, &named).unwrap();
    publish::write(&published(60), &named).unwrap();
    assert!(elsewhere.join("days").is_dir());
}

#[test]
fn of_two_that_write_one_directory_each_puts_whole_files_in_place() {
    let site = tempfile::tempdir().unwrap();
    let fleets = [published(60), published(400)];
    let whole = fleets.each_ref().map(|fleet| {
        let alone = tempfile::tempdir().unwrap();
        publish::write(fleet, alone.path()).unwrap();
        ["index.html", "numbers.json"].map(|name| read_to_string(alone.path().join(name)).unwrap())
    });
    std::thread::scope(|scope| {
        for fleet in &fleets {
            scope.spawn(|| {
                for _ in 0..100 {
                    publish::write(fleet, site.path()).unwrap();
                    for (at, name) in ["index.html", "numbers.json"].iter().enumerate() {
                        let text = read_to_string(site.path().join(name)).unwrap();
                        assert!(whole.iter().any(|texts| texts[at] == text), "half of {name}");
                    }
                }
            });
        }
    });
    let expected = ["days", "index.html", "numbers.json", "numbers.schema.json"].map(str::to_owned);
    assert_eq!(names(site.path()), expected.into());
    assert_eq!(names(&site.path().join("days")).len(), 4);
}

#[test]
fn what_a_killed_writer_left_is_removed_unless_somebody_writes_just_then() {
    let site = tempfile::tempdir().unwrap();
    write(site.path().join(LEFTOVER), "half a fi").unwrap();
    let writing = File::open(site.path()).unwrap();
    writing.lock_shared().unwrap();
    publish::write(&published(60), site.path()).unwrap();
    assert_eq!(read_to_string(site.path().join(LEFTOVER)).unwrap(), "half a fi");
    drop(writing);
    publish::write(&published(60), site.path()).unwrap();
    assert!(!names(site.path()).contains(LEFTOVER));
    // A file that cannot be put in place leaves nothing.
    let planted = site.path().join("index.html");
    std::fs::remove_file(&planted).unwrap();
    create_dir(&planted).unwrap();
    write(planted.join("kept"), "").unwrap();
    assert!(publish::write(&published(60), site.path()).is_err());
    let left: Vec<_> = names(site.path()).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn each_directory_that_is_made_can_be_read_by_a_web_server_and_one_that_was_there_keeps_its_mode() {
    let storage = Storage::sqlite();
    block_on(two_days(&storage));
    let root = tempfile::tempdir().unwrap();
    set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
    let dir = root.path().join("srv/www/site");
    let ended = Command::new("sh")
        .args(["-c", "umask 0077; exec \"$0\" publish \"$1\""])
        .args([&binary(), &dir])
        .env_clear()
        .env("PULSE_TELEMETRY_COLLECTOR_STORAGE__URL", storage.url())
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    for made in ["srv", "srv/www", "srv/www/site", "srv/www/site/days"] {
        assert_eq!(mode(&root.path().join(made)), 0o755, "{made}");
    }
    assert_eq!(mode(root.path()), 0o711);
}
