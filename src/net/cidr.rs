//! Address prefixes, such as `10.0.0.0/8` and `2001:db8::/32`, and the definition of one source.
//!
//! A dual-stack listener sees IPv4 peers as IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2).
//! Here both forms are one address.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::LazyLock;

/// The address itself, or the IPv4 address of an IPv4-mapped IPv6 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A set of addresses that agree in their first bits (RFC 4632, RFC 4291 section 2.3). No bit
/// beyond the prefix is set, and an IPv4-mapped IPv6 prefix is kept as the IPv4 one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

impl Cidr {
    /// The lowest address of the set.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// How many leading bits the addresses have in common: up to 32 in IPv4, 128 in IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is in the set. An IPv6 prefix contains no IPv4 address, not even `::/0`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.network.is_ipv4() == address.is_ipv4() && masked(address, self.length) == self.network
    }

    /// The number of host addresses, at least one. An IPv4 network excludes its first address, the
    /// network, and its last, the broadcast (RFC 1122 section 3.2.1.3); an IPv6 network excludes
    /// its first, the routers' anycast (RFC 4291 section 2.6.1). Networks of one address or two
    /// have no such addresses (RFC 3021, RFC 6164).
    pub fn host_count(&self) -> u128 {
        match (width(self.network) - self.length, self.network) {
            (bits @ 0..=1, _) => 1 << bits,
            (bits, IpAddr::V4(_)) => (1 << bits) - 2,
            (bits, IpAddr::V6(_)) => u128::MAX >> (128 - bits),
        }
    }

    /// The host address with this index, from 0 in ascending order; none from [`Cidr::host_count`]
    /// on.
    pub fn host(&self, index: u128) -> Option<IpAddr> {
        if index >= self.host_count() {
            return None;
        }
        let skipped = u128::from(width(self.network) - self.length > 1);
        let offset = index + skipped;
        Some(match self.network {
            // The check above keeps the offset below the size of an IPv4 network.
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() | offset as u32).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() | offset).into(),
        })
    }
}

impl From<IpAddr> for Cidr {
    /// The prefix of this one address.
    fn from(address: IpAddr) -> Self {
        let network = canonical(address);
        Self {
            network,
            length: width(network),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |problem| CidrError {
            text: text.to_owned(),
            problem,
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fail(CidrProblem::BadAddress))?;
        let Some(length) = length else {
            return Ok(Self::from(address));
        };
        let max = width(address);
        let bad_length = || fail(CidrProblem::BadLength { max });
        if !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad_length());
        }
        let length: u8 = length.parse().map_err(|_| bad_length())?;
        if length > max {
            return Err(bad_length());
        }
        let (address, length) = match canonical(address) {
            // The first 96 bits of a mapped prefix only mark it as mapped.
            v4 @ IpAddr::V4(_) if max == 128 && length >= 96 => (v4, length - 96),
            _ => (address, length),
        };
        let meant = Self {
            network: masked(address, length),
            length,
        };
        if meant.network != address {
            return Err(fail(CidrProblem::HostBits { meant }));
        }
        Ok(meant)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// A prefix that could not be read, with the text and an example.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CidrError {
    text: String,
    problem: CidrProblem,
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an address prefix: {}; write for example ",
            self.text, self.problem
        )?;
        match self.problem {
            CidrProblem::HostBits { meant } => write!(f, "{meant}"),
            _ => f.write_str("10.0.0.0/8, 2001:db8::/32 or 192.0.2.1"),
        }
    }
}

impl std::error::Error for CidrError {}

/// Why a text is not an address prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CidrProblem {
    /// The text before the slash is not an IP address.
    BadAddress,
    /// The text behind the slash is not a valid number of bits.
    BadLength {
        /// The number of bits of the address.
        max: u8,
    },
    /// Bits are set beyond the length of the prefix.
    HostBits {
        /// The prefix with these bits cleared.
        meant: Cidr,
    },
}

