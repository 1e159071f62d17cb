//! What confines the process once its sockets are bound: the user that it becomes, and the sandbox,
//! which is Landlock for files and a seccomp filter for system calls.
//!
//! Both are properties of a thread that its new threads inherit. So [`enter`] is called while the
//! process has one thread. A library's caller has its own process, so nothing here is called for it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tracing::{info, warn};

mod landlock;
mod privileges;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod seccomp;
/// The numbers and forms of system calls differ.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
mod seccomp {
    pub(super) fn restrict() -> Result<(), &'static str> {
        Err("there is no table of system calls for this architecture")
    }
}

pub(super) use privileges::Identity;

use crate::settings::SandboxMode;

/// The files that a confined process still uses, beside /proc.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Read again at a reload. They may be replaced meanwhile, so their directories are opened up.
    pub read: Vec<PathBuf>,
    /// Sockets that are removed at the end, or bound again.
    pub sockets: Vec<PathBuf>,
}

/// How much of a restriction is in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Enforcement {
    /// All of it.
    Full,
    /// What this kernel knows of it.
    Partial,
    /// Nothing.
    None,
}

impl Enforcement {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// What confines this process.
#[derive(Clone, Debug)]
pub struct Confinement {
    user: Option<String>,
    mode: SandboxMode,
    landlock: Enforcement,
    seccomp: Enforcement,
}

impl Confinement {
    /// As shown in `/info`.
    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "mode": self.mode.to_string(),
            "user": self.user,
            "landlock": self.landlock.name(),
            "seccomp": self.seccomp.name(),
        })
    }
}

/// Why a required sandbox, or another user, is not possible.
#[derive(Debug)]
pub struct ConfinementError(String);

impl fmt::Display for ConfinementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Becomes the user and enters the sandbox, for the calling thread and all that it starts.
///
/// # Errors
/// When the user can't be assumed, or a required sandbox not be entered.
pub(super) fn confine(
    identity: Option<&Identity>,
    mode: SandboxMode,
    files: &Files,
) -> Result<Confinement, ConfinementError> {
    match identity {
        Some(identity) => identity.assume().map_err(ConfinementError)?,
        None if privileges::is_root() => {
            warn!("root serves; --user NAME gives its privileges up once the sockets are bound")
        }
        None => {}
    }
    let mut confinement = enter(mode, files)?;
    confinement.user = identity.map(|identity| identity.name().to_owned());
    let parts = [confinement.landlock, confinement.seccomp];
    if confinement.user.is_some() || parts != [Enforcement::None; 2] {
        let user = confinement.user.as_deref();
        let [landlock, seccomp] = parts.map(Enforcement::name);
        info!(user, landlock, seccomp, "confined");
    }
    Ok(confinement)
}

/// Enters the sandbox.
///
/// # Errors
/// When a required sandbox can't be entered. The calling thread may be in a part of it.
pub fn enter(mode: SandboxMode, files: &Files) -> Result<Confinement, ConfinementError> {
    let mut confinement = Confinement {
        user: None,
        mode,
        landlock: Enforcement::None,
        seccomp: Enforcement::None,
    };
    let missing = |what: &str, problem: &dyn fmt::Display| {
        let problem = format!("cannot enter the sandbox: {what}: {problem}");
        match mode {
            SandboxMode::Require => Err(ConfinementError(problem)),
            SandboxMode::Auto | SandboxMode::Off => {
                warn!("{problem}; serving without this part");
                Ok(Enforcement::None)
            }
        }
    };
    if mode == SandboxMode::Off {
        return Ok(confinement);
    }
    // seccomp comes last: it forbids to enter the other.
    confinement.landlock = match landlock::restrict(mode, files) {
        Ok(Enforcement::None) => missing("Landlock", &"the kernel has it not, or not enabled")?,
        Ok(enforcement) => enforcement,
        Err(error) => missing("Landlock", &error)?,
    };
    confinement.seccomp = match seccomp::restrict() {
        Ok(()) => Enforcement::Full,
        Err(error) => missing("seccomp", &error)?,
    };
    Ok(confinement)
}

/// The directory of a file.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
