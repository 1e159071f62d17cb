//! The program `echod` around its server: log, signals, service manager, replacement without loss.

pub(crate) mod handover;
pub(crate) mod logging;
pub(crate) mod signals;
pub mod supervisor;
mod systemd;
