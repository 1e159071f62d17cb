//! The first line is a prefix and the second an address. A prefix prints as what it was read from,
//! and contains exactly the addresses that agree in its first bits, in either form.
#![no_main]

use std::net::IpAddr;

use echomark::net::cidr::Cidr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (prefix, address) = text.split_once('\n').unwrap_or((text, ""));
    let cidr: Cidr = match prefix.parse() {
        Ok(cidr) => cidr,
        Err(error) => {
            let error = format!("{error}");
            return assert!(error.contains(prefix), "{error}");
        }
    };
    let printed = cidr.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&cidr), "{printed:?}");
    assert!(cidr.contains(cidr.network()));
    if let Ok(address) = address.parse::<IpAddr>() {
        assert_eq!(cidr.contains(address), agrees(&cidr, address), "{address}");
        assert!(Cidr::from(address).contains(address));
    }
});

/// The definition, written as differently from the implementation as it goes: in text, bit by bit.
fn agrees(cidr: &Cidr, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
    };
    let (network, address) = (bits(cidr.network()), bits(address));
    let common = usize::from(cidr.length());
    network.len() == address.len() && network[..common] == address[..common]
}
