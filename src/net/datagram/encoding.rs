//! Socket addresses and control messages in the kernel's layout (ip(7), ipv6(7), cmsg(3)), written
//! and read as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::net::sys::messages::{AF_INET, AF_INET6, SOCKADDR_IN_LEN, SOCKADDR_IN6_LEN};
use crate::net::sys::socket::{IP_PKTINFO, IPV6_PKTINFO, SocketOption, UDP_GRO, UDP_SEGMENT};

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Destination {
    /// The destination address of its IP header, never IPv4-mapped.
    pub(crate) address: IpAddr,
    /// The index of the interface it came in by.
    pub(crate) interface: u32,
    /// The address is this host's own, neither broadcast nor multicast.
    pub(crate) unicast: bool,
}

/// A socket address: struct sockaddr_in or sockaddr_in6.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(super) struct RawAddress([u8; SOCKADDR_IN6_LEN]);

impl RawAddress {
    /// The whole buffer, for the kernel to write to.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes of the address.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.family() == AF_INET {
            &self.0[..SOCKADDR_IN_LEN]
        } else {
            &self.0
        }
    }

    /// The address, if it is an IP address.
    pub(super) fn decode(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(array(&self.0, 2)?);
        match self.family() {
            AF_INET => {
                let ip = Ipv4Addr::from(array::<4>(&self.0, 4)?);
                Some(SocketAddr::new(ip.into(), port))
            }
            AF_INET6 => {
                let flow = u32::from_ne_bytes(array(&self.0, 4)?);
                let ip = Ipv6Addr::from(array::<16>(&self.0, 8)?);
                let scope = u32::from_ne_bytes(array(&self.0, 24)?);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }

    fn family(&self) -> u16 {
        let [a, b, ..] = self.0;
        u16::from_ne_bytes([a, b])
    }
}

/// Room for the 96 bytes of control messages that our sockets enable, and for others that the
/// previous owner of an inherited socket may have enabled.
const MAX_CONTROL_LEN: usize = 192;

/// A control message's header: a size_t and two ints.
const HEADER_LEN: usize = size_of::<usize>() + 2 * size_of::<i32>();

/// A buffer for control messages, aligned as struct cmsghdr is.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control([u8; MAX_CONTROL_LEN]);

impl Control {
    /// The whole buffer, for the kernel to write to.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Writes the source address and the length of an aggregate's segments, and returns the encoded
    /// messages.
    pub(super) fn encode(&mut self, from: Option<Destination>, segment_len: Option<u16>) -> &[u8] {
        let mut len = 0;
        match from.map(|from| (from.address, from.interface)) {
            Some((IpAddr::V4(address), _)) => {
                // Routing chooses the interface.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&address.octets());
                len = self.push(len, IP_PKTINFO, &info);
            }
            Some((IpAddr::V6(address), interface)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&address.octets());
                // A link-local address needs its interface.
                if address.is_unicast_link_local() {
                    info[16..].copy_from_slice(&interface.to_ne_bytes());
                }
                len = self.push(len, IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if let Some(segment_len) = segment_len {
            let data = segment_len.to_ne_bytes();
            len = self.push(len, UDP_SEGMENT, &data);
        }
        &self.0[..len]
    }

    /// Decodes the control messages of a received datagram from the first `len` bytes.
    pub(super) fn decode(&self, len: usize) -> ControlInfo {
        let mut info = ControlInfo::default();
        for (kind, data) in ControlMessages(&self.0[..len.min(MAX_CONTROL_LEN)]) {
            match kind {
                IP_PKTINFO => {
                    info.destination = ipv4_destination(data).or(info.destination);
                }
                // An IPv4 datagram on an IPv6 socket has both; the IPv4 message says more.
                IPV6_PKTINFO if info.destination.is_none() => {
                    info.destination = ipv6_destination(data);
                }
                UDP_GRO => {
                    let len = array(data, 0).map_or(0, i32::from_ne_bytes);
                    info.segment_len = usize::try_from(len).ok().filter(|&len| len > 0);
                }
                _ => {}
            }
        }
        info
    }

    /// Writes a control message at offset `at` and returns the offset behind it (CMSG_SPACE(3)).
    fn push(&mut self, at: usize, kind: SocketOption, data: &[u8]) -> usize {
        let len = HEADER_LEN + data.len();
        let end = at + len.next_multiple_of(size_of::<usize>());
        let room = &mut self.0[at..end];
        let (header, room) = room.split_at_mut(HEADER_LEN);
        let (header_len, header) = header.split_at_mut(size_of::<usize>());
        let (header_level, header_kind) = header.split_at_mut(size_of::<i32>());
        header_len.copy_from_slice(&len.to_ne_bytes());
        header_level.copy_from_slice(&kind.level.to_ne_bytes());
        header_kind.copy_from_slice(&kind.name.to_ne_bytes());
        room[..data.len()].copy_from_slice(data);
        end
    }
}

impl Default for Control {
    fn default() -> Self {
        Self([0; MAX_CONTROL_LEN])
    }
}

/// The decoded control messages of a received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ControlInfo {
    pub(super) destination: Option<Destination>,
    /// The length of each datagram of an aggregate but the last, at least 1.
    pub(super) segment_len: Option<usize>,
}

/// struct in_pktinfo: interface, local address, destination address of the header.
fn ipv4_destination(data: &[u8]) -> Option<Destination> {
    let local: [u8; 4] = array(data, 4)?;
    let address: [u8; 4] = array(data, 8)?;
    Some(Destination {
        address: Ipv4Addr::from(address).into(),
        interface: u32::from_ne_bytes(array(data, 0)?),
        // The two differ for broadcast and multicast (ip(7)).
        unicast: local == address,
    })
}

/// struct in6_pktinfo: destination address of the header, interface.
fn ipv6_destination(data: &[u8]) -> Option<Destination> {
    let address = Ipv6Addr::from(array::<16>(data, 0)?);
    Some(Destination {
        address: address.to_canonical(),
        interface: u32::from_ne_bytes(array(data, 16)?),
        unicast: !address.is_multicast() && address.to_ipv4_mapped().is_none(),
    })
}

/// The control messages in a buffer: level and type, data (cmsg(3)).
struct ControlMessages<'a>(&'a [u8]);

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (SocketOption, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let buffer = self.0;
        let len = usize::from_ne_bytes(array(buffer, 0)?);
        let name_at = size_of::<usize>() + size_of::<i32>();
        let kind = SocketOption {
            level: i32::from_ne_bytes(array(buffer, size_of::<usize>())?),
            name: i32::from_ne_bytes(array(buffer, name_at)?),
        };
        let data = buffer.get(HEADER_LEN..len)?;
        let next = len.next_multiple_of(size_of::<usize>());
        self.0 = buffer.get(next..).unwrap_or_default();
        Some((kind, data))
    }
}

