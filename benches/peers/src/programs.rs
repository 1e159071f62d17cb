//! The programs that are measured: where they are, and how they come to be there.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The directory of this package's own servers, which is that of the driver.
    pub(crate) servers: PathBuf,
    pub(crate) echod: PathBuf,
    pub(crate) loadgen: PathBuf,
}

impl Programs {
    /// The programs beside the driver and in the repository's dist build, unless told otherwise.
    pub(crate) fn locate(echod: Option<&str>, loadgen: Option<&str>) -> io::Result<Self> {
        let driver = std::env::current_exe()?;
        let dist = repository().join("target/dist");
        let or_built =
            |given: Option<&str>, name| given.map_or_else(|| dist.join(name), PathBuf::from);
        Ok(Self {
            servers: driver.parent().unwrap_or_else(|| Path::new(".")).to_owned(),
            echod: or_built(echod, "echod"),
            loadgen: or_built(loadgen, "loadgen"),
        })
    }

    /// Brings this package's servers up to date, and those of the repository's packages that are needed and
    /// are measured where the repository's own dist build puts them.
    pub(crate) fn build(&self, needed: &[&str]) -> io::Result<()> {
        let profile = match self.servers.file_name().and_then(OsStr::to_str) {
            Some("debug") => "dev",
            Some(name) => name,
            None => "release",
        };
        let target = self.servers.parent().unwrap_or_else(|| Path::new("."));
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        cargo_build(package, target, &["--bins", "--profile", profile])?;
        let target = repository().join("target");
        for (program, package) in [(&self.echod, "echomark"), (&self.loadgen, "loadgen")] {
            if needed.contains(&package) && program.starts_with(target.join("dist")) {
                cargo_build(
                    &repository(),
                    &target,
                    &["--profile", "dist", "-p", package, "--bins"],
                )?;
            }
        }
        Ok(())
    }

    /// Compiles the server on libuv, if there are a C compiler and libuv's headers (libuv1-dev).
    pub(crate) fn build_libuv(&self) -> Result<(), String> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/libuv.c");
        let compile =
            "set -e; flags=$(pkg-config --cflags --libs libuv); cc -O3 -o \"$0\" \"$1\" $flags";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", compile])
            .arg(self.servers.join("peer-libuv"));
        match shell.arg(source).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// The repository, as it was where this package was compiled.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn cargo_build(package: &Path, target: &Path, arguments: &[&str]) -> io::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| io::Error::other(format!("cannot run cargo: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "cannot build {}",
            package.display()
        ))),
    }
}
