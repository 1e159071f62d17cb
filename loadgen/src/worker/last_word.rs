//! What is asked of connections at their end, and of those that still stand at the end of the run:
//! after the measurement, so that it disturbs nothing.

use echomark::net::sys::TcpInfo;

use super::Worker;
use crate::tcp::TcpTotals;
use crate::workload::{Connects, Flow, FlowShare};

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
    pub(super) fn note_last_word(&mut self, key: usize) {
        if self.connects != Connects::PerMessage {
            self.ask(key);
        }
    }

    /// What every flow had, and the sums over all connections that ended or stand.
    pub(super) fn take_last_words(&mut self) -> (Vec<FlowReport>, TcpTotals) {
        let flows = (0..self.flows.len())
            .map(|key| {
                let tcp = self.ask(key);
                let flow = &self.flows[key];
                let link = flow.link();
                FlowReport {
                    number: link.seat.number,
                    target: link.seat.target,
                    share: flow.share(),
                    is_open: link.is_open(),
                    local_port: link.local_port(),
                    incoming_cpu: link
                        .socket()
                        .and_then(|socket| socket2::SockRef::from(&socket).cpu_affinity().ok()),
                    tcp: tcp.map(Box::new),
                }
            })
            .collect();
        (flows, self.tcp_totals)
    }

    fn ask(&mut self, key: usize) -> Option<TcpInfo> {
        let link = self.flows[key].link();
        let info = link.tcp_info()?;
        let lifetime_us = self.meter.now().saturating_sub(link.opened_at) / 1000;
        self.tcp_totals.add(&info, lifetime_us);
        Some(info)
    }
}
