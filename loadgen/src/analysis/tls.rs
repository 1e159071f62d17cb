//! TLS on the connections of a run.

use std::collections::BTreeSet;

use echomark::tls::Agreed;

use crate::analysis::aggregate::Aggregate;
use crate::result::{Latency, RunResult, TlsHandshakes, TlsResult};

/// What separates several values of one field.
const SEPARATOR: &str = ", ";

/// What the handshakes of a run were; `None` if no target has TLS.
pub(crate) fn summarize(aggregate: &Aggregate) -> Option<TlsResult> {
    let counts = &aggregate.total.counts;
    let tried = counts.full_handshakes + counts.resumed_handshakes + counts.failed_handshakes;
    if tried == 0 {
        return None;
    }
    let total = &aggregate.total;
    let [version, cipher, group] = names(&aggregate.agreed);
    Some(TlsResult {
        version,
        cipher,
        group,
        alpn: None,
        full: counts.full_handshakes,
        resumed: counts.resumed_handshakes,
        failed: counts.failed_handshakes,
        truncated: counts.truncated,
        handshakes_per_s: None,
        handshake_ns: TlsHandshakes {
            full: Latency::new(total.full_handshake.clone()),
            resumed: Latency::new(total.resumed_handshake.clone()),
        },
    })
}

/// Version, cipher suite and group of the handshakes.
fn names(agreed: &[Agreed]) -> [Option<String>; 3] {
    let list =
        |name: &dyn Fn(&Agreed) -> Option<String>| listed(agreed.iter().filter_map(name).collect());
    [
        list(&|it| Some(it.version.to_string())),
        list(&|it| Some(it.cipher())),
        list(&Agreed::group),
    ]
}

fn listed(names: BTreeSet<String>) -> Option<String> {
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join(SEPARATOR))
}

/// Sets the rate of handshakes of a result that has its latencies and its length.
pub(crate) fn set_rate(result: &mut RunResult) {
    let Some(tls) = &mut result.tls else { return };
    let handshakes = result.latency_ns.handshake.as_ref();
    let is_known = result.plan.has_connection_per_message() && result.duration_s > 0.0;
    tls.handshakes_per_s =
        is_known.then(|| handshakes.map_or(0, Latency::count) as f64 / result.duration_s);
}

/// Adds what was negotiated and counted elsewhere.
pub(crate) fn add(sum: &mut TlsResult, next: &TlsResult) {
    for (sum, next) in [
        (&mut sum.version, &next.version),
        (&mut sum.cipher, &next.cipher),
        (&mut sum.group, &next.group),
        (&mut sum.alpn, &next.alpn),
    ] {
        let both = [sum.clone(), next.clone()];
        let names = both.iter().flatten().flat_map(|list| list.split(SEPARATOR));
        *sum = listed(names.map(str::to_owned).collect());
    }
    sum.full += next.full;
    sum.resumed += next.resumed;
    sum.failed += next.failed;
    sum.truncated += next.truncated;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(version: &str, group: Option<&str>, full: u64) -> TlsResult {
        TlsResult {
            version: Some(version.to_owned()),
            group: group.map(str::to_owned),
            full,
            truncated: 1,
            ..TlsResult::default()
        }
    }

    #[test]
    fn names_are_listed_once_and_counts_add() {
        let mut sum = result("1.3", None, 2);
        for next in [
            result("1.2", Some("x25519"), 3),
            result("1.2, 1.3", Some("secp256r1"), 5),
        ] {
            add(&mut sum, &next);
        }
        assert_eq!(sum.version.as_deref(), Some("1.2, 1.3"));
        assert_eq!(sum.group.as_deref(), Some("secp256r1, x25519"));
        assert_eq!(sum.cipher, None);
        assert_eq!((sum.full, sum.truncated), (10, 3));
    }
}
