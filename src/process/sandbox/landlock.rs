//! Landlock: the files that the process may still open, make and remove.
//!
//! It may read /proc, for its metrics; the control groups, by which a reload counts the usable CPUs;
//! and the directories of its configuration. It may remove sockets from the directories of its own,
//! and bind them there. Nothing else can be opened, written, made, removed or executed, and no TCP port
//! bound or connected to. Descriptors that are open already, and sockets in use, are not concerned.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Enforcement, Files, directory_of};
use crate::settings::SandboxMode;

/// What a required sandbox has at least: all rights of files, truncation included (Linux 6.2).
const MIN_ABI: ABI = ABI::V3;
/// What is asked for beyond that: TCP (6.7), ioctl on devices (6.10), signals and abstract sockets
/// (6.12). The seccomp filter forbids most of it as well.
const ABI: ABI = ABI::V6;

/// Read by the metrics, the C library's allocator and a count of CPUs.
const SYSTEM: [&str; 3] = ["/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu"];

/// Restricts the calling thread.
///
/// # Errors
/// When the kernel refuses, or when a required sandbox needs a newer one.
pub(super) fn restrict(mode: SandboxMode, files: &Files) -> Result<Enforcement, RulesetError> {
    let level = match mode {
        SandboxMode::Require => CompatLevel::HardRequirement,
        SandboxMode::Auto | SandboxMode::Off => CompatLevel::BestEffort,
    };
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // A lock on the directory keeps other starters out, and needs it open.
    let socket = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(MIN_ABI))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI))?
        .handle_access(AccessNet::from_all(ABI))?
        .scope(scopes())?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(
            directories(&files.read),
            AccessFs::ReadFile,
        ))?
        .add_rules(path_beneath_rules(directories(&files.sockets), socket))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

/// A service manager's socket may be an abstract one, outside the sandbox (sd_notify(3)).
fn scopes() -> BitFlags<Scope> {
    let manager = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    if manager.starts_with('@') {
        Scope::Signal.into()
    } else {
        Scope::from_all(ABI)
    }
}

/// The directories of files, as given, and as symbolic links lead to them.
fn directories(files: &[PathBuf]) -> Vec<PathBuf> {
    let given = files.iter().cloned();
    let real = files.iter().filter_map(|file| file.canonicalize().ok());
    given
        .chain(real)
        .map(|file| directory_of(&file).to_owned())
        .collect()
}
