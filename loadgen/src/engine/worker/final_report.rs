//! What is asked of connections at their end, and of those that still stand at the end of the run:
//! after the measurement, so that it disturbs nothing.

use super::Worker;
use crate::engine::sys::TcpInfo;
use crate::engine::tcp::TcpTotals;
use crate::engine::workload::{Connects, Flow, FlowShare};

/// What one flow had of the run.
#[derive(Clone, Debug)]
pub(crate) struct FlowReport {
    /// Its number in the whole run.
    pub(crate) number: usize,
    pub(crate) target: usize,
    pub(crate) share: FlowShare,
    /// Whether a connection stood at the end.
    pub(crate) is_open: bool,
    /// Of that connection: the client's port,
    pub(crate) local_port: Option<u16>,
    /// the CPU on which the kernel last took in what came on it (SO_INCOMING_CPU, socket(7)),
    pub(crate) incoming_cpu: Option<usize>,
    /// and what TCP says of it.
    pub(crate) tcp: Option<Box<TcpInfo>>,
}

impl<F: Flow> Worker<F> {
    /// Asks TCP of a connection that ends. Of those that are made for one message each it would be
    /// a system call for each message.
    pub(super) fn note_final_report(&mut self, key: usize) {
        if self.connects != Connects::PerMessage {
            self.ask(key);
        }
    }

    /// What every flow had, and the sums over all connections that ended or stand.
    pub(super) fn take_final_reports(&mut self) -> (Vec<FlowReport>, TcpTotals) {
        let flows = (0..self.flows.len())
            .map(|key| {
                let tcp = self.ask(key);
                let flow = &self.flows[key];
                let connection = flow.connection();
                FlowReport {
                    number: connection.id.number,
                    target: connection.id.target,
                    share: flow.share(),
                    is_open: connection.is_open(),
                    local_port: connection.local_port(),
                    incoming_cpu: connection
                        .socket()
                        .and_then(|socket| socket2::SockRef::from(&socket).cpu_affinity().ok()),
                    tcp: tcp.map(Box::new),
                }
            })
            .collect();
        (flows, self.tcp_totals)
    }

    fn ask(&mut self, key: usize) -> Option<TcpInfo> {
        let connection = self.flows[key].connection();
        let info = connection.tcp_info()?;
        let lifetime_us = self.meter.now().saturating_sub(connection.opened_at) / 1000;
        self.tcp_totals.add(&info, lifetime_us);
        Some(info)
    }
}
