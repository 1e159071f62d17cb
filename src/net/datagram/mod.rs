//! UDP in batches: recvmmsg(2) and sendmmsg(2), with aggregates where the kernel supports them
//! (UDP_GRO, UDP_SEGMENT, udp(7)), and answers sent from the address that the request was sent to
//! (IP_PKTINFO, ip(7); IPV6_PKTINFO, ipv6(7)).
//!
//! Lengths that the kernel reports are checked against the buffers before use.

mod batch;
mod encoding;
mod send;
mod socket;

pub(crate) use batch::{Batch, Datagram, MAX_SLOTS, UnsentAnswer};
pub(crate) use encoding::Destination;
pub(crate) use send::{Progress, SendCounts};
pub(crate) use socket::{
    adopt_datagram_socket, datagram_sockets, only_destination, prepare_inherited,
};

#[cfg(test)]
pub(crate) use socket::cut_into_segments;