/// `N` bytes at offset `at`, if there are as many.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys::messages::{CMSGHDR, control_space};
    use proptest::prelude::*;

    #[test]
    fn our_layout_is_that_of_the_c_library() {
        assert_eq!((HEADER_LEN, align_of::<Control>()), CMSGHDR);
        let mut control = Control::default();
        assert_eq!(control.push(0, IPV6_PKTINFO, &[0; 20]), control_space(20));
        assert_eq!((SOCKADDR_IN_LEN, SOCKADDR_IN6_LEN), (16, 28));
    }

    proptest! {
        #[test]
        fn no_control_bytes_break_the_reader(
            bytes in prop::collection::vec(any::<u8>(), MAX_CONTROL_LEN),
            len in 0..2 * MAX_CONTROL_LEN,
        ) {
            let control = Control(bytes.try_into().unwrap());
            prop_assert_ne!(control.decode(len).segment_len, Some(0));
        }

        #[test]
        fn control_messages_read_back_as_written(
            messages in prop::collection::vec(
                (any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..20)),
                0..5,
            ),
        ) {
            let mut control = Control::default();
            let mut len = 0;
            for (level, name, data) in &messages {
                let kind = SocketOption {
                    level: *level,
                    name: *name,
                };
                len = control.push(len, kind, data);
            }
            let read: Vec<_> = ControlMessages(&control.0[..len])
                .map(|(kind, data)| (kind.level, kind.name, data.to_vec()))
                .collect();
            prop_assert_eq!(read, messages);
        }
    }
}
