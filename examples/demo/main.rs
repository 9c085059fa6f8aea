//! `make demo`: the way of a ping on one machine. A simulated Pulse, the real sidecar and the real collector, all on
//! loopback and on free ports. In between stands an endpoint that shows what arrives, compares it with what the sidecar
//! says it sent, and hands it on to the collector. At the end the collector's report is shown, and its page published.

mod collector;
mod files;
mod show;
mod sidecar;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::binary;
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use tokio::signal::unix::{SignalKind, signal};

use collector::Collector;
use files::Files;
use show::Show;
use sidecar::Sidecar;

/// How often the simulated Pulse changes.
const TICK: Duration = Duration::from_secs(2);

/// Show pulse-telemetry at work: a simulated Pulse, the real sidecar, and the real collector, with what passes in
/// between.
///
/// Everything listens on this machine only, and nothing leaves it.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// End after N pings; fail where one takes longer than a minute [default: run until Ctrl-C]
    #[arg(long, value_name = "N")]
    pings: Option<usize>,
    /// Where the collector publishes its page at the end [default: demo-site beside the build]
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
}

/// What the demo waits for.
enum News {
    /// The sidecar wrote this line to its log.
    Log(String),
    /// The sidecar closed its log, so it has ended or is about to.
    LogEnded,
    /// The endpoint received this, at that time of the monotonic clock.
    Ping(Bytes, Duration),
    /// Time passed.
    Tick,
    /// Somebody asked the demo to stop.
    Stop,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Where even this cannot be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let (teller, news) = mpsc::channel();
    listen_for_signals(teller.clone())?;
    let pulse = SimulatedPulse::start(PulseModel::default());
    let mut files = Files::create(&pulse.url())?;
    collector::store_others(&files.storage())?;
    let mut collector = Collector::start(&files.collector_config())?;
    let endpoint = start_endpoint(teller.clone(), collector.address);
    files.name_endpoint(&format!("{}{PING_PATH}", endpoint.url()))?;
    let mut sidecar = Sidecar::start(&files.config(), teller.clone())?;
    start_ticking(teller);

    let mut show = Show::new(&files, &pulse, arguments.pings);
    let shown = show.open(sidecar.pid(), collector.pid()).and_then(|()| show.follow(&news));
    let ended = sidecar.stop()?;
    let report = collector.report();
    let site = arguments.site.clone().unwrap_or_else(site_beside_the_build);
    let published = collector.publish(&site);
    collector.stop()?;
    let shown = shown.and_then(|()| show.close(&news)).and_then(|()| show.report(&report?));
    let shown = shown.and_then(|()| show.site(&published?));
    files.remove()?;
    shown?;
    if ended.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the sidecar ended with {ended}; its log above says why")))
}

/// It stays when the demo's own files are removed.
fn site_beside_the_build() -> PathBuf {
    binary().with_file_name("demo-site")
}

/// From here on the usual signals end the demo in order.
fn listen_for_signals(teller: Sender<News>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut terminal_closed = signal(SignalKind::hangup())?;
    drop(within);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = terminal_closed.recv() => {}
            }
        });
        // Where nobody listens any more the demo is ending already.
        let _ = teller.send(News::Stop);
    });
    Ok(())
}

/// Shows what arrives, and answers as the collector does.
fn start_endpoint(teller: Sender<News>, collector: SocketAddr) -> Server {
    Server::start(move |request| {
        if (request.method.as_str(), request.path()) != ("POST", PING_PATH) {
            return ResponsePlan::status(404);
        }
        let status = Collector::take(collector, request.body.clone());
        let received = News::Ping(request.body, SystemClock.now().mono);
        ResponsePlan::status(if status != 204 || teller.send(received).is_ok() { status } else { 503 })
    })
}

fn start_ticking(teller: Sender<News>) {
    thread::spawn(move || {
        while teller.send(News::Tick).is_ok() {
            thread::sleep(TICK);
        }
    });
}
