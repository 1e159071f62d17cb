//! Fairness between the connections of a run.

use std::collections::BTreeMap;

use echomark::net::endpoint::Endpoint;

use crate::analysis::statistics::fairness::jain_index_between;
use crate::engine::task::FlowReport;
use crate::plan::{Plan, Workload};
use crate::result::statistics::Fairness;
use crate::result::{ConnectionShare, FairnessBasis, FairnessResult, Group, Groups};

/// Number of connections listed as the slowest, and as the fastest.
const NAMED: usize = 10;
/// With fewer messages per connection, the differences are mostly chance.
const MIN_MESSAGES: u64 = 10;
/// Resolution of shares: speeds are far below one per nanosecond.
const SPEED_UNIT: f64 = 1e12;

/// A flow and the number of its thread.
type Member = (usize, FlowReport);

/// Compares the connections of a run; `None` if there is nothing to compare.
pub(crate) fn of(flows: &[Member], targets: &[Endpoint], plan: &Plan) -> Option<FairnessResult> {
    let messages: u64 = flows.iter().map(|(_, flow)| flow.share.messages).sum();
    let is_comparable = !plan.has_connection_per_message() && plan.workload != Workload::Idle;
    if !is_comparable || flows.len() < 2 || messages < MIN_MESSAGES * flows.len() as u64 {
        return None;
    }
    let basis = if plan.is_open_loop() && flows.iter().all(|(_, f)| f.share.response_ns > 0) {
        FairnessBasis::Speed
    } else {
        FairnessBasis::Messages
    };
    let shares: Vec<u64> = flows.iter().map(|(_, flow)| share(flow, basis)).collect();
    let mut order: Vec<usize> = (0..flows.len()).collect();
    order.sort_by_key(|&index| (shares[index], flows[index].1.number));
    let named = |&index: &usize| named(&flows[index].1);
    Some(FairnessResult {
        basis,
        index: Fairness::of(&shares)?,
        slowest: order.iter().take(NAMED).map(named).collect(),
        fastest: order.iter().rev().take(NAMED).map(named).collect(),
        by_target: groups(
            &shares,
            flows,
            |(_, flow)| Some(flow.target),
            |target| {
                targets
                    .get(target)
                    .map_or_else(String::new, ToString::to_string)
            },
        ),
        by_thread: groups(
            &shares,
            flows,
            |(thread, _)| Some(*thread),
            |thread| thread.to_string(),
        ),
        by_incoming_cpu: groups(
            &shares,
            flows,
            |(_, flow)| flow.incoming_cpu,
            |cpu| cpu.to_string(),
        ),
    })
}

/// A flow's share. Larger is better.
fn share(flow: &FlowReport, basis: FairnessBasis) -> u64 {
    let share = &flow.share;
    match basis {
        FairnessBasis::Messages => share.messages,
        FairnessBasis::Speed => {
            (share.messages as f64 / share.response_ns as f64 * SPEED_UNIT) as u64
        }
    }
}

fn named(flow: &FlowReport) -> ConnectionShare {
    ConnectionShare {
        connection: flow.number,
        local_port: flow.local_port,
        messages: flow.share.messages,
        response_ns_mean: mean(flow.share.response_ns, flow.share.messages),
    }
}

/// `None` if nothing was added.
fn mean(sum: u64, count: u64) -> Option<f64> {
    (sum > 0 && count > 0).then(|| sum as f64 / count as f64)
}

/// `None` with fewer than two groups, or if a flow's group is unknown.
fn groups(
    shares: &[u64],
    flows: &[Member],
    key: impl Fn(&Member) -> Option<usize>,
    name: impl Fn(usize) -> String,
) -> Option<Groups> {
    #[derive(Default)]
    struct Sum {
        connections: usize,
        messages: u64,
        response_ns: u64,
    }
    let keys: Vec<usize> = flows.iter().map(key).collect::<Option<_>>()?;
    let mut sums: BTreeMap<usize, Sum> = BTreeMap::new();
    for (&key, (_, flow)) in keys.iter().zip(flows) {
        let sum = sums.entry(key).or_default();
        sum.connections += 1;
        sum.messages += flow.share.messages;
        sum.response_ns += flow.share.response_ns;
    }
    if sums.len() < 2 {
        return None;
    }
    Some(Groups {
        jain: jain_index_between(shares, &keys)?,
        groups: sums
            .into_iter()
            .map(|(key, sum)| Group {
                name: name(key),
                connections: sum.connections,
                messages_mean: sum.messages as f64 / sum.connections as f64,
                response_ns_mean: mean(sum.response_ns, sum.messages),
            })
            .collect(),
    })
}
