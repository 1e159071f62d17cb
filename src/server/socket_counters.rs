//! The kernel's counters of a server's sockets, read through separate descriptors: no worker takes
//! part.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::listen::{Bound, Sockets};
use crate::net::socket::{self, ListenQueue};

/// The counters of every endpoint. The descriptors would keep a closed listener open, so they are
/// released before the workers are told to end.
#[derive(Debug)]
pub(super) struct SocketCounters(Mutex<Vec<Option<Counted>>>);

/// The kernel's counts at one endpoint, the sum over its sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EndpointCounts {
    /// UDP.
    Datagrams {
        /// Received and dropped, most often because a receive buffer was full. An aggregate counts
        /// once.
        dropped: u64,
    },
    /// TCP.
    Connects {
        /// Segments of connects that were dropped, most often because a queue was full. A client
        /// sends them again.
        dropped: u64,
        /// Completed connections that were not accepted yet, and the most that may wait.
        queue: ListenQueue,
    },
}

/// The sockets of one endpoint.
#[derive(Debug)]
struct Counted {
    sockets: Vec<CountedSocket>,
    counts: EndpointCounts,
}

#[derive(Debug)]
struct CountedSocket {
    descriptor: OwnedFd,
    /// The counter at the last reading. An inherited socket starts with its earlier owner's count.
    last: u32,
}

impl SocketCounters {
    /// The counters of endpoints from now on. One that can't be read has none: a Unix socket, or any
    /// before Linux 4.12.
    pub(super) fn new(bound: &[Bound]) -> Self {
        let counted = bound.iter().map(|bound| {
            let counts = match bound.sockets {
                Sockets::Udp(_) => EndpointCounts::Datagrams { dropped: 0 },
                Sockets::Tcp(_) => EndpointCounts::Connects {
                    dropped: 0,
                    queue: ListenQueue::default(),
                },
                Sockets::Unix(_) => return None,
            };
            let sockets = bound.sockets.descriptors().into_iter();
            let sockets = sockets.map(CountedSocket::new).collect::<io::Result<_>>();
            sockets.ok().map(|sockets| Counted { sockets, counts })
        });
        Self(Mutex::new(counted.collect()))
    }

    /// The current counts of each endpoint, in their order; the last ones after a release.
    pub(super) fn read(&self) -> Vec<Option<EndpointCounts>> {
        let mut counted = self.lock();
        let counts = counted.iter_mut().map(|counted| {
            counted.as_mut().map(|counted| {
                counted.read();
                counted.counts
            })
        });
        counts.collect()
    }

    /// Reads the counters for the last time and closes the descriptors.
    pub(super) fn release(&self) {
        for counted in self.lock().iter_mut().flatten() {
            counted.read();
            counted.sockets.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Counted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Adds what the kernel counted since the last reading.
    fn read(&mut self) {
        let new: u64 = self
            .sockets
            .iter_mut()
            .map(CountedSocket::newly_dropped)
            .sum();
        match &mut self.counts {
            EndpointCounts::Datagrams { dropped } => *dropped += new,
            EndpointCounts::Connects { dropped, queue } => {
                *dropped += new;
                *queue = ListenQueue::default();
                for socket in &self.sockets {
                    *queue += socket::listen_queue(&socket.descriptor).unwrap_or_default();
                }
            }
        }
    }
}

impl CountedSocket {
    fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            last: socket::dropped(&socket.as_fd())?,
            descriptor: socket.try_clone_to_owned()?,
        })
    }

    fn newly_dropped(&mut self) -> u64 {
        // A reading that fails counts nothing. The kernel's counter wraps.
        let now = socket::dropped(&self.descriptor).unwrap_or(self.last);
        let new = now.wrapping_sub(self.last);
        self.last = now;
        new.into()
    }
}
