//! Outputs, as other programs read them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

/// The histogram of a result, or of a line of a log.
#[track_caller]
pub(crate) fn decoded(histogram: &str) -> Histogram<u64> {
    let encoded = STANDARD.decode(histogram).unwrap();
    Deserializer::new()
        .deserialize(&mut encoded.as_slice())
        .unwrap()
}

/// An interval log as the crate that wrote it reads it.
pub(crate) struct Log {
    pub(crate) start_time: Duration,
    pub(crate) base_time: Duration,
    /// Tag, start, length and histogram.
    pub(crate) intervals: Vec<(String, Duration, Duration, Histogram<u64>)>,
}

impl Log {
    #[track_caller]
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut log = Self {
            start_time: Duration::ZERO,
            base_time: Duration::ZERO,
            intervals: Vec::new(),
        };
        for entry in IntervalLogIterator::new(text) {
            match entry.unwrap() {
                LogEntry::StartTime(time) => log.start_time = time,
                LogEntry::BaseTime(time) => log.base_time = time,
                LogEntry::Interval(interval) => {
                    log.intervals.push((
                        interval.tag().unwrap().as_str().to_owned(),
                        interval.start_timestamp(),
                        interval.duration(),
                        decoded(interval.encoded_histogram()),
                    ));
                }
            }
        }
        log
    }

    pub(crate) fn sum(&self, wanted: &str) -> Histogram<u64> {
        let mut sum = loadgen::result::histogram::empty();
        for (tag, _, _, histogram) in &self.intervals {
            if tag == wanted {
                sum.add(histogram).unwrap();
            }
        }
        sum
    }
}

/// A page in Prometheus' text format, of samples with their name and labels.
pub(crate) struct Page(Vec<(String, String, f64)>);

impl Page {
    /// Parses a page and checks what the format demands: each family has one HELP and one TYPE
    /// before its samples, names and labels have their characters, and no sample is there twice.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut samples: Vec<(String, String, f64)> = Vec::new();
        let mut families: Vec<(&str, &str)> = Vec::new();
        let mut helped = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').unwrap().0;
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped);
                assert!(families.iter().all(|&(other, _)| other != name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                families.push((name, kind));
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match sample.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (sample, ""),
            };
            let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(is_name(name) && name.starts_with("loadgen_"), "{line}");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap();
                assert!(is_name(label), "{line}");
                assert!(!value.trim_end_matches('"').contains('\n'), "{line}");
            }
            let &(family, kind) = families.last().unwrap();
            let suffix = name
                .strip_prefix(family)
                .unwrap_or_else(|| panic!("{line}"));
            assert!(
                suffix.is_empty() || kind == "summary" && ["_sum", "_count"].contains(&suffix),
                "{line}"
            );
            let is_new = samples
                .iter()
                .all(|(n, l, _)| (n.as_str(), l.as_str()) != (name, labels));
            assert!(is_new, "{line}");
            samples.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
        }
        Self(samples)
    }

    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &str) -> f64 {
        let sample = self.0.iter().find(|(n, l, _)| n == name && l == labels);
        sample.unwrap_or_else(|| panic!("no {name}{{{labels}}}")).2
    }
}
