//! Packages and tarballs of the programs that the tests are built with, made as a release's are. Needs cargo-deb.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::alone::run;

/// A program, stripped as a released one is: packages are made faster without what a debugger would want.
pub struct Stripped {
    package: &'static str,
    build: TempDir,
}

impl Stripped {
    pub fn new(package: &'static str, program: &Path) -> Self {
        let stripped = Self { package, build: tempfile::tempdir_in(crate::kept()).unwrap() };
        std::fs::create_dir(stripped.program().parent().unwrap()).unwrap();
        run("strip", &["-o", stripped.program().to_str().unwrap(), program.to_str().unwrap()]);
        stripped
    }

    fn program(&self) -> PathBuf {
        self.build.path().join("release").join(self.package)
    }

    /// Makes its package, in that version.
    pub fn deb(&self, version: &str, file: &Path) {
        let output = Command::new(cargo_deb())
            .args(["--quiet", "--locked", "--offline", "--no-build", "--no-strip", "--fast"])
            .args(["--deb-version", version, "--output"])
            .arg(file)
            .args(["--package", self.package])
            .current_dir(crate::project())
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", self.build.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes its tarball, in that version.
    pub fn tarball(&self, version: &str, target: &str, dir: &Path) {
        let output = Command::new(crate::project().join("packaging/tarball"))
            .args([self.package, target])
            .args([&self.program(), dir])
            .env("VERSION", version)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Where `make test-package` puts it, else from the path.
fn cargo_deb() -> PathBuf {
    let tool = crate::kept().with_file_name("tools/bin/cargo-deb");
    if tool.exists() { tool } else { "cargo-deb".into() }
}
