//! The access list: address prefixes that are allowed and denied.
//!
//! The lists are compiled once into ranges that do not overlap, so that a look-up is one binary
//! search at any length of the lists.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::cidr::{self, Cidr};

/// The verdict of the longest prefix that contains an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AccessList {
    v4: Ranges,
    v6: Ranges,
}

impl AccessList {
    /// The longest prefix that contains an address decides; a prefix in both lists denies. An
    /// address in no prefix is admitted only if the allow list is empty.
    pub(crate) fn new(allow: &[Cidr], deny: &[Cidr]) -> Self {
        let others = Verdict::of(allow.is_empty());
        let mut v4 = BTreeMap::new();
        let mut v6 = BTreeMap::new();
        // Denied prefixes come last and so override the same prefix in the other list.
        let rules = (allow.iter().map(|cidr| (cidr, Verdict::Admit)))
            .chain(deny.iter().map(|cidr| (cidr, Verdict::Deny)));
        for (cidr, verdict) in rules {
            let length = cidr.length();
            match cidr.network() {
                IpAddr::V4(network) => v4.insert((network.to_bits().into(), length), verdict),
                IpAddr::V6(network) => v6.insert((network.to_bits(), length), verdict),
            };
        }
        Self {
            v4: Ranges::new(&v4, u32::BITS, others),
            v6: Ranges::new(&v6, u128::BITS, others),
        }
    }

    /// Whether `address` may talk to the server.
    #[inline]
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let verdict = match cidr::canonical(address) {
            IpAddr::V4(v4) => self.v4.verdict(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.verdict(v6.to_bits()),
        };
        verdict == Verdict::Admit
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Admit,
    Deny,
}

impl Verdict {
    fn of(admitted: bool) -> Self {
        if admitted { Self::Admit } else { Self::Deny }
    }
}

/// A whole address family, divided where the verdict changes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ranges {
    /// Below the first change.
    lowest: Verdict,
    /// The first addresses of the further ranges, ascending, each with its verdict.
    changes: Vec<(u128, Verdict)>,
}

impl Ranges {
    /// Two prefixes are nested or disjoint. So, in the order of first addresses with the shorter
    /// prefix first, the open prefixes form a stack.
    fn new(rules: &BTreeMap<(u128, u8), Verdict>, bits: u32, others: Verdict) -> Self {
        let mut ranges = Self {
            lowest: others,
            changes: Vec::new(),
        };
        let top = u128::MAX >> (u128::BITS - bits);
        // The last address of each open prefix, with the verdict around the prefix.
        let mut open: Vec<(u128, Verdict)> = Vec::new();
        for (&(first, length), &verdict) in rules {
            while let Some((last, around)) = open.pop_if(|&mut (last, _)| last < first) {
                ranges.change(last + 1, around);
            }
            open.push((
                first | top.checked_shr(length.into()).unwrap_or(0),
                ranges.last(),
            ));
            ranges.change(first, verdict);
        }
        while let Some((last, around)) = open.pop() {
            if last < top {
                ranges.change(last + 1, around);
            }
        }
        ranges
    }

    /// Sets the verdict from `first` on. `first` must not be below an earlier change.
    fn change(&mut self, first: u128, verdict: Verdict) {
        self.changes.pop_if(|&mut (at, _)| at == first);
        if first == 0 {
            self.lowest = verdict;
        } else if self.last() != verdict {
            self.changes.push((first, verdict));
        }
    }

    fn last(&self) -> Verdict {
        self.changes
            .last()
            .map_or(self.lowest, |&(_, verdict)| verdict)
    }

