//! The running server's side: it offers its sockets to successors.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tracing::{info, warn};

use super::inventory::{Inventory, Item, What};
use super::machine::{OfferAction, OfferEvent, Predecessor};
use super::wire::{self, MAX_MESSAGE_LEN, Reply, Request};
use crate::net::unix::{self, SocketFile};
use crate::server::{Handle, Standing};

/// The backlog of the hand-over socket.
const MAX_WAITING: u32 = 16;
/// Successors that are answered at a time; others wait in the backlog. A silent one has its place
/// for [`HELLO_TIMEOUT`].
const MAX_SUCCESSORS: usize = 16;
/// How long a client may be silent. A successor says hello at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a successor may bind its sockets, which may need a name server. Nothing waits for it.
const TAKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a successor may start its workers: milliseconds on a healthy machine. Meanwhile no
/// other can take over, and a drain waits.
const SERVING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a message may wait for a successor that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause in accepting after descriptors or memory ran out.
const RETRY: Duration = Duration::from_secs(1);

const LISTENER: Token = Token(MAX_SUCCESSORS);
const WAKER: Token = Token(MAX_SUCCESSORS + 1);

/// The admin port, as far as a replacement needs it.
pub trait AdminSocket {
    /// Another descriptor of its listener, for a successor.
    fn listener_to_pass(&self) -> Option<OwnedFd>;

    /// Closes the listener: a new server wants its address. Returns at once.
    fn give_up(&self);
}

/// No admin port.
impl AdminSocket for () {
    fn listener_to_pass(&self) -> Option<OwnedFd> {
        None
    }

    fn give_up(&self) {}
}

/// The socket on which a running server waits for its successor. Dropping it removes its file,
/// unless that is another server's by then.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    /// `None` once another server has the path.
    file: Option<SocketFile>,
}

