//! The reactor's interface to the operating system, apart from reads and writes of streams: one
//! trait, with an implementation on epoll and one in the simulation that tests the reactor.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::token::{Source, TokenLayout};
use crate::faults::Time;
use crate::listen::Listener;
use crate::net::alarm::Alarm;
use crate::net::clock;
use crate::net::readiness::Readiness;
use crate::net::stream::{Socket, Stream};
use crate::udp::{DatagramSocket, EpollSocket};

/// The operating system as a reactor uses it.
pub(crate) trait Kernel {
    /// The stream of a connection.
    type Stream: Stream;
    /// A UDP socket.
    type Datagrams: DatagramSocket;
    /// A batch of events.
    type Events;

    /// Waits for events until the timeout; an interruption is a batch without events.
    fn wait(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()>;

    /// The events of a batch.
    fn reports(events: &Self::Events) -> impl Iterator<Item = (Token, Readiness)>;

    /// Nanoseconds on a clock that never goes back.
    fn now_ns(&self) -> u64;

    /// Accepts a completed connection of a listener, with the peer's address if it has one.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Registers a stream, once, edge-triggered, for all events.
    fn register(&mut self, stream: &mut Self::Stream, key: usize) -> io::Result<()>;

    /// Lets handshakes under way complete and refuses new ones, unless another process keeps the
    /// socket.
    fn refuse_new(&mut self, listener: usize) -> io::Result<()>;

    /// Closes a listener.
    fn close(&mut self, listener: usize);

    /// Closes our descriptor of a listener that a successor took over.
    fn release(&mut self, listener: usize);

    /// Nanoseconds since the Unix epoch on the wall clock.
    fn real_ns(&self) -> u64;

    /// Uses this much time of the processor.
    fn burn(&mut self, ns: u64);

    /// Ends a wait at this time on the clock of [`Kernel::now_ns`], exactly.
    ///
    /// # Errors
    /// There is no timer for it: only the timeout ends a wait.
    fn set_alarm(&mut self, at_ns: u64) -> io::Result<()>;

    /// Wakes a worker of this server.
    ///
    /// # Errors
    /// What write(2) to its eventfd reports: the worker may sleep on.
    fn wake(&self, worker: usize) -> io::Result<()>;
}

/// The clocks and the processor of a kernel, for faults.
pub(super) struct KernelTime<'a, K>(pub(super) &'a mut K);

impl<K: Kernel> Time for KernelTime<'_, K> {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn real_ns(&self) -> u64 {
        self.0.real_ns()
    }

    fn burn(&mut self, ns: u64) {
        self.0.burn(ns);
    }
}

/// epoll, by mio.
#[derive(Debug)]
pub(crate) struct Epoll {
    poll: Poll,
    layout: TokenLayout,
    /// `None` once closed.
    listeners: Vec<Option<Listener>>,
    /// The wakers of all workers.
    wakers: Arc<[Waker]>,
    /// `None` until something has to be exact.
    alarm: Option<Alarm>,
}

impl Epoll {
    /// A waker for the worker of this epoll instance.
    pub(crate) fn waker(poll: &Poll) -> io::Result<Waker> {
        Waker::new(poll.registry(), Source::Waker.token(TokenLayout::new(0, 0)))
    }

    /// Registers these listeners and UDP sockets.
    pub(super) fn new(
        poll: Poll,
        wakers: Arc<[Waker]>,
        mut listeners: Vec<Listener>,
        sockets: Vec<UdpSocket>,
    ) -> io::Result<(Self, Vec<EpollSocket>)> {
        let layout = TokenLayout::new(listeners.len(), sockets.len());
        for (index, listener) in listeners.iter_mut().enumerate() {
            let token = Source::Listener(index).token(layout);
            poll.registry()
                .register(listener, token, Interest::READABLE)?;
        }
        let mut registered = Vec::with_capacity(sockets.len());
        if !sockets.is_empty() {
            let registry = Arc::new(poll.registry().try_clone()?);
            for (index, socket) in sockets.into_iter().enumerate() {
                let token = Source::Datagrams(index).token(layout);
                registered.push(EpollSocket::new(socket, token, Arc::clone(&registry))?);
            }
        }
        let epoll = Self {
            poll,
            layout,
            listeners: listeners.into_iter().map(Some).collect(),
            wakers,
            alarm: None,
        };
        Ok((epoll, registered))
    }
}

impl Kernel for Epoll {
    type Stream = Socket;
    type Datagrams = EpollSocket;
    type Events = Events;

    #[inline]
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            // A signal interrupted the wait; the batch is empty.
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
            Source::Conn(key).token(self.layout),
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

    fn real_ns(&self) -> u64 {
        clock::real_ns()
    }

    fn burn(&mut self, ns: u64) {
        // Time without a processor does not count.
        let end_ns = clock::thread_cpu_ns().saturating_add(ns);
        while clock::thread_cpu_ns() < end_ns {
            std::hint::spin_loop();
        }
    }

    fn set_alarm(&mut self, at_ns: u64) -> io::Result<()> {
        let alarm = match &mut self.alarm {
            Some(alarm) => alarm,
            none => {
                let token = Source::Alarm.token(self.layout);
                none.insert(Alarm::new(self.poll.registry(), token)?)
            }
        };
        alarm.set(at_ns)
    }

    fn wake(&self, worker: usize) -> io::Result<()> {
        self.wakers[worker].wake()
    }
}

impl Epoll {
    fn release_with(&mut self, listener: usize, end: impl FnOnce(Listener)) {
        if let Some(mut listener) = self.listeners[listener].take() {
            // Another process may hold the same socket, and then closing only our descriptor would
            // leave it in this epoll instance (epoll(7), question 6). It was registered, so this
            // can't fail.
            let _ = self.poll.registry().deregister(&mut listener);
            end(listener);
        }
    }
}
