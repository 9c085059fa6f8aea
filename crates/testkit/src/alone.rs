//! A test that runs itself again, it alone, in namespaces of its own; and the programs that such a test runs.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Says that the test runs in the namespaces.
const INSIDE: &str = "PULSE_TELEMETRY_TEST_INSIDE";

/// Begins a line with something that was measured, which is told also where the test passes.
pub const FIGURE: &str = "FIGURE ";

/// Begins a line that says which test could not run here, and why.
const SKIPPED: &str = "SKIPPED ";

/// Prepares, and runs the test of that name again in namespaces of its own (options of `unshare`), the network's among
/// them, where every port is free; there it does what it is given.
#[expect(clippy::disallowed_methods, reason = "the test tells itself that it runs in the namespaces")]
pub fn alone(name: &str, namespaces: &[&str], prepare: impl FnOnce(), test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return test();
    }
    prepare();
    let output = Command::new("unshare")
        .arg("--net")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    for line in told.lines().filter(|line| line.starts_with(FIGURE) || line.starts_with(SKIPPED)) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Runs the test of that name again in a process of its own: what it measures or ends is the process.
#[expect(clippy::disallowed_methods, reason = "the test tells itself that it is by itself")]
pub fn by_itself(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).env(INSIDE, "yes").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Runs a program to its good end, and gives what it said.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the program runs, asked like this; says so where it does not. With `CI=true` its absence fails.
pub fn program_or_skip(program: &str, arguments: &[&str], test: &str) -> bool {
    let runs = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !runs {
        skip(program, test);
    }
    runs
}

/// The text of a file; says so where it is not there. With `CI=true` its absence fails.
pub fn file_or_skip(path: &Path, test: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        skip(&path.display().to_string(), test);
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "whether this is CI is the environment's to say")]
fn skip(what: &str, test: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI installs {what} by `make setup`");
    let test = test.rsplit("::").next().unwrap_or(test);
    // Past the test harness, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "{SKIPPED}{test}: {what} is not here (`make setup` installs it)");
}
