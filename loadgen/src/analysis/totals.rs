//! The parts of results that add up, however results are combined: counts, histograms, and the reasons
//! of verdicts.

use std::ops::AddAssign;

use crate::analysis::{backends, tls};
use crate::result::{Bytes, Latencies, RunResult, TlsResult};

/// Adds to `sum` what adds up of `next`, and takes it from there.
pub(crate) fn add(sum: &mut RunResult, next: &mut RunResult) {
    sum.interrupted |= next.interrupted;
    sum.messages += next.messages;
    sum.bytes += std::mem::take(&mut next.bytes);
    sum.connections += next.connections;
    add_latencies(&mut sum.latency_ns, std::mem::take(&mut next.latency_ns));
    let (client, other) = (&mut sum.client, &mut next.client);
    add_latency(&mut client.own_send_lag, other.own_send_lag.take());
    add_latency(&mut client.hiccup, other.hiccup.take());
    client.first_corruption = client.first_corruption.or(other.first_corruption);
    client.scheduling = client
        .scheduling
        .zip(other.scheduling)
        .map(|(one, other)| one.least(other));
    add_tls(&mut sum.tls, next.tls.take());
    backends::add(&mut sum.backends, std::mem::take(&mut next.backends));
    sum.expected_shares = backends::check(&sum.backends, &sum.plan.opening.expected_shares);
    sum.verdict.union(&mut next.verdict);
}

/// Adds all but the rate.
fn add_tls(sum: &mut Option<TlsResult>, next: Option<TlsResult>) {
    match (sum.as_mut(), next) {
        (Some(sum), Some(next)) => {
            tls::add(sum, &next);
            let handshakes = &mut sum.handshake_ns;
            add_latency(&mut handshakes.full, next.handshake_ns.full);
            add_latency(&mut handshakes.resumed, next.handshake_ns.resumed);
        }
        (None, next) => *sum = next,
        (Some(_), None) => {}
    }
}

fn add_latencies(sum: &mut Latencies, next: Latencies) {
    add_latency(&mut sum.response, next.response);
    add_latency(&mut sum.service, next.service);
    add_latency(&mut sum.connect, next.connect);
    add_latency(&mut sum.handshake, next.handshake);
    add_latency(&mut sum.send_lag, next.send_lag);
    add_latency(&mut sum.first_byte, next.first_byte);
    add_latency(&mut sum.close, next.close);
}

/// Adds a distribution that may be absent.
pub(crate) fn add_latency<T: for<'a> AddAssign<&'a T>>(sum: &mut Option<T>, next: Option<T>) {
    match (sum.as_mut(), next) {
        (Some(sum), Some(next)) => *sum += &next,
        (None, next) => *sum = next,
        (Some(_), None) => {}
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, next: Self) {
        self.sent += next.sent;
        self.received += next.received;
    }
}
