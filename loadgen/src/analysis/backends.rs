//! The servers behind the targets: their shares of the connections, and whether these are as expected.

use crate::analysis::statistics::binomial;
use crate::engine::backends::BackendReport;
use crate::plan::ExpectedShare;
use crate::result::{BackendResult, Latency, ShareResult, SharesResult};

/// The probability with which expectations that are true are refused, at most.
const LEVEL: f64 = 0.05;

/// The servers by their names, from the threads' reports.
pub(crate) fn summarize(reports: Vec<BackendReport>) -> Vec<BackendResult> {
    let mut all = Vec::new();
    let results = reports.into_iter().map(|report| BackendResult {
        id: report.id.into(),
        connections: report.connections,
        messages: report.messages,
        share: 0.0,
        response: Latency::new(report.response),
    });
    add(&mut all, results.collect());
    all
}

/// Adds what other threads, or other runs, know of servers.
pub(crate) fn add(sum: &mut Vec<BackendResult>, others: Vec<BackendResult>) {
    for other in others {
        match sum.iter_mut().find(|it| it.id == other.id) {
            Some(one) => {
                one.connections += other.connections;
                one.messages += other.messages;
                match (&mut one.response, other.response) {
                    (Some(sum), Some(next)) => *sum += &next,
                    (sum, next) => *sum = sum.take().or(next),
                }
            }
            None => sum.push(other),
        }
    }
    sum.sort_by(|a, b| a.id.cmp(&b.id));
    let total: u64 = sum.iter().map(|it| it.connections).sum();
    for backend in sum {
        backend.share = backend.connections as f64 / total.max(1) as f64;
    }
}

/// Whether the shares are as expected; `None` if nothing is. Each is tested exactly, and more strictly
/// the more there are (Bonferroni), so that all together are wrongly refused with 5 % at most.
pub(crate) fn check(
    backends: &[BackendResult],
    expected: &[ExpectedShare],
) -> Option<SharesResult> {
    if expected.is_empty() {
        return None;
    }
    let total: u64 = backends.iter().map(|it| it.connections).sum();
    let of = |id: &str| backends.iter().find(|it| it.id == id);
    let mut shares: Vec<_> = expected
        .iter()
        .map(|it| {
            let connections = of(&it.id).map_or(0, |it| it.connections);
            share(Some(it.id.clone()), it.share, connections, total)
        })
        .collect();
    let named: u64 = shares.iter().map(|it| it.connections).sum();
    let rest = 1.0 - expected.iter().map(|it| it.share).sum::<f64>();
    // What percentages of three digits lack by rounding is nothing.
    let rest = if rest < 1e-9 { 0.0 } else { rest };
    // A share of what the others have is tested with theirs, unless there are none to have it.
    if named < total || rest > 0.0 {
        shares.push(share(None, rest, total - named, total));
    }
    let limit = LEVEL / shares.len() as f64;
    let is_met = total > 0 && shares.iter().all(|it| it.p >= limit);
    Some(SharesResult {
        text: text(&shares, total, limit, is_met),
        expected: shares,
        is_met,
    })
}

fn share(id: Option<String>, expected: f64, connections: u64, total: u64) -> ShareResult {
    ShareResult {
        id,
        expected,
        connections,
        p: binomial::two_sided(connections, total, expected),
    }
}

fn text(shares: &[ShareResult], total: u64, limit: f64, is_met: bool) -> String {
    if total == 0 {
        return "no connection was greeted, so nothing is known of the shares".to_owned();
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    if is_met {
        let list: Vec<_> = shares.iter().map(|it| percent(it.expected)).collect();
        return format!(
            "the shares of {total} connections are as expected: {} can give them by chance (95 %)",
            list.join(" and ")
        );
    }
    let refused = shares.iter().filter(|it| it.p < limit).map(|it| {
        let name = it.id.as_deref().unwrap_or("other servers");
        format!(
            "{name} got {} of {total} connections, {}, and not {}",
            it.connections,
            percent(it.connections as f64 / total as f64),
            percent(it.expected)
        )
    });
    format!(
        "the shares are not as expected: {} (95 %)",
        refused.collect::<Vec<_>>().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(counts: &[(&str, u64)]) -> Vec<BackendResult> {
        let mut all = Vec::new();
        for &(id, connections) in counts {
            let one = BackendResult {
                id: id.to_owned(),
                connections,
                messages: 0,
                share: 0.0,
                response: None,
            };
            add(&mut all, vec![one]);
        }
        all
    }

    fn checked(counts: &[(&str, u64)], expected: &[&str]) -> SharesResult {
        let expected: Vec<_> = expected.iter().map(|it| it.parse().unwrap()).collect();
        check(&backends(counts), &expected).unwrap()
    }

    #[test]
    fn shares_add_up() {
        let all = backends(&[("b", 30), ("a", 60), ("b", 10)]);
        let shares: Vec<_> = all.iter().map(|it| (&*it.id, it.share)).collect();
        assert_eq!(shares, [("a", 0.6), ("b", 0.4)]);
    }

    #[test]
    fn what_chance_can_give_is_met_and_what_it_cannot_is_refused() {
        assert!(checked(&[("a", 3500), ("b", 1500)], &["a=70%", "b=30%"]).is_met);
        // Two standard deviations are 65.
        assert!(checked(&[("a", 3550), ("b", 1450)], &["a=70%", "b=30%"]).is_met);
        let refused = checked(&[("a", 3500), ("b", 1500)], &["a=50%", "b=50%"]);
        assert!(!refused.is_met);
        assert!(
            refused
                .text
                .contains("a got 3500 of 5000 connections, 70.0 %, and not 50.0 %"),
            "{}",
            refused.text
        );
    }

    #[test]
    fn servers_that_nobody_expects_are_refused() {
        assert!(!checked(&[("a", 999), ("stranger", 1)], &["a=100%"]).is_met);
        assert!(checked(&[("a", 500), ("others", 260), ("more", 240)], &["a=50%"]).is_met);
        assert!(!checked(&[("a", 500)], &["a=50%"]).is_met);
        assert!(!checked(&[("a", 500)], &["a=50%", "missing=50%"]).is_met);
        assert!(!checked(&[], &["a=100%"]).is_met);
    }
}
