//! What stands between the programs and the kernel: addresses, units, sockets and their options, clocks,
//! processors.
//!
//! Nothing here knows of servers, connections or load; nothing here imports another module of ours.

pub mod affinity;
pub mod cidr;
pub mod clock;
pub(crate) mod datagram;
pub mod descriptors;
pub mod endpoint;
pub mod errno;
pub mod pipe;
pub mod readiness;
pub mod socket;
pub mod stream;
pub(crate) mod sys;
pub mod tcp;
pub mod tuning;
pub mod units;
pub mod unix;
