//! The subcommands, a file each: take the arguments, do the work, write the result, and return the
//! exit code.

pub(crate) mod compare;
pub(crate) mod man;
pub(crate) mod merge;
pub(crate) mod outputs;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod search;
pub(crate) mod servers;
pub(crate) mod signals;
pub(crate) mod stored;
pub(crate) mod watch;
