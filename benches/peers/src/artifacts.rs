//! The programs that are measured: where they are, and how they come to be there.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Are programs built before they are measured?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Whatever is not up to date is.
    UpToDate,
    /// What is there is measured.
    Never,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// This package's own servers.
    pub servers: PathBuf,
    /// The program `echod`.
    pub echod: PathBuf,
    /// The program `loadgen`.
    pub loadgen: PathBuf,
    /// The driver itself.
    pub driver: PathBuf,
    build: Build,
}

impl Artifacts {
    /// The programs beside the driver and in the workspace's release build, unless told otherwise.
    ///
    /// # Errors
    /// Where the driver does not know its own path.
    pub fn locate(
        echod: Option<PathBuf>,
        loadgen: Option<PathBuf>,
        build: Build,
    ) -> io::Result<Self> {
        let driver = std::env::current_exe()?;
        let servers = driver.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        let release = workspace().join("target/release");
        let artifacts = Self {
            servers,
            echod: echod.unwrap_or_else(|| release.join("echod")),
            loadgen: loadgen.unwrap_or_else(|| release.join("loadgen")),
            driver,
            build,
        };
        Ok(artifacts)
    }

    /// Makes sure that this package's servers are there.
    ///
    /// # Errors
    /// Where they can't be built.
    pub fn need_servers(&self) -> io::Result<()> {
        if self.build == Build::Never {
            return Ok(());
        }
        let profile = match self.servers.file_name().and_then(OsStr::to_str) {
            Some("debug") => "dev",
            Some(name) => name,
            None => "release",
        };
        let target = self.servers.parent().unwrap_or_else(|| Path::new("."));
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        cargo(&manifest, target, &["--bins", "--profile", profile])
    }

    /// Makes sure that echod is there: the workspace's own is built, another is only looked for.
    ///
    /// # Errors
    /// Where it can't be built or is not there.
    pub fn need_echod(&self) -> io::Result<()> {
        self.need_ours(
            &self.echod,
            &["--release", "-p", "echomark", "--bin", "echod"],
        )
    }

    /// Makes sure that loadgen is there, likewise.
    ///
    /// # Errors
    /// Where it can't be built or is not there.
    pub fn need_loadgen(&self) -> io::Result<()> {
        self.need_ours(
            &self.loadgen,
            &["--release", "-p", "loadgen", "--bin", "loadgen"],
        )
    }

    /// Compiles the server on libuv, if there are a C compiler and libuv's headers.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn libuv(&self) -> io::Result<PathBuf> {
        let program = self.servers.join("peer-libuv");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/libuv.c");
        if is_newer(&program, &source) || (self.build == Build::Never && program.exists()) {
            return Ok(program);
        }
        let flags = Command::new("pkg-config")
            .args(["--cflags", "--libs", "libuv"])
            .output();
        let flags = match flags {
            Ok(output) if output.status.success() => output.stdout,
            _ => {
                return Err(io::Error::other(
                    "pkg-config does not know libuv (libuv1-dev)",
                ));
            }
        };
        let compiled = Command::new("cc")
            .args(["-O3", "-o"])
            .args([&program, &source])
            .args(String::from_utf8_lossy(&flags).split_whitespace())
            .output()
            .map_err(|e| io::Error::other(format!("cannot run cc: {e}")))?;
        match compiled.status.success() {
            true => Ok(program),
            false => Err(io::Error::other(format!(
                "cc failed: {}",
                String::from_utf8_lossy(&compiled.stderr).trim()
            ))),
        }
    }

    fn need_ours(&self, program: &Path, what: &[&str]) -> io::Result<()> {
        let target = workspace().join("target");
        if self.build == Build::UpToDate && program.starts_with(target.join("release")) {
            cargo(&workspace().join("Cargo.toml"), &target, what)?;
        }
        match program.exists() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{} does not exist",
                program.display()
            ))),
        }
    }
}

/// Is `made` there, and made after `source` was last changed?
fn is_newer(made: &Path, source: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    matches!((changed(made), changed(source)), (Some(made), Some(source)) if made > source)
}

/// The repository, as it was where this package was compiled.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn cargo(manifest: &Path, target: &Path, arguments: &[&str]) -> io::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| io::Error::other(format!("cannot run cargo: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "cargo could not build {}",
            manifest.display()
        ))),
    }
}
