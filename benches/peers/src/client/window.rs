//! The window over which everything is measured: operations, time, the processor time of both sides
//! and the latencies.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::load::{Length, Load, Outcome, failed};
use crate::process::{self, Memory, Usage};

/// Longer latencies count as this one; the client gives up before.
const MAX_LATENCY: Duration = Duration::from_secs(60);

/// What had been done and used at one moment.
#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    operations: u64,
    bytes: u64,
    server: Usage,
    client_cpu: Duration,
}

pub(super) struct Window {
    server: u32,
    length: Length,
    begun: Instant,
    issued: u64,
    opened: Option<Edge>,
    closed: Option<Edge>,
    memory: Memory,
    latency_ns: Histogram<u64>,
}

impl Window {
    /// A window that opens after the warm-up, or at once where operations are counted.
    pub(super) fn new(load: &Load) -> io::Result<Self> {
        let mut window = Self {
            server: load.server,
            length: load.length,
            begun: Instant::now(),
            issued: 0,
            opened: None,
            closed: None,
            memory: Memory::default(),
            latency_ns: Histogram::new_with_bounds(1, MAX_LATENCY.as_nanos() as u64, 3)
                .map_err(io::Error::other)?,
        };
        if matches!(load.length, Length::Count(_)) {
            window.open(0, 0)?;
        }
        Ok(window)
    }

    /// How many of `wanted` operations may be begun now.
    pub(super) fn admit(&mut self, wanted: usize) -> usize {
        let admitted = match self.length {
            _ if self.is_closed() => 0,
            Length::Window { .. } => wanted,
            Length::Count(count) => wanted.min((count - self.issued) as usize),
        };
        self.issued += admitted as u64;
        admitted
    }

    /// Opens and closes the window when it is time; called once in a turn of the client's loop.
    pub(super) fn turn(&mut self, now: Instant, operations: u64, bytes: u64) -> io::Result<()> {
        let is_due = match (self.length, &self.opened) {
            (Length::Window { warm_up, .. }, None) => now - self.begun >= warm_up,
            (Length::Window { window, .. }, Some(opened)) => now - opened.at >= window,
            (Length::Count(count), _) => operations >= count,
        };
        match &self.opened {
            None if is_due => self.open(operations, bytes),
            Some(_) if is_due => self.close(operations, bytes),
            _ => Ok(()),
        }
    }

    /// Opens the window now.
    pub(super) fn open(&mut self, operations: u64, bytes: u64) -> io::Result<()> {
        self.opened = Some(self.edge(operations, bytes)?);
        Ok(())
    }

    /// Closes the window now, unless it is closed.
    pub(super) fn close(&mut self, operations: u64, bytes: u64) -> io::Result<()> {
        if !self.is_closed() {
            self.closed = Some(self.edge(operations, bytes)?);
            self.memory = process::memory(self.server)?;
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Records a latency if the window is open.
    pub(super) fn record(&mut self, latency: Duration) {
        if self.opened.is_some() && !self.is_closed() {
            self.latency_ns.saturating_record(latency.as_nanos() as u64);
        }
    }

    pub(super) fn outcome(self) -> io::Result<Outcome> {
        let (Some(opened), Some(closed)) = (self.opened, self.closed) else {
            return Err(failed("the load ended before its window did"));
        };
        Ok(Outcome {
            operations: closed.operations - opened.operations,
            bytes: closed.bytes - opened.bytes,
            wall: closed.at - opened.at,
            server: closed.server.since(opened.server),
            client_cpu: closed.client_cpu - opened.client_cpu,
            latency_ns: self.latency_ns,
            memory: self.memory,
            memory_before: None,
        })
    }

    fn edge(&self, operations: u64, bytes: u64) -> io::Result<Edge> {
        let client = clock_gettime(ClockId::ThreadCPUTime);
        Ok(Edge {
            at: Instant::now(),
            operations,
            bytes,
            server: process::usage(self.server)?,
            client_cpu: Duration::new(client.tv_sec as u64, client.tv_nsec as u32),
        })
    }
}
