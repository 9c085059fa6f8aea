//! Counting a large `/api/state`: CPU time and peak memory, against others who count the same file, each in a process
//! of its own; and the sidecar itself, reading such an answer over HTTP: `make bench`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

mod measure;

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pulse_telemetry_core::count::Counter;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::server::{Body, ResponsePlan};
use serde::Deserialize;
use serde::de::IgnoredAny;

use measure::{READING_PAUSE, Sidecar, Used};

/// How large in MB, and how often each is counted.
const SIZES: [(u64, u32); 3] = [(4, 200), (40, 3), (400, 1)];
/// As much as comes at once from a connection.
const PIECE: usize = 64 * 1024;

/// One guest as Pulse 5.1 tells it, names and addresses made up.
const GUEST: &str = concat!(
    r#"{"id":"cluster-pve1-100","vmid":100,"name":"vm-files","node":"pve1","instance":"cluster","#,
    r#""status":"running","type":"qemu","cpu":0.06866074721091192,"cpus":7,"memory":{"total":26843545600,"#,
    r#""used":12918780942,"free":13924764658,"usage":48.12620931340157,"swapUsed":967240085,"#,
    r#""swapTotal":3221225472},"mem":12918780942,"maxmem":26843545600,"disk":{"total":515396075520,"#,
    r#""used":150114349119,"free":365281726401,"usage":29.126017106007605},"disks":[{"total":388694540288,"#,
    r#""used":98800115451,"free":289894424837,"usage":25.418446932272854,"mountpoint":"/","type":"ext4","#,
    r#""device":"/dev/vda"},{"total":126701535232,"used":51822175050,"free":74879360182,"#,
    r#""usage":40.90098431405207,"mountpoint":"/backup","type":"btrfs","device":"/dev/vdb"}],"#,
    r#""osName":"Debian GNU/Linux","osVersion":"12","networkInterfaces":[{"name":"eth0","#,
    r#""mac":"52:54:00:00:00:01","addresses":["fd00::84e3","fd00::1030"],"rxBytes":5504367461,"#,
    r#""txBytes":3548696637},{"name":"eth1","mac":"52:54:00:00:00:02","addresses":["192.0.2.53","#,
    r#""192.0.2.183"],"rxBytes":6694972464,"txBytes":1264713989}],"ipAddresses":["192.0.2.183","#,
    r#""192.0.2.53","fd00::1030","fd00::84e3"],"networkIn":917504,"networkOut":131072,"diskRead":0,"#,
    r#""diskWrite":0,"uptime":2361622,"template":false,"lastBackup":1795406112000,"tags":"private","#,
    r#""lastSeen":-62135596800000}"#,
);
const BEFORE: &str =
    r#"{"nodes":[],"pbs":[],"pmg":[],"containers":[],"dockerHosts":[],"kubernetesClusters":[],"vms":["#;
const AFTER: &str = r#"],"activeAlerts":null,"lastUpdate":1795424134000}"#;
const MEMBERS: &[&str] = &["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [way, file] if way == "ours" => return println!("{}", count(file)),
        [way, file] if way == "typed" => return println!("{}", typed(file)),
        [way, file] if way == "value" => return println!("{}", value(file)),
        _ => {}
    }
    let dir = tempfile::tempdir().unwrap();
    against_others(dir.path());
    over_http();
}

/// Everybody counts the same file.
fn against_others(dir: &Path) {
    let itself = std::env::current_exe().unwrap();
    let as_child = |way: &str| vec![itself.display().to_string(), way.to_owned()];
    let ours = as_child("ours");
    let mut peers = vec![("serde_json, typed", as_child("typed"), ""), ("serde_json::Value", as_child("value"), "")];
    if let Some(go) = measure::go_peer("count") {
        peers.push(("Go, encoding/json", vec![go.display().to_string()], "at least 5"));
    }
    match measure::in_path("jq") {
        Some(jq) => peers.push(("jq", vec![jq.display().to_string(), ".vms | length".to_owned()], "at least 15")),
        None => println!("no jq here: that peer is left out"),
    }
    let none = dir.join("none.json");
    write_state(&none, 0);
    for (megabytes, times) in SIZES {
        let file = dir.join("state.json");
        let guests = write_state(&file, megabytes);
        measure::head(&format!(
            "counting {megabytes} MB of /api/state, {guests} guests: CPU time, and peak memory over an empty one's"
        ));
        let (our_cpu, our_memory) = counted(&ours, &file, &none, times, guests);
        for (peer, command, target) in &peers {
            if *peer == "serde_json::Value" && available() < 12 * megabytes * 1000 {
                println!("{peer}: too little memory here for {megabytes} MB");
                continue;
            }
            let (cpu, memory) = counted(command, &file, &none, times, guests);
            let speed = |cpu: Duration| format!("{:.0} MB/s", megabytes as f64 / cpu.as_secs_f64());
            let ratio = format!("{:.1}", cpu.as_secs_f64() / our_cpu.as_secs_f64());
            measure::row("speed", &speed(our_cpu), peer, &speed(cpu), &ratio, target);
            let ratio = format!("1/{:.0}", memory as f64 / our_memory.max(1) as f64);
            measure::row("memory", &kib(our_memory), peer, &kib(memory), &ratio, "");
        }
    }
}

