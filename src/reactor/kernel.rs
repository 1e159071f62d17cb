//! What the reactor asks of the operating system, besides reading and writing of streams: one trait,
//! of which epoll is one implementation and the simulation that tests the reactor is the other.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::token::{Fixed, Source};
use crate::listen::Listener;
use crate::net::clock;
use crate::net::readiness::Readiness;
use crate::net::stream::{Socket, Stream};

/// The outside of a reactor.
pub(crate) trait Kernel {
    /// What a connection reads and writes.
    type Stream: Stream;
    /// A batch of events.
    type Events;

    /// Waits until there are events or the time is over; an interruption is a batch without events.
    fn wait(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()>;

    /// The events of a batch.
    fn reports(events: &Self::Events) -> impl Iterator<Item = (Token, Readiness)>;

    /// Nanoseconds on a clock that never goes back.
    fn now_ns(&self) -> u64;

    /// Takes a completed connection of a listener, with its peer's address if that has one.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Registers a stream for everything, edge-triggered, once and for all.
    fn register(&mut self, stream: &mut Self::Stream, key: usize) -> io::Result<()>;

    /// Lets handshakes under way complete and no new ones begin, unless the socket is also another
    /// process's, who goes on with it.
    fn refuse_new(&mut self, listener: usize) -> io::Result<()>;

    /// Closes a listener.
    fn close(&mut self, listener: usize);

    /// Gives up our hold on a listener that a successor goes on with.
    fn release(&mut self, listener: usize);
}

/// epoll, by mio.
#[derive(Debug)]
pub(crate) struct Epoll {
    poll: Poll,
    fixed: Fixed,
    /// `None` once it was closed.
    listeners: Vec<Option<Listener>>,
}

impl Epoll {
    /// Watches these listeners.
    pub(super) fn new(poll: Poll, mut listeners: Vec<Listener>, fixed: Fixed) -> io::Result<Self> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            let token = Source::Listener(index).token(fixed);
            poll.registry()
                .register(listener, token, Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            fixed,
            listeners: listeners.into_iter().map(Some).collect(),
        })
    }
}

impl Kernel for Epoll {
    type Stream = Socket;
    type Events = Events;

    #[inline]
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            // A signal was handled on this thread; the batch is empty.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    #[inline]
    fn reports(events: &Events) -> impl Iterator<Item = (Token, Readiness)> {
        events
            .iter()
            .map(|event| (event.token(), Readiness::from(event)))
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn accept(&mut self, listener: usize) -> io::Result<(Socket, Option<IpAddr>)> {
        match &self.listeners[listener] {
            Some(listener) => listener.accept(),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn register(&mut self, stream: &mut Socket, key: usize) -> io::Result<()> {
        self.poll.registry().register(
            stream,
            Source::Conn(key).token(self.fixed),
            Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
        )
    }

    fn refuse_new(&mut self, listener: usize) -> io::Result<()> {
        match &mut self.listeners[listener] {
            Some(listener) => listener.refuse_new(),
            None => Ok(()),
        }
    }

    fn close(&mut self, listener: usize) {
        self.release_with(listener, Listener::close);
    }

    fn release(&mut self, listener: usize) {
        self.release_with(listener, Listener::release);
    }
}

impl Epoll {
    fn release_with(&mut self, listener: usize, end: impl FnOnce(Listener)) {
        if let Some(mut listener) = self.listeners[listener].take() {
            // Another process may hold the same socket, and then closing ours alone would leave it
            // in this epoll instance (epoll(7), question 6). It was registered, so this can't fail.
            let _ = self.poll.registry().deregister(&mut listener);
            end(listener);
        }
    }
}
