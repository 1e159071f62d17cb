//! Datagrams that are never answered, because their answer would start an endless exchange or take
//! part in a flood.
//!
//! A source address can be forged, and any service that answers unknown datagrams (echo, chargen,
//! DNS, TFTP) then answers our answer (CERT CA-1996-01, CVE-1999-0103, CVE-2024-2169).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::metrics::DropReason;
use crate::net::datagram::Destination;

/// Lower ports are system ports (RFC 6335), and no client sends from them.
const FIRST_CLIENT_PORT: u16 = 1024;

/// Decides whether a datagram may be answered at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    own_ports: Box<[u16]>,
}

impl Guard {
    /// A guard for a server with these UDP ports. A source with one of these ports is never
    /// answered, on any host: it may be a server like this one.
    pub(crate) fn new(own_ports: impl IntoIterator<Item = u16>) -> Self {
        Self {
            own_ports: own_ports.into_iter().collect(),
        }
    }

    /// Whether a datagram from `source` to `destination` may be answered.
    ///
    /// # Errors
    /// The reason against an answer.
    pub(crate) fn verdict(
        &self,
        source: SocketAddr,
        destination: Option<Destination>,
    ) -> Result<(), DropReason> {
        if source.port() < FIRST_CLIENT_PORT {
            return Err(DropReason::SourcePort);
        }
        if self.own_ports.contains(&source.port()) {
            return Err(DropReason::OwnPort);
        }
        // An unknown destination may be a group.
        if !destination.is_some_and(|to| to.unicast) || !is_unicast(source.ip()) {
            return Err(DropReason::NotUnicast);
        }
        Ok(())
    }
}

/// Whether the address can belong to one host. Only the kernel knows the broadcast addresses of
/// networks, and it neither accepts such a source nor lets us send there.
fn is_unicast(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_unspecified() && !address.is_multicast() && address != Ipv4Addr::BROADCAST
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const HERE: Option<Destination> = Some(Destination {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        interface: 1,
        unicast: true,
    });

    #[track_caller]
    fn check(source: &str, expected: Result<(), DropReason>) {
        let guard = Guard::new([7777, 9]);
        assert_eq!(guard.verdict(source.parse().unwrap(), HERE), expected);
    }

    #[test]
    fn clients_are_answered() {
        check("192.0.2.1:1024", Ok(()));
        check("[2001:db8::1]:65535", Ok(()));
        check("[::ffff:192.0.2.1]:40000", Ok(()));
    }

    #[test]
    fn services_are_not() {
        check("192.0.2.1:0", Err(DropReason::SourcePort));
        check("192.0.2.1:7", Err(DropReason::SourcePort));
        check("[2001:db8::1]:1023", Err(DropReason::SourcePort));
        check("192.0.2.1:7777", Err(DropReason::OwnPort));
    }

    #[test]
    fn neither_are_groups() {
        for source in [
            "0.0.0.0:4000",
            "255.255.255.255:4000",
            "224.0.0.1:4000",
            "[::]:4000",
            "[ff02::1]:4000",
            "[::ffff:224.0.0.1]:4000",
            "[::ffff:255.255.255.255]:4000",
        ] {
            check(source, Err(DropReason::NotUnicast));
        }
        let guard = Guard::default();
        let source = "192.0.2.1:4000".parse().unwrap();
        let group = HERE.map(|to| Destination {
            unicast: false,
            ..to
        });
        assert_eq!(guard.verdict(source, group), Err(DropReason::NotUnicast));
        assert_eq!(guard.verdict(source, None), Err(DropReason::NotUnicast));
    }

    proptest! {
        #[test]
        fn no_answer_reaches_a_service_or_one_of_our_own(
            own in prop::collection::vec(any::<u16>(), 0..4),
            v4 in any::<u32>(),
            v6 in any::<u128>(),
            port in any::<u16>(),
            unicast in any::<bool>(),
        ) {
            let guard = Guard::new(own.iter().copied());
            let to = HERE.map(|to| Destination { unicast, ..to });
            for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(v6).into()] {
                let answered = guard.verdict(SocketAddr::new(address, port), to).is_ok();
                prop_assert!(!answered || (port >= 1024 && !own.contains(&port) && unicast));
                let address = address.to_canonical();
                prop_assert!(!answered || !address.is_multicast());
                // An address and its mapped form get the same verdict.
                if let IpAddr::V4(v4) = address {
                    let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), port);
                    prop_assert_eq!(guard.verdict(mapped, to).is_ok(), answered);
                }
            }
        }
    }
}
