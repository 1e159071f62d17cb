//! The programs' interface to the kernel: addresses, units, sockets and their options, clocks,
//! processors, memory.
//!
//! It knows no servers, connections or load, and imports no other module of this crate.

pub mod affinity;
pub(crate) mod alarm;
pub mod cidr;
pub mod clock;
pub(crate) mod datagram;
pub mod descriptors;
pub mod endpoint;
pub mod errno;
pub(crate) mod memory;
pub mod pipe;
pub mod readiness;
pub mod socket;
pub mod stream;
pub(crate) mod sys;
pub mod tcp;
pub mod tuning;
pub mod units;
pub mod unix;
