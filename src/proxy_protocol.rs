//! The PROXY protocol, versions 1 and 2: the header by which a proxy tells whom it speaks for, at the
//! begin of a connection. A pure parser of what has arrived so far.
//!
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::metrics::{ProxyError, ProxyVersion};

/// The most bytes of a header: of version 1 the longest line (section 2.1), of version 2 what fits
/// into the smallest TCP segment, so that a header comes in one piece (section 2).
pub const MAX_HEADER_LEN: usize = 536;
const MAX_LINE_LEN: usize = 107;

/// How version 2 begins; nothing else is meant to (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Its signature, command, family and length.
const FIXED_LEN: usize = 16;
const LINE_START: &[u8] = b"PROXY ";
/// The longest unique identifier (section 2.2.5).
const MAX_UNIQUE_ID_LEN: usize = 128;

/// What the begin of a connection is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begin<'a> {
    /// More bytes decide it.
    Incomplete,
    /// Not a header.
    Other,
    /// A header, and behind it what the client sent.
    Header(Header<'a>),
}

/// A header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// The version of the protocol.
    pub version: ProxyVersion,
    /// All of it.
    pub bytes: &'a [u8],
    /// For whom the proxy speaks. `None` if that is itself (LOCAL, as in a health check), unknown, or
    /// not an internet address.
    pub addresses: Option<Addresses>,
    /// The host name that the client asked the proxy for.
    pub authority: Option<&'a str>,
    /// The proxy's name for the connection: any bytes.
    pub unique_id: Option<&'a [u8]>,
}

/// The ends of the connection that the proxy accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The client.
    pub client: SocketAddr,
    /// What the client connected to.
    pub server: SocketAddr,
}

/// Reads the begin of a connection.
///
/// # Errors
/// What is wrong with a header. Nothing behind it can be understood.
pub fn parse(input: &[u8]) -> Result<Begin<'_>, ProxyError> {
    if begins_alike(input, SIGNATURE) {
        return parse_binary(input);
    }
    if begins_alike(input, LINE_START) {
        return parse_line(input);
    }
    Ok(Begin::Other)
}

/// Whether the input begins with these bytes, as far as it goes. An empty input decides nothing.
fn begins_alike(input: &[u8], with: &[u8]) -> bool {
    let len = input.len().min(with.len());
    input[..len] == with[..len]
}

/// Version 1: a line of text.
fn parse_line(input: &[u8]) -> Result<Begin<'_>, ProxyError> {
    let most = &input[..input.len().min(MAX_LINE_LEN)];
    let Some(end) = most.windows(2).position(|two| two == b"\r\n") else {
        return if most.len() == MAX_LINE_LEN {
            Err(ProxyError::TooLong)
        } else {
            Ok(Begin::Incomplete)
        };
    };
    let line = str::from_utf8(&input[LINE_START.len()..end]).map_err(|_| ProxyError::Malformed)?;
    let mut words = line.split(' ');
    let addresses = match words.next() {
        // What follows is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(line_addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(line_addresses::<Ipv6Addr>(words)?),
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Begin::Header(Header {
        version: ProxyVersion::V1,
        bytes: &input[..end + 2],
        addresses,
        authority: None,
        unique_id: None,
    }))
}

/// Two addresses and two ports, and nothing more.
fn line_addresses<'a, A: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Addresses, ProxyError> {
    let mut address = || -> Option<IpAddr> { Some(words.next()?.parse::<A>().ok()?.into()) };
    let (client, server) = (address(), address());
    let mut port = || -> Option<u16> {
        let text = words.next()?;
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = text == "0" || !text.starts_with('0');
        text.parse().ok().filter(|_| is_number && is_plain)
    };
    let (client_port, server_port) = (port(), port());
    match (client, server, client_port, server_port, words.next()) {
        (Some(client), Some(server), Some(client_port), Some(server_port), None) => Ok(Addresses {
            client: SocketAddr::new(client, client_port),
            server: SocketAddr::new(server, server_port),
        }),
        _ => Err(ProxyError::Malformed),
    }
}

/// Version 2: a fixed part, addresses, and values with type and length.
fn parse_binary(input: &[u8]) -> Result<Begin<'_>, ProxyError> {
    let Some((&[command, family, high, low], _)) = input
        .get(SIGNATURE.len()..)
        .and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(Begin::Incomplete);
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Unsupported),
    };
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_HEADER_LEN {
        return Err(ProxyError::TooLong);
    }
    let address_len = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // Of a local connection the family is to be ignored.
        _ if is_local => 0,
        _ => return Err(ProxyError::Unsupported),
    };
    if !is_local && len < FIXED_LEN + address_len {
        return Err(ProxyError::Malformed);
    }
    let Some(header) = input.get(..len) else {
        return Ok(Begin::Incomplete);
    };
    let mut found = Header {
        version: ProxyVersion::V2,
        bytes: header,
        addresses: None,
        authority: None,
        unique_id: None,
    };
    if !is_local {
        let (addresses, values) = header[FIXED_LEN..].split_at(address_len);
        found.addresses = match addresses.len() {
            12 => binary_addresses::<4>(addresses),
            36 => binary_addresses::<16>(addresses),
            _ => None,
        };
        read_values(header, values, &mut found)?;
    }
    Ok(Begin::Header(found))
}

/// Two addresses of `N` bytes and two ports.
fn binary_addresses<const N: usize>(bytes: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk()?;
    let (server_port, _) = rest.split_first_chunk()?;
    Some(Addresses {
        client: SocketAddr::new((*client).into(), u16::from_be_bytes(*client_port)),
        server: SocketAddr::new((*server).into(), u16::from_be_bytes(*server_port)),
    })
}

/// Reads the values behind the addresses (section 2.2.1). Unknown ones are skipped.
fn read_values<'a>(
    header: &'a [u8],
    mut values: &'a [u8],
    found: &mut Header<'a>,
) -> Result<(), ProxyError> {
    const AUTHORITY: u8 = 0x02;
    const CRC32C: u8 = 0x03;
    const UNIQUE_ID: u8 = 0x05;
    while !values.is_empty() {
        let (&[kind, high, low], rest) = values.split_first_chunk().ok_or(ProxyError::Malformed)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(ProxyError::Malformed)?;
        match kind {
            AUTHORITY => {
                let name = str::from_utf8(value).map_err(|_| ProxyError::Malformed)?;
                found.authority = Some(name);
            }
            CRC32C => {
                let sum = value.try_into().map_err(|_| ProxyError::Malformed)?;
                let at = header.len() - rest.len() - len;
                if crc32c_without(header, at..at + len) != u32::from_be_bytes(sum) {
                    return Err(ProxyError::Checksum);
                }
            }
            UNIQUE_ID if len > MAX_UNIQUE_ID_LEN => return Err(ProxyError::Malformed),
            UNIQUE_ID => found.unique_id = Some(value),
            _ => {}
        }
        values = rest;
    }
    Ok(())
}

/// The checksum of a header in which these bytes count as zero (section 2.2.3, RFC 4960 appendix B).
fn crc32c_without(header: &[u8], zero: std::ops::Range<usize>) -> u32 {
    /// The polynomial of Castagnoli, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut sum = u32::MAX;
    for (at, &byte) in header.iter().enumerate() {
        sum ^= u32::from(if zero.contains(&at) { 0 } else { byte });
        for _ in 0..8 {
            let is_odd = sum & 1 == 1;
            sum >>= 1;
            if is_odd {
                sum ^= POLYNOMIAL;
            }
        }
    }
    !sum
}

#[cfg(test)]
mod tests;