impl fmt::Display for CidrProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadAddress => f.write_str("it does not start with an IPv4 or IPv6 address"),
            Self::BadLength { max } => {
                write!(f, "its length is not a number from 0 to {max}")
            }
            Self::HostBits { meant } => {
                write!(f, "bits are set beyond the first {}", meant.length)
            }
        }
    }
}

/// The IPv6 prefix of one client: a /64 is the least that one customer is given (RFC 6177), and
/// within it a host chooses addresses freely (RFC 8981).
pub(crate) const DEFAULT_IPV6_PREFIX: u8 = 64;

/// One source for limits: an IPv4 address, or an IPv6 network.
///
/// It has 64 bits, because each open connection may keep one. A longer prefix becomes a hash with a
/// random key: two such sources count as one with a chance of 2^-64.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SourcePrefix(NonZeroU64);

impl SourcePrefix {
    /// The source that an address belongs to, with IPv6 networks of a length from 1 to 128.
    pub(crate) fn new(address: IpAddr, ipv6_prefix: u8) -> Self {
        /// Upper half of the key of every IPv4 address. In IPv6, ffff::/16 is multicast, which is
        /// never a source (RFC 4291 section 2.7).
        const IPV4: u64 = 0xffff_ffff << 32;
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let bits = match canonical(address) {
            IpAddr::V4(v4) => IPV4 | u64::from(v4.to_bits()),
            v6 => match masked(v6, ipv6_prefix.min(128)) {
                IpAddr::V6(network) if ipv6_prefix <= 64 => (network.to_bits() >> 64) as u64,
                network => KEY.hash_one(network),
            },
        };
        // The complement maps zero to the limited broadcast address, which is never a source
        // either, so that an `Option` of this takes no extra space.
        Self(NonZeroU64::new(!bits).unwrap_or(NonZeroU64::MIN))
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with only its first `length` bits.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    // Shifting by the whole width leaves no bits, for which `checked_shl` returns `None`.
    let host = u32::from(width(address) - length);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_read_and_print_in_one_form() {
        for (text, printed) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(cidr(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn errors_name_the_mistake() {
        for (text, problem) in [
            ("", CidrProblem::BadAddress),
            ("localhost/8", CidrProblem::BadAddress),
            ("10/8", CidrProblem::BadAddress),
            ("fe80::1%lo", CidrProblem::BadAddress),
            ("10.0.0.0/33", CidrProblem::BadLength { max: 32 }),
            ("10.0.0.0/", CidrProblem::BadLength { max: 32 }),
            ("10.0.0.0/+8", CidrProblem::BadLength { max: 32 }),
            ("10.0.0.0/8/8", CidrProblem::BadLength { max: 32 }),
            ("10.0.0.0/255.0.0.0", CidrProblem::BadLength { max: 32 }),
            ("::/129", CidrProblem::BadLength { max: 128 }),
            ("::/999", CidrProblem::BadLength { max: 128 }),
        ] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert_eq!(error.problem, problem, "{text}");
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn host_bits_are_an_error_with_a_suggestion() {
        for (text, meant) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            // Part of the mark itself lies beyond this prefix.
            ("::ffff:0:0/90", "::ffc0:0:0/90"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert_eq!(error.problem, CidrProblem::HostBits { meant: cidr(meant) });
            assert!(error.to_string().ends_with(meant), "{error}");
        }
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_ones() {
        assert!(cidr("10.0.0.0/8").contains(ip("::ffff:10.1.2.3")));
        assert!(!cidr("::/0").contains(ip("::ffff:10.1.2.3")));
        assert!(!cidr("::/0").contains(ip("10.1.2.3")));
        assert!(!cidr("0.0.0.0/0").contains(ip("::a01:203")));
        assert_eq!(
            SourcePrefix::new(ip("::ffff:10.1.2.3"), 64),
            SourcePrefix::new(ip("10.1.2.3"), 64)
        );
    }

    #[test]
    fn hosts_are_all_addresses_but_those_of_the_network() {
        for (text, count, first, last) in [
            ("127.1.0.0/24", 254, "127.1.0.1", "127.1.0.254"),
            ("0.0.0.0/0", (1 << 32) - 2, "0.0.0.1", "255.255.255.254"),
            ("10.0.0.4/30", 2, "10.0.0.5", "10.0.0.6"),
            ("10.0.0.4/31", 2, "10.0.0.4", "10.0.0.5"),
            ("10.0.0.4/32", 1, "10.0.0.4", "10.0.0.4"),
            ("2001:db8::/126", 3, "2001:db8::1", "2001:db8::3"),
            ("2001:db8::2/127", 2, "2001:db8::2", "2001:db8::3"),
            ("::1/128", 1, "::1", "::1"),
            (
                "::/0",
                u128::MAX,
                "::1",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        ] {
            let cidr = cidr(text);
            assert_eq!(cidr.host_count(), count, "{text}");
            assert_eq!(cidr.host(0), Some(ip(first)), "{text}");
            assert_eq!(cidr.host(count - 1), Some(ip(last)), "{text}");
            assert_eq!(cidr.host(count), None, "{text}");
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_slash_64() {
        let source = |text| SourcePrefix::new(ip(text), 64);
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_ne!(source("::1"), source("0.0.0.0"));
        assert_eq!(size_of::<Option<SourcePrefix>>(), 8);
    }

    #[test]
    fn an_ipv6_source_has_the_length_asked_for_and_an_ipv4_source_always_its_address() {
        let addresses = [
            "2001:db8::",
            "2001:db8::1",
            "2001:db8:0:1::",
            "2001:db8:1::",
        ];
        for (length, sources) in [
            (1, 1),
            (32, 1),
            (48, 2),
            (63, 2),
            (64, 3),
            (127, 3),
            (128, 4),
        ] {
            let distinct: std::collections::HashSet<_> = addresses
                .map(|address| SourcePrefix::new(ip(address), length))
                .into();
            assert_eq!(distinct.len(), sources, "/{length}");
            assert_ne!(
                SourcePrefix::new(ip("10.0.0.1"), length),
                SourcePrefix::new(ip("10.0.0.2"), length)
            );
        }
    }

    prop_compose! {
        fn addresses()(bits in any::<u128>(), v4 in any::<bool>()) -> IpAddr {
            if v4 {
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9a-f:.]{1,12}/[0-9]{1,3}|\\PC{0,20})") {
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            }
        }

        #[test]
        fn hosts_are_in_the_prefix_and_in_order(
            network in addresses(),
            length in 0u8..=128,
            index in any::<u128>(),
        ) {
            let network = canonical(network);
            let length = length % (width(network) + 1);
            let cidr = Cidr { network: masked(network, length), length };
            let index = index % cidr.host_count();
            let host = cidr.host(index).unwrap();
            prop_assume!(canonical(host) == host);
            prop_assert!(cidr.contains(host));
            if let Some(next) = cidr.host(index + 1) {
                prop_assert!(next > host);
            } else {
                prop_assert_eq!(index, cidr.host_count() - 1);
            }
        }

        #[test]
        fn a_prefix_contains_addresses_with_the_same_first_bits(
            network in addresses(),
            flipped in 0u8..128,
            length in 0u8..=128,
        ) {
            let network = canonical(network);
            let length = length % (width(network) + 1);
            let flipped = flipped % width(network);
            let cidr = Cidr { network: masked(network, length), length };
            let other = match network {
                IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() ^ 1 << (31 - flipped))),
                IpAddr::V6(v6) => IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() ^ 1 << (127 - flipped))),
            };
            prop_assume!(canonical(other) == other);
            prop_assert!(cidr.contains(network));
            prop_assert_eq!(cidr.contains(other), flipped >= length);
        }
    }
}
