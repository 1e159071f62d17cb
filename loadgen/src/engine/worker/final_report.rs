//! What TCP says of connections at their end, and of those that still stand at the end of the run: asked
//! after the measurement, so that it disturbs nothing.

use super::thread::Worker;
use crate::engine::sys::TcpInfo;
use crate::engine::task::FlowReport;
use crate::engine::tcp::TcpTotals;
use crate::engine::workload::Flow;

impl<F: Flow> Worker<F> {
    /// What every flow had, and the sums over all connections that ended or stand.
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
                    local_port: connection.local_port(),
                    incoming_cpu: connection.incoming_cpu(),
                    tcp: tcp.map(Box::new),
                }
            })
            .collect();
        (flows, self.tcp_totals)
    }

    /// Asks TCP of a connection, and adds the answer to the totals.
    pub(super) fn ask_tcp(&mut self, key: usize) -> Option<TcpInfo> {
        let connection = self.flows[key].connection();
        let info = connection.tcp_info()?;
        let lifetime_us = self.context.now().saturating_sub(connection.opened_at) / 1000;
        self.tcp_totals.add(&info, lifetime_us);
        Some(info)
    }
}
