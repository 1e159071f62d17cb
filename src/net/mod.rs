//! What stands between the programs and the kernel: addresses, units, socket options, system calls.
//!
//! Nothing here knows of servers, connections or load; nothing here imports another module of ours.

pub mod affinity;
pub mod cidr;
pub mod endpoint;
pub mod pipe;
pub mod readiness;
pub mod sched;
pub mod stream;
pub mod sys;
pub mod tuning;
pub mod units;
pub mod unix;