impl Offer {
    /// Listens on a path that only this user and root may connect to.
    ///
    /// # Errors
    /// As [`unix::listen`].
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = unix::listen(path, MAX_WAITING, Some(0o600))?;
        Ok(Self {
            listener,
            file: Some(file),
        })
    }

    /// Takes over the predecessor's socket.
    ///
    /// # Errors
    /// When the path no longer leads to a file.
    pub fn adopt(listener: OwnedFd, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let file = Some(SocketFile::at(path)?);
        Ok(Self { listener, file })
    }

    /// Answers successors until one has taken over, or the server has ended.
    pub fn serve(self, handle: &Handle, admin: &impl AdminSocket) {
        if let Err(error) = self.try_serve(handle, admin) {
            warn!(%error, "cannot wait for a successor; this server can't be replaced");
        }
    }

    /// # Errors
    /// Only for lack of descriptors or memory.
    fn try_serve(mut self, handle: &Handle, admin: &impl AdminSocket) -> io::Result<()> {
        let poll = Poll::new()?;
        handle.notify(Arc::new(Waker::new(poll.registry(), WAKER)?));
        let listener = self.listener.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&listener), LISTENER, Interest::READABLE)?;
        let mut successors = Successors {
            poll,
            connections: Slab::with_capacity(MAX_SUCCESSORS),
            may_accept: true,
            paused_until: None,
        };
        let mut events = Events::with_capacity(MAX_SUCCESSORS + 2);
        while !handle.has_successor() && !handle.is_over() {
            successors.wait(&mut events)?;
            successors.accept(&self.listener);
            for key in 0..MAX_SUCCESSORS {
                self.serve_one(&mut successors, key, handle, admin);
            }
        }
        if handle.has_successor() || handle.is_undecided() {
            self.file = None;
        }
        Ok(())
    }

    /// Handles all that has happened at one connection.
    fn serve_one(
        &mut self,
        successors: &mut Successors,
        key: usize,
        handle: &Handle,
        admin: &impl AdminSocket,
    ) {
        let Some(connection) = successors.connections.get_mut(key) else {
            return;
        };
        let offering = Offering {
            handle,
            admin,
            listener: self.listener.as_fd(),
        };
        // Each state has few events.
        let mut next = connection.next_event(handle);
        while let Some(event) = next {
            let before = connection.state;
            let action;
            (connection.state, action) = before.on(event);
            report(before, event, action);
            if action == OfferAction::SendEnding {
                // The next server makes its own socket at the path.
                self.file = None;
            }
            let outcome = connection.act(action, event, &offering);
            next = outcome.or_else(|| connection.next_event(handle));
        }
        if connection.state == Predecessor::Over {
            successors.connections.remove(key);
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

/// The connections of successors, each with its own state.
struct Successors {
    poll: Poll,
    connections: Slab<Connection>,
    /// Whether the queue may have more: set by an event, cleared only by EAGAIN.
    may_accept: bool,
    /// When accepting resumes after a lack of descriptors or memory.
    paused_until: Option<Instant>,
}

impl Successors {
    /// Waits for input, a deadline, or the end of the server.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let can_accept = self.may_accept && self.connections.len() < MAX_SUCCESSORS;
        let deadlines = self.connections.iter().map(|(_, it)| it.deadline);
        let timeout = match (can_accept, self.paused_until) {
            (true, None) => Some(Duration::ZERO),
            (_, paused_until) => {
                let next = deadlines.chain(paused_until).min();
                next.map(|next| next.saturating_duration_since(now))
            }
        };
        match self.poll.poll(events, timeout) {
            // A signal interrupted the wait.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        self.may_accept |= events.iter().any(|event| event.token() == LISTENER);
        self.paused_until = self.paused_until.filter(|until| Instant::now() < *until);
        Ok(())
    }

    fn accept(&mut self, listener: &UnixListener) {
        while self.may_accept
            && self.paused_until.is_none()
            && self.connections.len() < MAX_SUCCESSORS
        {
            let accepted = listener.accept();
            match accepted.and_then(|(stream, _)| self.insert(stream)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.may_accept = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // An immediate retry would spin.
                    warn!(%error, "cannot accept a successor");
                    self.paused_until = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    fn insert(&mut self, stream: UnixStream) -> io::Result<()> {
        if let Err(error) = wire::check_peer(&stream) {
            warn!(%error, "refused a successor");
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        let entry = self.connections.vacant_entry();
        let (key, descriptor) = (entry.key(), stream.as_raw_fd());
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&descriptor), Token(key), Interest::READABLE)?;
        entry.insert(Connection {
            stream,
            state: Predecessor::AwaitingHello,
            deadline: Instant::now() + HELLO_TIMEOUT,
            input: Vec::new(),
            taken: Vec::new(),
        });
        Ok(())
    }
}

/// What the connection of a successor may use.
struct Offering<'a, A> {
    handle: &'a Handle,
    admin: &'a A,
    listener: BorrowedFd<'a>,
}

/// The connection of a successor. Closing its descriptor ends its registration.
struct Connection {
    stream: UnixStream,
    state: Predecessor,
    deadline: Instant,
    /// Input without a whole line.
    input: Vec<u8>,
    /// The endpoints that it was granted.
    taken: Vec<usize>,
}

impl Connection {
    /// The next event. Input comes before the deadline: this process may have been stopped.
    fn next_event(&mut self, handle: &Handle) -> Option<OfferEvent> {
        if self.state == Predecessor::Over {
            return None;
        }
        match self.next_line() {
            Ok(Some(line)) => Some(self.event_of(&line, handle)),
            Ok(None) if self.deadline <= Instant::now() => Some(OfferEvent::TimedOut),
            Ok(None)
                if self.state == Predecessor::AwaitingTaken
                    && handle.standing() == Standing::Ending =>
            {
                Some(OfferEvent::ToldToEnd)
            }
            Ok(None) => None,
            Err(_) => Some(OfferEvent::Closed),
        }
    }

    fn event_of(&mut self, line: &[u8], handle: &Handle) -> OfferEvent {
        match serde_json::from_slice(line) {
            Ok(request) if request == Request::hello() => OfferEvent::Hello(handle.standing()),
            Ok(Request::Taken(taken)) if self.state == Predecessor::AwaitingTaken => {
                let standing = handle.grant(&taken);
                self.taken = taken;
                standing.map_or(OfferEvent::Malformed, OfferEvent::Taken)
            }
            Ok(Request::Serving) => OfferEvent::Serving,
            Ok(Request::Hello { .. } | Request::Taken(_)) | Err(_) => OfferEvent::Malformed,
        }
    }

    /// The next line of input, if it has arrived.
    ///
    /// # Errors
    /// The connection has ended.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let rest = self.input.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.input, rest)));
            }
            if self.input.len() > MAX_MESSAGE_LEN {
                return Err(io::Error::other("a line without an end"));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Carries an action out. Returns the event that its outcome is.
    fn act(
        &mut self,
        action: OfferAction,
        cause: OfferEvent,
        to: &Offering<'_, impl AdminSocket>,
    ) -> Option<OfferEvent> {
        match action {
            OfferAction::Nothing => {}
            OfferAction::SendOffer => {
                self.deadline = Instant::now() + TAKEN_TIMEOUT;
                if let Err(error) = self.send_offer(to) {
                    warn!(%error, "cannot pass the sockets to a successor");
                    return Some(OfferEvent::Closed);
                }
            }
            OfferAction::SendGranted => {
                self.deadline = Instant::now() + SERVING_TIMEOUT;
                // If it fails, the end of the connection is read next.
                let _ = self.send(&Reply::Granted);
            }
            OfferAction::SendReleased => {
                return Some(match self.send(&Reply::Released) {
                    Ok(()) => OfferEvent::Sent,
                    Err(_) => OfferEvent::Closed,
                });
            }
            OfferAction::Release => to.handle.release(&self.taken),
            OfferAction::Reclaim => to.handle.keep(),
            OfferAction::RefuseAndReclaim => {
                to.handle.keep();
                self.refuse(cause);
            }
            OfferAction::Refuse => self.refuse(cause),
            // It may be gone; nothing depends on the message.
            OfferAction::SendBusy => drop(self.send(&Reply::Busy)),
            OfferAction::SendEnding => {
                // Whether it arrives or not, the successor waits for the addresses.
                let _ = self.send(&Reply::Ending);
                to.handle.vacate();
                to.admin.give_up();
            }
        }
        None
    }

    fn send_offer(&self, to: &Offering<'_, impl AdminSocket>) -> io::Result<()> {
        let endpoints = to.handle.sockets_to_pass()?;
        let admin = to.admin.listener_to_pass();
        let mut items: Vec<_> = endpoints.iter().map(Item::from).collect();
        let mut descriptors: Vec<BorrowedFd<'_>> = endpoints
            .iter()
            .flat_map(|it| it.sockets.iter().map(AsFd::as_fd))
            .collect();
        items.push(Item::one(What::Offer));
        descriptors.push(to.listener);
        if let Some(admin) = &admin {
            items.push(Item::one(What::Admin));
            descriptors.push(admin.as_fd());
        }
        let inventory = Inventory::new(items).map_err(io::Error::other)?;
        self.blocking(|stream| wire::send_offer(stream, &inventory, &descriptors))
    }

    fn send(&self, reply: &Reply) -> io::Result<()> {
        self.blocking(|stream| wire::send_line(stream, reply))
    }

    /// Writes, and waits for a slow reader within [`SEND_TIMEOUT`] for each call.
    fn blocking(&self, write: impl FnOnce(&UnixStream) -> io::Result<()>) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        let written = write(&self.stream);
        self.stream.set_nonblocking(true)?;
        written
    }

    fn refuse(&self, cause: OfferEvent) {
        let reason = match cause {
            OfferEvent::TimedOut => "it waited too long for this server",
            _ => "it speaks another version of this protocol",
        };
        // It may be gone; nothing depends on the message.
        let _ = self.send(&Reply::Refused(reason.to_owned()));
    }
}

/// Logs the end of a connection.
fn report(before: Predecessor, event: OfferEvent, action: OfferAction) {
    match (before, action) {
        (_, OfferAction::Release) => info!("a successor serves; draining"),
        (_, OfferAction::SendEnding) => {
            info!("a new server waits for the addresses; giving them up");
        }
        (_, OfferAction::Reclaim | OfferAction::RefuseAndReclaim | OfferAction::Refuse) => {
            warn!(state = ?before, cause = ?event, "a successor did not take over; still serving");
        }
        (Predecessor::AwaitingTaken, OfferAction::Nothing) => {
            warn!(state = ?before, cause = ?event, "a successor did not take over; still serving");
        }
        _ => {}
    }
}
