//! The worker's UDP sockets, which share one batch in turn.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::warn;

use super::alarms::AlarmOf;
use super::context::Context;
use super::control::Origin;
use super::kernel::Kernel;
use crate::memory::Budget;
use crate::metrics::DropReason;
use crate::net::datagram::Batch;
use crate::net::readiness::Readiness;
use crate::service::Service;
use crate::service::whoami::Whoami;
use crate::udp::{DatagramSocket, Datagrams, FaultyDatagrams, Guard, Next};

mod faulty;

/// How often a worker logs that it drops datagrams beyond the rate of a source.
const LOG_INTERVAL_NS: u64 = 60_000_000_000;

/// The UDP sockets of a worker, with their shared batch and guard.
#[derive(Debug)]
pub(super) struct DatagramTable<D> {
    sockets: Vec<Served<D>>,
    batch: Batch,
    guard: Guard,
    /// When a dropped datagram is logged again.
    next_log_ns: Option<u64>,
}

/// A UDP socket for a worker to serve.
#[derive(Debug)]
pub(crate) struct UdpEndpoint<D> {
    /// The index of its endpoint in the server.
    pub(crate) endpoint: usize,
    pub(crate) service: Service,
    pub(crate) socket: D,
}

#[derive(Debug)]
struct Served<D> {
    endpoint: usize,
    /// `None` once closed.
    datagrams: Option<Datagrams<D>>,
    /// `None` without faults.
    faulty: Option<Box<FaultyDatagrams>>,
    /// Whether it yielded with more to receive.
    has_more: bool,
    /// Whether the kernel had no memory for it.
    short_of_memory: bool,
}

impl<D: DatagramSocket> DatagramTable<D> {
    /// `None` without sockets: then no batch is allocated.
    pub(super) fn new(
        endpoints: Vec<UdpEndpoint<D>>,
        guard: Guard,
        memory: &Arc<Budget>,
        whoami: (&Arc<Whoami>, usize),
    ) -> Option<Self> {
        if endpoints.is_empty() {
            return None;
        }
        let sockets = endpoints.into_iter().map(|it| Served {
            endpoint: it.endpoint,
            datagrams: Some(served(it.socket, it.service, memory, whoami)),
            faulty: None,
            has_more: true,
            short_of_memory: false,
        });
        Some(Self {
            sockets: sockets.collect(),
            batch: Batch::new(),
            guard,
            next_log_ns: None,
        })
    }

    /// Whether a socket has more to receive without an event.
    pub(super) fn has_more(&self) -> bool {
        self.sockets.iter().any(|it| it.has_more)
    }

    /// Adds the kernel's report to a socket and serves it.
    pub(super) fn serve<K: Kernel>(
        &mut self,
        index: usize,
        readiness: Readiness,
        cx: &mut Context<K>,
    ) {
        if let Some(datagrams) = &mut self.sockets[index].datagrams {
            datagrams.note(readiness);
            self.pump(index, cx);
        }
    }

    /// Gives every socket that yielded another turn.
    pub(super) fn resume_yielded<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for index in 0..self.sockets.len() {
            if self.sockets[index].has_more {
                self.pump(index, cx);
            }
        }
    }

    fn pump<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) {
        let served = &mut self.sockets[index];
        if served.faulty.is_some() {
            self.pump_faulty(index, cx);
            return;
        }
        let Some(datagrams) = &mut served.datagrams else {
            return;
        };
        let Context {
            index: worker,
            clock,
            kernel,
            control,
            rules,
            metrics,
            ..
        } = cx;
        let before = metrics.udp_received_datagrams.value();
        let mut limited = None;
        let next = datagrams.pump(
            &mut self.batch,
            &self.guard,
            |source, count| {
                let now_ns = || clock.now_ns(kernel);
                let admission = &control.admission;
                let allowance = admission.udp_allowance(&rules.policy, source, now_ns, count);
                if allowance.over_source_rate > 0 {
                    limited = Some(source);
                }
                allowance
            },
            metrics,
        );
        let received = metrics.udp_received_datagrams.value().wrapping_sub(before);
        control.arrivals(*worker, served.endpoint).add(received);
        self.follow(index, next, cx);
        if let Some(source) = limited {
            self.log_limited(source, cx);
        }
    }

    /// Does what a socket needs after it was pumped.
    #[inline]
    fn follow<K: Kernel>(&mut self, index: usize, next: Next, cx: &mut Context<K>) {
        let served = &mut self.sockets[index];
        served.has_more = next == Next::Yield;
        served.short_of_memory = next == Next::Retry;
        if served.short_of_memory {
            cx.retry_soon();
        }
    }

    /// Logs that a source is beyond its rate, once in a while: the metric counts each datagram.
    #[cold]
    fn log_limited<K: Kernel>(&mut self, source: IpAddr, cx: &mut Context<K>) {
        let now_ns = cx.now_ns();
        if self.next_log_ns.is_some_and(|next| now_ns < next) {
            return;
        }
        self.next_log_ns = Some(now_ns.saturating_add(LOG_INTERVAL_NS));
        let dropped = cx.metrics.udp_dropped(DropReason::RatePerSource).value();
        warn!(
            worker = cx.index,
            %source,
            dropped,
            "drops datagrams beyond --udp-rate-per-source: another echo server or a benchmark sends \
             them; for a benchmark set it to off"
        );
    }

    /// Marks the sockets for which there was no memory as ready to run.
    pub(super) fn retry_short_of_memory(&mut self) {
        for served in &mut self.sockets {
            served.has_more |= std::mem::take(&mut served.short_of_memory);
        }
    }

    /// Releases the sockets that another server keeps. One that holds answers back receives no more and
    /// is released when they have left.
    pub(super) fn release_left<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for index in 0..self.sockets.len() {
            let endpoint = self.sockets[index].endpoint;
            if cx.control.is_left(endpoint, Origin::Endpoint) && !self.end_faulty(index, cx) {
                self.close_one(index, cx);
            }
        }
    }

    /// Answers waiting datagrams, within one budget for each socket, and closes all sockets.
    pub(super) fn close_all<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for index in 0..self.sockets.len() {
            self.serve(index, Readiness::READABLE, cx);
            self.close_one(index, cx);
        }
    }

    fn close_one<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) {
        let served = &mut self.sockets[index];
        let Some(datagrams) = served.datagrams.take() else {
            return;
        };
        served.has_more = false;
        served.short_of_memory = false;
        if let Some(mut faulty) = served.faulty.take() {
            faulty.clear(&cx.control.backlog_memory, &cx.metrics);
            cx.set_alarm(AlarmOf::Datagrams(index), None);
        }
        datagrams.close(&cx.metrics);
    }
}

fn served<D: DatagramSocket>(
    socket: D,
    service: Service,
    memory: &Arc<Budget>,
    (whoami, worker): (&Arc<Whoami>, usize),
) -> Datagrams<D> {
    let datagrams = Datagrams::new(socket, service, Arc::clone(memory));
    match service {
        Service::Whoami => datagrams.telling(whoami, worker),
        Service::Echo | Service::Discard | Service::Chargen => datagrams,
    }
}

#[cfg(test)]
impl<D: DatagramSocket> DatagramTable<D> {
    /// The open sockets, for the checks of the simulation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Datagrams<D>> {
        self.sockets.iter().filter_map(|it| it.datagrams.as_ref())
    }
}
