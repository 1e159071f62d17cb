//! Accepting connections: in batches, within the limits, and with a pause when descriptors,
//! memory or epoll watches run out.

use std::io;
use std::net::IpAddr;

use tracing::warn;

use super::connections::{Admitted, Connections, Introduction, Security};
use super::context::Context;
use super::control::Origin;
use super::hand_off::HandOff;
use super::kernel::Kernel;
use super::token::Deadline;
use crate::config::ProxyProtocol;
use crate::conn::faulty::Faulty;
use crate::metrics::{ProxyError, RefuseReason};
use crate::net::errno::AcceptError;
use crate::service::Service;

/// Connections accepted from one listener in a turn, so that a storm of connects can't starve open
/// connections.
const MAX_ACCEPTS: usize = 64;
/// The pause in accepting after descriptors, memory or epoll watches ran out.
const RETRY_MS: u64 = 50;

/// A worker's listeners and the state of accepting.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<Listening>,
    /// Nothing is accepted until the retry deadline.
    is_paused: bool,
    /// The last accept failed for lack of resources; the begin and the end of that are logged once.
    has_failed: bool,
}

/// A worker's state of one listener; the socket itself is in the [`Kernel`].
#[derive(Debug)]
pub(crate) struct Listening {
    /// The index of its endpoint in the server.
    endpoint: usize,
    origin: Origin,
    /// The service of its connections.
    service: Service,
    security: Security,
    share: Share,
    /// The most connections accepted while closing. It bounds the emptying of a queue that another
    /// process's open socket keeps filling.
    max_queued: u32,
    state: State,
    /// Whether there may be more to accept: set by an event, cleared only by EAGAIN.
    has_more: bool,
}

/// The worker that serves the connections of a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Share {
    /// The worker that accepts them.
    Own,
    /// The worker with the fewest connections.
    LeastLoaded,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// Closes when its queue is empty, at the latest after this number of connections.
    Closing(u32),
    Closed,
}

/// How the server learns whom a connection from this sender is of.
///
/// # Errors
/// The sender would have to introduce it, and is not believed.
fn introduction<K>(sender: Option<IpAddr>, cx: &Context<K>) -> Result<Introduction, ProxyError> {
    match cx.control.proxy_protocol {
        ProxyProtocol::Off => Ok(Introduction::None),
        ProxyProtocol::Accept if !cx.rules.believes(sender) => Ok(Introduction::None),
        ProxyProtocol::Accept => Ok(Introduction::MayCome),
        ProxyProtocol::Require if !cx.rules.believes(sender) => Err(ProxyError::Untrusted),
        ProxyProtocol::Require => Ok(Introduction::MustCome),
    }
}

/// The outcome of one accept.
enum Attempt<S> {
    /// A connection, with the peer's address if it has one.
    Accepted(S, Option<IpAddr>),
    /// It failed or was interrupted, but the next call may succeed.
    Failed,
    /// No connection waits.
    Empty,
}

impl Listening {
    pub(crate) fn new(
        endpoint: usize,
        origin: Origin,
        (service, security): (Service, Security),
        share: Share,
        max_queued: u32,
    ) -> Self {
        Self {
            endpoint,
            origin,
            service,
            security,
            share,
            max_queued,
            state: State::Open,
            // Connections may have arrived before the listener was registered.
            has_more: true,
        }
    }

    fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Marks an open listener as having more. A closed one must never be marked: it would keep the
    /// loop awake.
    fn look_again(&mut self) {
        self.has_more = self.is_open();
    }
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listening>) -> Self {
        Self {
            listeners,
            is_paused: false,
            has_failed: false,
        }
    }

    /// Whether the next turn has connections to accept without waiting for an event.
    pub(super) fn has_more(&self) -> bool {
        !self.is_paused && self.listeners.iter().any(|listener| listener.has_more)
    }

    pub(super) fn has_open_listeners(&self) -> bool {
        self.listeners.iter().any(Listening::is_open)
    }

    /// Whether connections may still be accepted for other workers.
    pub(super) fn feeds_others(&self) -> bool {
        let feeds = |it: &Listening| it.is_open() && it.share == Share::LeastLoaded;
        self.listeners.iter().any(feeds)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Records the kernel's report of connections at a listener.
    pub(super) fn note(&mut self, index: usize) {
        self.listeners[index].look_again();
    }

    /// Accepts a batch from each listener that may have connections.
    pub(super) fn accept<K: Kernel>(
        &mut self,
        connections: &mut Connections<K::Stream>,
        mut hand_off: Option<&mut HandOff<K::Stream>>,
        cx: &mut Context<K>,
    ) {
        for index in 0..self.listeners.len() {
            for _ in 0..MAX_ACCEPTS {
                match self.try_accept(index, cx) {
                    Attempt::Accepted(stream, peer) => {
                        let hand_off = hand_off.as_deref_mut();
                        if let Some(admitted) = self.admit(index, stream, peer, connections, cx)
                            && let Some(own) = self.pass_on(index, admitted, hand_off, cx)
                            && let Err(error) = connections.open(own, cx)
                        {
                            self.note_unserved(index, &error, cx);
                        } else {
                            self.note_success(cx);
                        }
                    }
                    Attempt::Failed => {}
                    Attempt::Empty => break,
                }
            }
        }
    }

    /// Accepts the next connection of a listener. Closes a closing listener once it is empty.
    fn try_accept<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) -> Attempt<K::Stream> {
        let listener = &mut self.listeners[index];
        if self.is_paused || !listener.has_more {
            return Attempt::Empty;
        }
        if listener.state == State::Closing(0) {
            self.close(index, cx);
            return Attempt::Empty;
        }
        match cx.kernel.accept(index) {
            Ok((stream, peer)) => {
                if let State::Closing(left) = &mut listener.state {
                    *left -= 1;
                }
                Attempt::Accepted(stream, peer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.has_more = false;
                if let State::Closing(_) = listener.state {
                    self.close(index, cx);
                }
                Attempt::Empty
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Attempt::Failed,
            Err(error) => {
                let reason = AcceptError::from(&error);
                cx.metrics.accept_errors(reason).add(1);
                if !reason.is_of_one_connection() {
                    self.pause(&error, cx);
                }
                Attempt::Failed
            }
        }
    }

    /// Pauses after a connection that could not be served, so that others wait in the queue. A
    /// closing listener is emptied all the same: a refusal is better than the reset that closing the
    /// listener would bring.
    fn note_unserved<K: Kernel>(&mut self, index: usize, error: &io::Error, cx: &mut Context<K>) {
        if self.listeners[index].state == State::Open {
            self.pause(error, cx);
        }
    }

    fn note_success<K>(&mut self, cx: &Context<K>) {
        if std::mem::take(&mut self.has_failed) {
            warn!(worker = cx.index, "accepting again");
        }
    }

    /// Pauses accepting: the next connection would fail the same way, and the edge does not come
    /// again.
    fn pause<K: Kernel>(&mut self, error: &io::Error, cx: &mut Context<K>) {
        if !self.has_failed {
            warn!(
                worker = cx.index,
                %error,
                "cannot accept; trying again every {RETRY_MS} ms until it works"
            );
        }
        self.has_failed = true;
        self.is_paused = true;
        cx.arm(Deadline::AcceptRetry, RETRY_MS);
    }

    /// Applies the limits and refuses a connection that exceeds one.
    fn admit<K: Kernel>(
        &self,
        index: usize,
        stream: K::Stream,
        peer: Option<IpAddr>,
        connections: &mut Connections<K::Stream>,
        cx: &mut Context<K>,
    ) -> Option<Admitted<K::Stream>> {
        let introduction = match introduction(peer, cx) {
            Ok(introduction) => introduction,
            Err(error) => {
                cx.metrics.proxy_errors(error).add(1);
                cx.log_refusal(peer, RefuseReason::Denied);
                connections.refuse(stream, RefuseReason::Denied, cx);
                return None;
            }
        };
        // A proxy speaks for others, whose addresses come later.
        let counted = peer.filter(|_| introduction == Introduction::None);
        let listener = &self.listeners[index];
        match cx.acquire_permit(counted) {
            Ok(permit) => Some(Admitted {
                stream,
                endpoint: listener.endpoint,
                service: listener.service,
                security: listener.security,
                faults: cx.rules.faults_of(listener.endpoint).map(|_| {
                    let number = cx.control.next_connection(listener.endpoint);
                    Faulty::new(listener.endpoint, number)
                }),
                permit,
                peer,
                introduction,
            }),
            Err(reason) => {
                cx.log_refusal(peer, reason);
                connections.refuse(stream, reason, cx);
                None
            }
        }
    }

    /// Sends a connection to its worker, unless this worker serves it.
    fn pass_on<K: Kernel>(
        &self,
        index: usize,
        admitted: Admitted<K::Stream>,
        hand_off: Option<&mut HandOff<K::Stream>>,
        cx: &Context<K>,
    ) -> Option<Admitted<K::Stream>> {
        match (self.listeners[index].share, hand_off) {
            (Share::LeastLoaded, Some(hand_off)) => {
                hand_off.pass_on(cx.index, &cx.control, admitted)
            }
            (Share::LeastLoaded, None) | (Share::Own, _) => Some(admitted),
        }
    }

    /// Refuses new handshakes, while those under way complete.
    pub(super) fn refuse_new<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Err(error) = cx.kernel.refuse_new(index) {
                warn!(%error, "clients that connect while the listener closes may be reset");
            }
            listener.look_again();
        }
    }

    /// Closes every listener once all completed connections are accepted.
    pub(super) fn close_when_empty(&mut self) {
        for listener in &mut self.listeners {
            if listener.state == State::Open {
                listener.state = State::Closing(listener.max_queued);
                listener.look_again();
            }
        }
    }

    /// Releases the listeners that another server keeps.
    pub(super) fn release_left<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for index in 0..self.listeners.len() {
            let Listening {
                endpoint, origin, ..
            } = self.listeners[index];
            if cx.control.is_left(endpoint, origin) {
                self.close(index, cx);
            }
        }
    }

    /// Closes every listener now.
    pub(super) fn close_all<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for index in 0..self.listeners.len() {
            self.close(index, cx);
        }
    }

    /// Closes a listener, or releases it if another server keeps or may keep the socket.
    fn close<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) {
        let listener = &mut self.listeners[index];
        listener.has_more = false;
        if std::mem::replace(&mut listener.state, State::Closed) == State::Closed {
            return;
        }
        if cx.control.may_be_left(listener.endpoint, listener.origin) {
            cx.kernel.release(index);
        } else {
            cx.kernel.close(index);
        }
    }
}
