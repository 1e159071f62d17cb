//! Distributions of nanoseconds.

use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::de::{Deserializer, Error as _};
use serde::ser::{Error as SerializeError, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};

use super::histogram::{decode, encode};

/// Samples that must lie beyond a percentile for it to be reported: with fewer, it would say more about
/// chance than about the server.
const MIN_SAMPLES_BEYOND: f64 = 10.0;

/// Whether a percentile of this number of samples is reported.
pub fn supports(samples: u64, quantile: f64) -> bool {
    let beyond = samples as f64 * (1.0 - quantile);
    // 1 - 0.99 is a little less than 0.01: ten of a thousand are enough all the same.
    beyond + 1e-6 >= MIN_SAMPLES_BEYOND
}

/// A distribution of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// `None` for an empty histogram.
    pub fn new(histogram: Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then_some(Self { histogram })
    }

    /// The value that the fraction `quantile` of the samples does not exceed; `None` if fewer than ten
    /// samples lie beyond it.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        supports(self.count(), quantile).then(|| self.histogram.value_at_quantile(quantile))
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Smallest sample.
    pub fn min(&self) -> u64 {
        self.histogram.min()
    }

    /// Arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.histogram.mean()
    }

    /// Standard deviation of the samples.
    pub fn stdev(&self) -> f64 {
        self.histogram.stdev()
    }

    /// Largest sample, to the histogram's three digits.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// The samples themselves.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

impl AddAssign<&Self> for Latency {
    fn add_assign(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms have the same bounds");
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let histogram = encode(&self.histogram).map_err(SerializeError::custom)?;
        let mut fields = serializer.serialize_struct("Latency", 13)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("min", &self.min())?;
        fields.serialize_field("mean", &self.mean())?;
        fields.serialize_field("stdev", &self.stdev())?;
        fields.serialize_field("max", &self.max())?;
        for (name, quantile) in QUANTILES {
            fields.serialize_field(name, &self.quantile(quantile))?;
        }
        fields.serialize_field("histogram", &histogram)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Latency {
    /// The histogram says all that the other figures do.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            histogram: String,
        }
        let Stored { histogram } = Stored::deserialize(deserializer)?;
        let histogram = decode(&histogram).map_err(D::Error::custom)?;
        Ok(Self { histogram })
    }
}

/// The percentiles of the result file.
pub(super) const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
];

/// A few figures of a distribution of nanoseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IntervalLatency {
    /// Median; null if fewer than ten samples lie beyond it.
    pub p50: Option<u64>,
    /// 99th percentile; null if fewer than ten samples lie beyond it.
    pub p99: Option<u64>,
    /// Largest.
    pub max: u64,
    /// The samples themselves, to three digits: HdrHistogram's V2 encoding, deflated, in base64. A
    /// run keeps them of its first 1000 intervals; results of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Samples>,
}

impl IntervalLatency {
    /// Without the samples; `None` if there are none.
    pub fn new(histogram: &Histogram<u64>) -> Option<Self> {
        Latency::new(histogram.clone()).map(|latency| Self::of(&latency))
    }

    fn of(latency: &Latency) -> Self {
        Self {
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            max: latency.max(),
            histogram: None,
        }
    }

    /// The samples; `None` if they were not kept.
    pub(crate) fn samples(&self) -> Option<Histogram<u64>> {
        Some(self.histogram.as_ref()?.latency().histogram)
    }

    /// Keeps the samples too, so that it can be added to others.
    pub(crate) fn keep(&mut self, histogram: &Histogram<u64>) {
        self.histogram = Samples::of(histogram);
    }
}

impl AddAssign<&Self> for IntervalLatency {
    /// Adds what others found in the same interval. Without the samples of both, only the largest is
    /// known.
    fn add_assign(&mut self, other: &Self) {
        let samples = self.histogram.as_ref().zip(other.histogram.as_ref());
        *self = match samples.map(|(own, others)| (own.latency(), others.latency())) {
            Some((mut sum, next)) => {
                sum += &next;
                Self {
                    histogram: Samples::of(&sum.histogram),
                    ..Self::of(&sum)
                }
            }
            None => Self {
                p50: None,
                p99: None,
                max: self.max.max(other.max),
                histogram: None,
            },
        };
    }
}

/// A histogram as its text: a thousandth of the memory, for what there are thousands of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Samples(Box<str>);

impl Samples {
    /// `None` if more were counted than the encoding can hold, 2^63 of one value.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        encode(histogram).ok().map(|text| Self(text.into()))
    }

    fn latency(&self) -> Latency {
        let histogram = decode(&self.0).expect("it was encoded here, or checked when it was read");
        Latency { histogram }
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        decode(&text).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram;
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut histogram = histogram::empty();
        histogram.record_n(1000, 999).unwrap();
        let latency = Latency::new(histogram.clone()).unwrap();
        assert_eq!(latency.quantile(0.9), Some(1000));
        assert_eq!(latency.quantile(0.99), None);
        histogram.record(1000).unwrap();
        let latency = Latency::new(histogram).unwrap();
        assert_eq!(latency.quantile(0.99), Some(1000));
        assert_eq!(latency.quantile(0.999), None);
    }

    #[test]
    fn a_latency_in_json_carries_its_histogram() {
        let mut histogram = histogram::empty();
        for value in 1..=10_000 {
            histogram.record(value * 1000).unwrap();
        }
        let latency = Latency::new(histogram.clone()).unwrap();
        let json = serde_json::to_value(&latency).unwrap();
        assert_eq!(json["count"], 10_000);
        assert_eq!(json["p99_9"], histogram.value_at_quantile(0.999));
        assert!(json["p99_99"].is_null());
        let read: Latency = serde_json::from_value(json).unwrap();
        assert_eq!(read.histogram(), &histogram);
    }

    #[test]
    fn an_interval_is_written_as_it_was_read_and_a_histogram_that_is_none_is_refused() {
        let mut histogram = histogram::empty();
        histogram.record_n(5_000, 30).unwrap();
        let mut latency = IntervalLatency::new(&histogram).unwrap();
        let without = serde_json::to_value(&latency).unwrap();
        assert_eq!(without.get("histogram"), None);
        latency.keep(&histogram);
        let written = serde_json::to_value(&latency).unwrap();
        let read: IntervalLatency = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        let mut broken = without;
        for text in ["not base64", "SGVsbG8="] {
            broken["histogram"] = text.into();
            let read: Result<IntervalLatency, _> = serde_json::from_value(broken.clone());
            assert!(read.unwrap_err().to_string().contains("a histogram"));
        }
    }

    #[test]
    fn no_samples_are_no_latency() {
        assert!(Latency::new(histogram::empty()).is_none());
        assert!(IntervalLatency::new(&histogram::empty()).is_none());
    }
}