/// CPU time of one count, and how much more memory it takes than to count nothing.
fn counted(command: &[String], file: &Path, none: &Path, times: u32, guests: u64) -> (Duration, u64) {
    let run = |file: &Path| measure::run(Command::new(&command[0]).args(&command[1..]).arg(file));
    let runs: Vec<Used> = (0..times).map(|_| run(file)).collect();
    assert!(runs.iter().all(|run| run.output.trim() == guests.to_string()), "{command:?} counted otherwise");
    // A process that ends at once may end before its memory was looked at.
    let idle = (0..20).map(|_| run(none).peak).max().unwrap();
    let peak = runs.iter().map(|run| run.peak).max().unwrap();
    (runs.iter().map(|run| run.cpu).sum::<Duration>() / times, peak.saturating_sub(idle))
}

/// Writes a state of that size, and says how many guests it has.
fn write_state(file: &Path, megabytes: u64) -> u64 {
    let guests = guests(megabytes);
    let mut file = BufWriter::new(File::create(file).unwrap());
    file.write_all(BEFORE.as_bytes()).unwrap();
    for guest in 0..guests {
        let comma = if guest == 0 { "" } else { "," };
        write!(file, "{comma}{GUEST}").unwrap();
    }
    file.write_all(AFTER.as_bytes()).unwrap();
    guests
}

fn guests(megabytes: u64) -> u64 {
    megabytes * 1_000_000 / (GUEST.len() as u64 + 1)
}

fn count(file: &str) -> u64 {
    let mut file = File::open(file).unwrap();
    let mut counter = Counter::members(MEMBERS);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).unwrap() {
            0 => break,
            read => counter.push(&piece[..read]).unwrap(),
        }
    }
    counter.finish().unwrap().member("vms").unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what is asked for is what the counter is asked for")]
struct State {
    nodes: Vec<IgnoredAny>,
    pbs: Vec<IgnoredAny>,
    pmg: Vec<IgnoredAny>,
    vms: Vec<IgnoredAny>,
    containers: Vec<IgnoredAny>,
    docker_hosts: Vec<IgnoredAny>,
    kubernetes_clusters: Vec<IgnoredAny>,
}

fn typed(file: &str) -> usize {
    serde_json::from_slice::<State>(&fs::read(file).unwrap()).unwrap().vms.len()
}

fn value(file: &str) -> usize {
    let value: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    value["vms"].as_array().unwrap().len()
}

/// The real sidecar reads a Pulse 5.1 whose `/api/state` is that large.
fn over_http() {
    println!();
    let program = measure::sidecar();
    measure::head("the sidecar itself, reading it over HTTP: CPU time, and peak memory over idle");
    for (megabytes, _) in SIZES {
        // More than 256 MiB are not read.
        let megabytes = megabytes.min(250);
        let guests = guests(megabytes);
        let pulse = SimulatedPulse::start(PulseModel::v5());
        let sidecar = Sidecar::start(&program, &pulse.url(), Duration::ZERO);
        // It reads a small Pulse first, as one that idles has.
        sidecar.get("/api/v1/preview/bytes");
        std::thread::sleep(READING_PAUSE);
        pulse.replace("/api/state", ResponsePlan::body(Body::repeated(BEFORE, GUEST, guests, AFTER)));
        fs::write(format!("/proc/{}/clear_refs", sidecar.pid()), "5").unwrap();
        let (idle, before) = (measure::memory(sidecar.pid(), "VmRSS").unwrap(), measure::cpu(sidecar.pid()));
        let preview: serde_json::Value = serde_json::from_str(&sidecar.get("/api/v1/preview/bytes")).unwrap();
        assert_eq!(preview["vms"], guests, "it was counted now");
        let cpu = measure::cpu(sidecar.pid()) - before;
        let over = measure::memory(sidecar.pid(), "VmHWM").unwrap().saturating_sub(idle);
        let speed = format!("{:.0} MB/s", megabytes as f64 / cpu.as_secs_f64());
        measure::row(&format!("{megabytes} MB: speed"), &speed, "", "", "", "");
        measure::row(&format!("{megabytes} MB: memory"), &kib(over), "", "", "", "under 1024 KiB");
    }
}

fn kib(kib: u64) -> String {
    format!("{kib} KiB")
}

fn available() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
