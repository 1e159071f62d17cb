//! The histograms of nanoseconds: their bounds, and how they are stored.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer, Serializer, V2DeflateSerializeError, V2DeflateSerializer,
};

/// The largest latency that is told apart: one hour. Larger ones count as one hour.
pub(crate) const MAX_NS: u64 = 3_600_000_000_000;
/// Values are told apart by their first three digits.
pub(crate) const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of nanoseconds. All have the same bounds, so they add exactly, and none grows.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that HdrHistogram accepts")
}

/// The histogram as text: HdrHistogram's V2 encoding, deflated, in base64.
pub(super) fn encode(histogram: &Histogram<u64>) -> Result<String, V2DeflateSerializeError> {
    let mut encoded = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut encoded)?;
    Ok(STANDARD.encode(encoded))
}

/// Reads such a text, into a histogram with the bounds of [`empty`].
///
/// # Errors
/// A line that says what is wrong with it. An empty histogram is wrong too.
pub(super) fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let encoded = STANDARD
        .decode(text)
        .map_err(|error| format!("a histogram is not base64: {error}"))?;
    let encoded = inflate(&encoded)?;
    let decoded: Histogram<u64> = Deserializer::new()
        .deserialize(&mut encoded.as_slice())
        .map_err(|error| format!("a histogram cannot be read: {error}"))?;
    if decoded.is_empty() {
        return Err("a histogram is empty".to_owned());
    }
    let bounds =
        |histogram: &Histogram<u64>| (histogram.low(), histogram.high(), histogram.sigfig());
    let mut histogram = empty();
    if bounds(&decoded) == bounds(&histogram) {
        return Ok(decoded);
    }
    histogram
        .add(&decoded)
        .map_err(|error| format!("a histogram is too wide: {error}"))?;
    Ok(histogram)
}

/// The bytes before the counts: cookie, length of the counts, offset, digits, bounds and ratio.
const HEADER: usize = 40;
/// More than all counts of a histogram with our bounds take, at nine bytes each.
const MAX_ENCODED: u64 = 1 << 20;
/// The first bytes of a deflated histogram, before the length of what follows.
const DEFLATED: &[u8] = &[0x1c, 0x84, 0x93, 0x14];

/// The encoding without deflate, whose header tells no more bytes than there are: the deserializer
/// reserves as many as it tells.
fn inflate(encoded: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    match encoded.strip_prefix(DEFLATED) {
        Some(rest) => ZlibDecoder::new(rest.get(4..).unwrap_or_default())
            .take(MAX_ENCODED)
            .read_to_end(&mut inflated)
            .map_err(|error| format!("a histogram cannot be read: {error}"))?,
        None => {
            inflated.extend_from_slice(encoded);
            inflated.len()
        }
    };
    let told = inflated.get(4..8).and_then(|bytes| bytes.try_into().ok());
    let told = told.map_or(0, u32::from_be_bytes) as usize;
    if told > inflated.len().saturating_sub(HEADER) {
        return Err(format!(
            "a histogram cannot be read: {told} bytes of counts are missing or too many"
        ));
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_there_is_refused_before_memory_is_reserved() {
        let mut histogram = empty();
        histogram.record(1000).unwrap();
        let text = encode(&histogram).unwrap();
        assert_eq!(decode(&text).unwrap(), histogram);
        let mut plain = inflate(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(decode(&STANDARD.encode(&plain)).unwrap(), histogram);
        plain[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let refused = decode(&STANDARD.encode(plain)).unwrap_err();
        assert!(refused.contains("4294967295 bytes"), "{refused}");
    }
}
