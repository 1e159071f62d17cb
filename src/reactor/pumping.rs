//! Pumping a connection of an endpoint with or without faults.

use std::sync::Arc;

use super::context::Context;
use super::kernel::{Kernel, KernelTime};
use crate::conn::faulty::{Faulty, Means};
use crate::conn::scratch::Scratch;
use crate::conn::{Conn, Next};
use crate::faults::Faults;
use crate::memory::Budget;
use crate::metrics::WorkerMetrics;
use crate::net::stream::Stream;

/// What pumping a connection takes, with or without faults.
pub(super) struct Pumping<'a, K> {
    budget: &'a Budget,
    metrics: &'a WorkerMetrics,
    kernel: &'a mut K,
    faults: Option<Arc<Faults>>,
    last_stall: Option<&'a mut Option<u64>>,
}

impl<'a, K: Kernel> Pumping<'a, K> {
    /// For a connection with or without faults.
    pub(super) fn new(faulty: Option<&Faulty>, cx: &'a mut Context<K>) -> Self {
        let endpoint = faulty.map(|it| it.endpoint);
        Self {
            budget: &cx.control.backlog_memory,
            metrics: &cx.metrics,
            kernel: &mut cx.kernel,
            // A reload may have taken the faults of its endpoint away.
            faults: endpoint.map(|it| cx.rules.faults_of(it).cloned().unwrap_or_default()),
            last_stall: endpoint.and_then(|it| cx.last_stalls.get_mut(it)),
        }
    }

    /// Pumps it.
    pub(super) fn pump<S: Stream>(
        &mut self,
        conn: &mut Conn<S>,
        faulty: Option<&mut Faulty>,
        scratch: &mut Scratch<S::Pipe>,
    ) -> Next {
        match (faulty, &self.faults, &mut self.last_stall) {
            (Some(faulty), Some(faults), Some(last_stall)) => conn.pump_faulty(
                faulty,
                &mut Means {
                    faults,
                    time: KernelTime(self.kernel),
                    last_stall,
                    budget: self.budget,
                    scratch,
                    metrics: self.metrics,
                },
            ),
            _ => conn.pump(scratch, self.metrics),
        }
    }
}
