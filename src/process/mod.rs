//! The program `echod` around its server: log, signals, service manager, replacement.

mod admin_port;
pub(crate) mod certificates;
pub(crate) mod failure;
pub(crate) mod handover;
pub(crate) mod logging;
pub(crate) mod reload;
mod replacement;
pub(crate) mod sandbox;
mod signals;
pub(crate) mod supervisor;
mod systemd;
mod warnings;
