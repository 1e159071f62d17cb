//! The columns of an interval.

use crate::result::IntervalCounts;

/// Names of columns, and the paths of the values in the result. The names are the result's keys with
/// their unit. Histograms are left out.
const TIMES: [(&str, &str); 2] = [("start_s", "/start_s"), ("end_s", "/end_s")];
/// The columns after the counts.
const OTHERS: [(&str, &str); 15] = [
    ("sent_bytes", "/sent_bytes"),
    ("received_bytes", "/received_bytes"),
    ("opened", "/opened"),
    ("failed", "/failed"),
    ("response_p50_ns", "/response/p50"),
    ("response_p99_ns", "/response/p99"),
    ("response_max_ns", "/response/max"),
    ("service_p50_ns", "/service/p50"),
    ("service_p99_ns", "/service/p99"),
    ("service_max_ns", "/service/max"),
    ("tcp_rtt_us_mean", "/tcp/rtt_us_mean"),
    ("tcp_rtt_us_max", "/tcp/rtt_us_max"),
    ("tcp_cwnd_mean", "/tcp/cwnd_mean"),
    ("tcp_retransmits", "/tcp/retransmits"),
    ("background_received_bytes", "/background_received_bytes"),
];

/// All columns.
pub(super) fn columns() -> Vec<(&'static str, &'static str)> {
    [&TIMES, IntervalCounts::KEYS, &OTHERS].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::report::document::Records;
    use crate::result::{IntervalLatency, IntervalResult, TcpInterval};

    fn interval() -> IntervalResult {
        IntervalResult {
            start_s: 0.5,
            end_s: 1.0,
            counts: IntervalCounts {
                sent: 3,
                received: 4,
                lost: 5,
                timed_out: 6,
                abandoned: 24,
                duplicated: 7,
                reordered: 8,
            },
            sent_bytes: 9,
            received_bytes: 10,
            opened: 11,
            failed: 12,
            response: Some(IntervalLatency {
                p50: Some(13),
                p99: Some(14),
                max: 15,
                histogram: None,
            }),
            service: Some(IntervalLatency {
                p50: Some(16),
                p99: Some(17),
                max: 18,
                histogram: None,
            }),
            tcp: Some(TcpInterval {
                rtt_us_mean: 19.5,
                rtt_us_max: 20,
                cwnd_mean: 21.5,
                retransmits: 22,
            }),
            background_received_bytes: Some(23),
        }
    }

    /// The expected columns: the JSON keys, nested ones joined.
    fn flat(prefix: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(parts) => {
                for (key, part) in parts {
                    let name = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}_{key}")
                    };
                    flat(&name, part, fields);
                }
            }
            figure => {
                let is_latency = prefix.starts_with("response_") || prefix.starts_with("service_");
                let unit = if is_latency { "_ns" } else { "" };
                let text = figure.to_string().trim_end_matches(".0").to_owned();
                fields.insert(format!("{prefix}{unit}"), text);
            }
        }
    }

    #[test]
    fn the_columns_are_the_keys_of_the_result() {
        let mut wanted = BTreeMap::new();
        flat("", &serde_json::to_value(interval()).unwrap(), &mut wanted);
        let records = Records::of(&columns(), &[interval()]);
        let names = records.head.iter().map(|&name| name.to_owned());
        let found: BTreeMap<String, String> = names.zip(records.rows[0].iter().cloned()).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_null_is_empty() {
        let mut gap = interval();
        gap.response = Some(IntervalLatency {
            p50: None,
            p99: None,
            max: 1,
            histogram: None,
        });
        gap.service = None;
        gap.tcp = None;
        gap.background_received_bytes = None;
        let fields = Records::of(&columns(), &[gap]).rows.remove(0);
        assert_eq!(
            fields.join(","),
            "0.5,1,3,4,5,6,24,7,8,9,10,11,12,,,1,,,,,,,,"
        );
    }
}