    #[inline]
    fn verdict(&self, address: u128) -> Verdict {
        match self.changes.partition_point(|&(first, _)| first <= address) {
            0 => self.lowest,
            ranges => self.changes[ranges - 1].1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn list(allow: &[&str], deny: &[&str]) -> AccessList {
        let parse = |texts: &[&str]| -> Vec<Cidr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        AccessList::new(&parse(allow), &parse(deny))
    }

    #[track_caller]
    fn check(list: &AccessList, admitted: &[&str], denied: &[&str]) {
        for (addresses, verdict) in [(admitted, true), (denied, false)] {
            for address in addresses {
                assert_eq!(list.admits(address.parse().unwrap()), verdict, "{address}");
            }
        }
    }

    #[test]
    fn without_lists_everyone_is_admitted() {
        check(
            &list(&[], &[]),
            &["0.0.0.0", "255.255.255.255", "::", "ffff::"],
            &[],
        );
    }

    #[test]
    fn an_allow_list_denies_all_others() {
        check(
            &list(&["10.0.0.0/8"], &[]),
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            &["9.255.255.255", "11.0.0.0", "::1", "::a01:203"],
        );
    }

    #[test]
    fn a_deny_list_admits_all_others() {
        check(
            &list(&[], &["255.0.0.0/8", "2001:db8::/32", "::/128"]),
            &["254.255.255.255", "2001:db9::", "::1"],
            &["255.0.0.0", "255.255.255.255", "2001:db8::1", "::"],
        );
    }

    #[test]
    fn the_longest_prefix_decides_whatever_list_it_is_in() {
        check(
            &list(&["10.0.0.0/8", "10.1.1.0/24"], &["10.1.0.0/16", "10.1.1.7"]),
            &["10.0.0.1", "10.1.1.6", "10.1.1.8", "10.2.0.0"],
            &["10.1.0.1", "10.1.1.7", "10.1.2.0", "11.0.0.0"],
        );
    }

    #[test]
    fn a_prefix_in_both_lists_is_denied() {
        check(
            &list(&["0.0.0.0/0"], &["0.0.0.0/0"]),
            &[],
            &["1.2.3.4", "::1"],
        );
    }

    /// The documented rules, implemented directly.
    fn naive(allow: &[Cidr], deny: &[Cidr], address: IpAddr) -> bool {
        let longest = |list: &[Cidr]| {
            let matching = list.iter().filter(|cidr| cidr.contains(address));
            matching.map(Cidr::length).max()
        };
        match (longest(allow), longest(deny)) {
            (None, None) => allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    /// Few different bits at both ends, so that prefixes often nest and touch.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(128), Just(254), Just(255)];
        (vec(byte, 4), any::<bool>()).prop_map(|bytes| {
            let (b, v4) = bytes;
            if v4 {
                IpAddr::from(Ipv4Addr::new(b[0], b[1], b[2], b[3]))
            } else {
                let [x, y] = [(b[0], b[1]), (b[2], b[3])].map(|(x, y)| u16::from_be_bytes([x, y]));
                IpAddr::from(Ipv6Addr::new(x, y, 0, 0, 0, 0, x, y))
            }
        })
    }

    fn cidrs() -> impl Strategy<Value = Cidr> {
        (addresses(), 0u8..=128).prop_map(|(address, length)| match address {
            IpAddr::V4(v4) => {
                let length = length % 33;
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let network = Ipv4Addr::from_bits(v4.to_bits() & mask);
                format!("{network}/{length}").parse().unwrap()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let network = Ipv6Addr::from_bits(v6.to_bits() & mask);
                format!("{network}/{length}").parse().unwrap()
            }
        })
    }

    proptest! {
        #[test]
        fn the_compiled_list_decides_as_the_rules_do(
            allow in vec(cidrs(), 0..8),
            deny in vec(cidrs(), 0..8),
            probes in vec(addresses(), 1..40),
        ) {
            let list = AccessList::new(&allow, &deny);
            // A compiled list would fail at the edges of the prefixes.
            let edges = allow.iter().chain(&deny).map(Cidr::network);
            for address in edges.chain(probes) {
                prop_assert_eq!(list.admits(address), naive(&allow, &deny, address), "{}", address);
            }
        }
    }
}
