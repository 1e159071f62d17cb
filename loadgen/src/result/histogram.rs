//! The histograms of nanoseconds: their bounds, and how they are stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
