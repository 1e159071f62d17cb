//! Final TCP_INFO of connections: when each ends, or at the end of the run. Connections open at the
//! end are sampled after the measurement, so that sampling does not disturb it.

use super::thread::Worker;
use crate::engine::connection::Unserved;
use crate::engine::sys::TcpInfo;
use crate::engine::task::FlowReport;
use crate::engine::tcp::TcpTotals;
use crate::engine::workload::Flow;

impl<F: Flow> Worker<F> {
    /// The results of every flow, and the TCP totals over all connections.
    pub(super) fn final_reports(&mut self) -> (Vec<FlowReport>, TcpTotals) {
        let flows = (0..self.flows.len())
            .map(|key| {
                let tcp = self.ask_tcp(key);
                let flow = &self.flows[key];
                let connection = flow.connection();
                FlowReport {
                    number: connection.id.number,
                    target: connection.id.target,
                    share: flow.share(),
                    is_open: connection.is_open(),
                    unserved: unserved(flow),
                    local_port: connection.local_port(),
                    incoming_cpu: connection.incoming_cpu(),
                    tcp: tcp.map(Box::new),
                }
            })
            .collect();
        (flows, self.tcp_totals)
    }

    /// Reads the TCP_INFO of a connection and adds it to the totals.
    pub(super) fn ask_tcp(&mut self, key: usize) -> Option<TcpInfo> {
        let connection = self.flows[key].connection();
        let info = connection.tcp_info()?;
        let lifetime_us = self.context.now().saturating_sub(connection.opened_at) / 1000;
        self.tcp_totals.add(&info, lifetime_us);
        Some(info)
    }
}

/// Connections that failed, or ended without an answer, one after the other, after which a flow has
/// lost its server.
const MIN_BARREN: u32 = 2;

/// Why the server did not serve a flow, or does no more; `None` if it does, or had nothing to do.
fn unserved<F: Flow>(flow: &F) -> Option<Unserved> {
    let connection = flow.connection();
    let is_lost = !connection.is_open() && connection.barren >= MIN_BARREN;
    let is_unserved = !flow.is_served() && flow.had_demand();
    (is_lost || is_unserved).then(|| connection.unserved())
}
