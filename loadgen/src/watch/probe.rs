//! The bytes of a probe. Pure.

/// Bytes of a probe: few enough for a single segment, and more than chance would bring back.
pub(super) const PROBE_LEN: usize = 16;

/// A probe of this lane with this number. A server that echoes sends it back.
pub(super) fn encode(nonce: u64, number: u64) -> [u8; PROBE_LEN] {
    let mut bytes = [0; PROBE_LEN];
    bytes[..8].copy_from_slice(&nonce.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of a datagram; `None` if it is no probe of this lane.
pub(super) fn decode(nonce: u64, bytes: &[u8]) -> Option<u64> {
    let (found, number) = bytes.split_at_checked(8)?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (found == nonce.to_be_bytes()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_recognised_and_others_are_not() {
        let bytes = encode(7, 42);
        assert_eq!(decode(7, &bytes), Some(42));
        assert_eq!(decode(8, &bytes), None);
        assert_eq!(decode(7, &bytes[..15]), None);
        assert_eq!(decode(7, b""), None);
    }
}
