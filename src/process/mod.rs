//! The program `echod` around its server: log, signals, service manager, replacement without loss.

pub mod handover;
pub mod logging;
pub mod signals;
pub mod supervisor;
mod systemd;
