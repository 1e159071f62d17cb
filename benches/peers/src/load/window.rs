//! The window over which everything is measured: operations, time, both sides' processor time and the
//! latencies.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Length, Outcome};
use crate::procfs::{Memory, Usage};
use crate::sys;

/// Longer latencies count as this one; the load gives up before.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Tells what a server uses.
pub trait Gauge {
    /// What it has used so far.
    ///
    /// # Errors
    /// Where it is gone.
    fn usage(&self) -> io::Result<Usage>;

    /// The memory that it holds.
    ///
    /// # Errors
    /// Where it is gone.
    fn memory(&self) -> io::Result<Memory>;
}

/// For a server that is not ours to look into.
#[derive(Debug)]
pub struct NoGauge;

impl Gauge for NoGauge {
    fn usage(&self) -> io::Result<Usage> {
        Ok(Usage::default())
    }

    fn memory(&self) -> io::Result<Memory> {
        Ok(Memory::default())
    }
}

/// What had been done and used at one moment.
#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    operations: u64,
    bytes: u64,
    server: Usage,
    client_cpu_ns: u64,
}

/// See the module.
pub(super) struct Window<'a> {
    gauge: &'a dyn Gauge,
    length: Length,
    begun: Instant,
    issued: u64,
    edges: Option<(Edge, Option<Edge>)>,
    memory: Memory,
    latency: Histogram<u64>,
}

impl<'a> Window<'a> {
    /// A window that opens after the warm-up, or at once where operations are counted.
    pub(super) fn new(length: Length, gauge: &'a dyn Gauge) -> io::Result<Self> {
        let mut window = Self {
            gauge,
            length,
            begun: Instant::now(),
            issued: 0,
            edges: None,
            memory: Memory::default(),
            latency: Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3)
                .map_err(io::Error::other)?,
        };
        if matches!(length, Length::Count(_)) {
            window.edges = Some((window.edge(window.begun, 0, 0)?, None));
        }
        Ok(window)
    }

    /// How many of `wanted` operations may be begun now.
    pub(super) fn admit(&mut self, wanted: u64) -> u64 {
        if self.is_over() {
            return 0;
        }
        let admitted = match self.length {
            Length::Window { .. } => wanted,
            Length::Count(count) => wanted.min(count - self.issued),
        };
        self.issued += admitted;
        admitted
    }

    /// Opens and closes the window when it is time; called once in a turn of the load's loop.
    pub(super) fn turn(&mut self, now: Instant, operations: u64, bytes: u64) -> io::Result<()> {
        let elapsed = now.saturating_duration_since(self.begun);
        match (self.length, self.edges) {
            (Length::Window { warm_up, .. }, None) if elapsed >= warm_up => {
                // Reading takes time of its own, so the moment is taken again.
                self.edges = Some((self.edge(Instant::now(), operations, bytes)?, None));
            }
            (Length::Window { window, .. }, Some((opened, None)))
                if now.saturating_duration_since(opened.at) >= window =>
            {
                self.close(operations, bytes)?;
            }
            (Length::Count(count), Some((_, None))) if operations >= count => {
                self.close(operations, bytes)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Closes the window now, for a load that knows by itself when it is done.
    pub(super) fn close(&mut self, operations: u64, bytes: u64) -> io::Result<()> {
        if let Some((opened, None)) = self.edges {
            let closed = self.edge(Instant::now(), operations, bytes)?;
            self.edges = Some((opened, Some(closed)));
            self.memory = self.gauge.memory()?;
        }
        Ok(())
    }

    /// Is it closed?
    pub(super) fn is_over(&self) -> bool {
        matches!(self.edges, Some((_, Some(_))))
    }

    /// Takes a latency into account if the window is open.
    pub(super) fn record(&mut self, latency: Duration) {
        if matches!(self.edges, Some((_, None))) {
            self.latency.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// What was measured.
    pub(super) fn outcome(self) -> io::Result<Outcome> {
        let Some((opened, Some(closed))) = self.edges else {
            return Err(io::Error::other("the load ended before its window did"));
        };
        Ok(Outcome {
            operations: closed.operations - opened.operations,
            bytes: closed.bytes - opened.bytes,
            wall: closed.at - opened.at,
            server: Usage {
                cpu_ns: closed.server.cpu_ns.saturating_sub(opened.server.cpu_ns),
                waited_ns: closed
                    .server
                    .waited_ns
                    .saturating_sub(opened.server.waited_ns),
            },
            client_cpu_ns: closed.client_cpu_ns - opened.client_cpu_ns,
            latency: self.latency,
            memory: self.memory,
            memory_before: None,
        })
    }

    fn edge(&self, at: Instant, operations: u64, bytes: u64) -> io::Result<Edge> {
        Ok(Edge {
            at,
            operations,
            bytes,
            server: self.gauge.usage()?,
            client_cpu_ns: sys::thread_cpu_ns()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Length = Length::Window {
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(2),
    };

    #[test]
    fn a_count_admits_exactly_as_many_and_ends_with_the_last_answer() {
        let mut window = Window::new(Length::Count(10), &NoGauge).unwrap();
        assert_eq!(window.admit(7), 7);
        assert_eq!(window.admit(7), 3);
        assert_eq!(window.admit(7), 0);
        window.turn(Instant::now(), 9, 90).unwrap();
        assert!(!window.is_over());
        window.turn(Instant::now(), 10, 100).unwrap();
        assert!(window.is_over());
        let outcome = window.outcome().unwrap();
        assert_eq!((outcome.operations, outcome.bytes), (10, 100));
    }

    #[test]
    fn neither_the_warm_up_nor_what_follows_the_window_counts() {
        let mut window = Window::new(WINDOW, &NoGauge).unwrap();
        let begun = window.begun;
        window.record(Duration::from_micros(1));
        window
            .turn(begun + Duration::from_millis(999), 50, 500)
            .unwrap();
        assert!(window.edges.is_none());
        window
            .turn(begun + Duration::from_millis(1001), 100, 1000)
            .unwrap();
        let opened = window.edges.unwrap().0.at;
        window.record(Duration::from_millis(2));
        assert_eq!(window.admit(5), 5);
        window
            .turn(opened + Duration::from_secs(2), 300, 3000)
            .unwrap();
        window.record(Duration::from_micros(3));
        assert_eq!(window.admit(5), 0);
        window
            .turn(opened + Duration::from_secs(9), 900, 9000)
            .unwrap();
        let outcome = window.outcome().unwrap();
        assert_eq!((outcome.operations, outcome.bytes), (200, 2000));
        assert_eq!(outcome.latency.len(), 1);
        // Three digits are kept.
        assert!((1_999_000..2_002_000).contains(&outcome.latency.max()));
    }

    #[test]
    fn a_window_that_never_closed_has_no_outcome() {
        assert!(Window::new(WINDOW, &NoGauge).unwrap().outcome().is_err());
    }
}
