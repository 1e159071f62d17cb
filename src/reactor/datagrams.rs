//! The worker's UDP sockets: they share the memory for a batch and take turns.

use mio::{Registry, Token};

use super::token::{Fixed, Source};
use super::{Kernel, Reactor};
use crate::net::datagram::Batch;
use crate::net::readiness::Readiness;
use crate::service::Service;
use crate::udp::{Datagrams, Guard, Next};

/// A UDP socket for a worker.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    /// Which of the server's endpoints it is one of.
    pub(crate) endpoint: usize,
    pub(crate) service: Service,
    pub(crate) socket: std::net::UdpSocket,
}

/// The UDP sockets of a worker, with what they share.
#[derive(Debug)]
pub(super) struct DatagramSide {
    sockets: Vec<Served>,
    batch: Batch,
    guard: Guard,
    registry: Registry,
}

#[derive(Debug)]
struct Served {
    endpoint: usize,
    /// `None` once it was closed.
    datagrams: Option<Datagrams>,
    /// Whether it yielded with more to receive.
    more: bool,
    /// Whether the kernel had no memory for it.
    short_of_memory: bool,
}

impl DatagramSide {
    /// Registers the sockets, unless there are none.
    pub(super) fn new(
        sockets: Vec<DatagramSocket>,
        guard: Guard,
        fixed: Fixed,
        registry: &Registry,
    ) -> std::io::Result<Option<Self>> {
        if sockets.is_empty() {
            return Ok(None);
        }
        let mut served = Vec::with_capacity(sockets.len());
        for (index, it) in sockets.into_iter().enumerate() {
            let token: Token = Source::Datagrams(index).token(fixed);
            let mut datagrams = Datagrams::new(it.socket, it.service, token);
            datagrams.register(registry)?;
            served.push(Served {
                endpoint: it.endpoint,
                datagrams: Some(datagrams),
                // An inherited socket may have received something before.
                more: true,
                short_of_memory: false,
            });
        }
        Ok(Some(Self {
            sockets: served,
            batch: Batch::new(),
            guard,
            registry: registry.try_clone()?,
        }))
    }
}

impl<K: Kernel> Reactor<K> {
    /// Tells a UDP socket what the kernel reported, and serves it.
    pub(super) fn note_datagrams(&mut self, index: usize, readiness: Readiness) {
        if let Some(side) = &mut self.datagrams
            && let Some(datagrams) = &mut side.sockets[index].datagrams
        {
            datagrams.note(readiness);
            self.pump_datagrams(index);
        }
    }

    /// Whether a UDP socket has more to receive without an event.
    pub(super) fn has_more_datagrams(&self) -> bool {
        let side = self.datagrams.as_ref();
        side.is_some_and(|side| side.sockets.iter().any(|it| it.more))
    }

    /// Gives every UDP socket that yielded another turn.
    pub(super) fn resume_datagrams(&mut self) {
        let sockets = self.datagrams.as_ref().map_or(0, |it| it.sockets.len());
        for index in 0..sockets {
            if self
                .datagrams
                .as_ref()
                .is_some_and(|it| it.sockets[index].more)
            {
                self.pump_datagrams(index);
            }
        }
    }

    fn pump_datagrams(&mut self, index: usize) {
        let Self {
            datagrams: Some(side),
            clock,
            kernel,
            control,
            rules,
            metrics,
            ..
        } = self
        else {
            return;
        };
        let served = &mut side.sockets[index];
        let Some(datagrams) = &mut served.datagrams else {
            return;
        };
        let next = datagrams.pump(
            &mut side.batch,
            &side.registry,
            &side.guard,
            |source, count| {
                control.admission.udp_allowance(
                    &rules.policy,
                    source,
                    || clock.now_ns(kernel),
                    count,
                )
            },
            metrics,
        );
        served.more = next == Next::Yield;
        served.short_of_memory = next == Next::Retry;
        if served.short_of_memory {
            self.retry_later();
        }
    }

    /// Gives every UDP socket for which there was no memory another turn.
    pub(super) fn retry_datagrams(&mut self) {
        let sockets = self.datagrams.iter_mut().flat_map(|it| &mut it.sockets);
        for served in sockets {
            served.more |= std::mem::take(&mut served.short_of_memory);
        }
    }

    /// Answers what is waiting, within one budget for each socket, and closes all.
    pub(super) fn close_datagrams(&mut self) {
        let sockets = self.datagrams.as_ref().map_or(0, |it| it.sockets.len());
        for index in 0..sockets {
            self.note_datagrams(index, Readiness::READABLE);
        }
        self.end_datagrams(|_| true);
    }

    /// Lets go of the sockets of the endpoints that a successor goes on with.
    pub(super) fn release_datagrams(&mut self) {
        let control = std::sync::Arc::clone(&self.control);
        self.end_datagrams(|endpoint| control.is_left(endpoint));
    }

    fn end_datagrams(&mut self, is_meant: impl Fn(usize) -> bool) {
        let Some(side) = &mut self.datagrams else {
            return;
        };
        for served in &mut side.sockets {
            if is_meant(served.endpoint)
                && let Some(datagrams) = served.datagrams.take()
            {
                served.more = false;
                served.short_of_memory = false;
                datagrams.close(&side.registry, &self.metrics);
            }
        }
    }
}
