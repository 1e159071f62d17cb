//! The successor's side: it takes sockets over from a running server.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::inventory::{Inventory, What};
use super::machine::{Successor, TakeoverAction, TakeoverEvent};
use super::offer::Offer;
use super::wire::{self, Reply, Request};
use crate::config::Config;
use crate::listen::{Inherited, Keeper};
use crate::net::unix::{self, SocketFile};
use crate::server::Handle;

/// How long an answer may take. A running server answers at once, one that is stopped not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a server that waits for the release checks whether it was told to end.
const CHECK: Duration = Duration::from_millis(50);
/// How long such a server then waits for its predecessor to decide.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);

/// A hand-over that a running server has agreed to. Dropping it leaves the sockets to that server.
#[derive(Debug)]
pub struct Takeover {
    stream: UnixStream,
    state: Successor,
    /// The sockets of the endpoints in this server's configuration.
    pub endpoints: Vec<Inherited>,
    /// The admin port's listener, if the predecessor had one.
    pub admin: Option<OwnedFd>,
    offer: Option<OwnedFd>,
    taken: Vec<usize>,
    path: PathBuf,
}

/// The answer at the path of a hand-over socket.
#[derive(Debug)]
pub enum Answer {
    /// No server listens there.
    Nobody,
    /// The server was told to end, or ended just now. It leaves this file.
    Ending(Option<SocketFile>),
    /// Another successor is taking over; it can be asked again.
    Busy,
    /// It passes its sockets on.
    Offer(Box<Takeover>),
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// This server may serve.
    Granted,
    /// The predecessor was told to end meanwhile; its sockets must not be used.
    Ending,
    /// Another successor was granted the sockets.
    Busy,
}

/// The owner of the sockets in the end.
#[derive(Debug)]
pub enum Confirmed {
    /// This server, which serves the next successor on this socket, if it could keep it.
    Owner(Option<Offer>),
    /// The predecessor: this server was told to end before it had reported that it serves.
    Left,
}

impl Takeover {
    /// Asks the server that listens on `path` for its sockets.
    ///
    /// # Errors
    /// [`TakeoverError`] when the server refuses or violates the protocol.
    pub fn ask(path: &Path, config: &Config) -> Result<Answer, TakeoverError> {
        let fail = |source| TakeoverError {
            path: path.to_owned(),
            source,
        };
        let stream = match connect(path) {
            Ok(stream) => stream,
            // There is no server, or it has ended.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(Answer::Nobody);
            }
            Err(error) => return Err(fail(error)),
        };
        let file = SocketFile::at(path).ok();
        let takeover = Self {
            stream,
            state: Successor::AwaitingOffer,
            endpoints: Vec::new(),
            admin: None,
            offer: None,
            taken: Vec::new(),
            path: path.to_owned(),
        };
        takeover.receive(config, file).map_err(fail)
    }

    /// Says hello and waits for the offer. `file` is the socket's.
    fn receive(mut self, config: &Config, file: Option<SocketFile>) -> io::Result<Answer> {
        wire::check_peer(&self.stream)?;
        self.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        self.stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        self.send(&Request::hello());
        match self.next_action()? {
            TakeoverAction::Prepare => {}
            TakeoverAction::StartAfresh => return Ok(Answer::Ending(file)),
            TakeoverAction::AskAgain => return Ok(Answer::Busy),
            _ => return Err(does_not_speak()),
        }
        let (inventory, descriptors) = match wire::receive_offer(&self.stream) {
            Ok(offer) => offer,
            // It ended before it had sent all.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Answer::Ending(file));
            }
            Err(error) => return Err(error),
        };
        self.choose(inventory, descriptors, config);
        Ok(Answer::Offer(Box::new(self)))
    }

    /// Keeps the sockets that this server's configuration names.
    fn choose(&mut self, inventory: Inventory, descriptors: Vec<OwnedFd>, config: &Config) {
        let mut descriptors = descriptors.into_iter();
        let mut wanted = config.services.clone();
        for (index, item) in inventory.into_items().into_iter().enumerate() {
            let mut sockets: Vec<_> = descriptors.by_ref().take(item.sockets).collect();
            match item.what {
                What::Admin => self.admin = sockets.pop(),
                What::Offer => self.offer = sockets.pop(),
                What::Endpoint {
                    service,
                    endpoint,
                    keeper,
                } => {
                    let inherited = Inherited {
                        service,
                        configured: endpoint,
                        sockets,
                        keeper,
                    };
                    // Each endpoint at most once: every taken socket must be served.
                    let wanted_at = wanted.iter().position(|(service, endpoint)| {
                        *service == inherited.service && *endpoint == inherited.configured
                    });
                    if let Some(at) = wanted_at {
                        wanted.swap_remove(at);
                    }
                    if wanted_at.is_some() || inherited.keeper == Keeper::ServiceManager {
                        self.taken.push(index);
                        self.endpoints.push(inherited);
                    }
                }
            }
        }
    }

    /// Claims the sockets for the server of `handle`, which has bound all that it lacks and serves
    /// nothing yet. A predecessor that has ended counts as agreeing.
    ///
    /// # Errors
    /// [`TakeoverError`] when it refuses or does not answer: it keeps serving, and this server must
    /// not.
    pub fn claim(&mut self, handle: &Handle) -> Result<Claim, TakeoverError> {
        self.state = self.state.on(TakeoverEvent::Prepared).0;
        self.send(&Request::Taken(self.taken.clone()));
        match self.next_action() {
            Ok(TakeoverAction::Start) => {
                handle.note_undecided();
                // The predecessor takes the grant back if this one goes away.
                handle
                    .set_inherited_options()
                    .map_err(|error| self.error(io::Error::other(error)))?;
                Ok(Claim::Granted)
            }
            Ok(TakeoverAction::StartAfresh) => Ok(Claim::Ending),
            Ok(TakeoverAction::AskAgain) => Ok(Claim::Busy),
            Ok(_) => Err(self.error(does_not_speak())),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Tells the predecessor that the server of `handle` serves, which makes it drain.
    ///
    /// # Errors
    /// [`TakeoverError`] when the predecessor has taken the sockets back: this server should end.
    pub fn confirm(mut self, handle: &Handle) -> Result<Confirmed, TakeoverError> {
        let event = if handle.is_draining() || handle.is_over() {
            TakeoverEvent::ToldToEnd
        } else {
            TakeoverEvent::Serving
        };
        let mut action;
        (self.state, action) = self.state.on(event);
        if action == TakeoverAction::SendServing {
            self.send(&Request::Serving);
            action = match self.last_word(handle) {
                Ok(action) => action,
                Err(error) => {
                    handle.leave();
                    return Err(self.error(error));
                }
            };
        }
        match action {
            TakeoverAction::Own => {
                handle.keep();
                Ok(Confirmed::Owner(self.adopt_offer()))
            }
            _ => {
                handle.leave();
                Ok(Confirmed::Left)
            }
        }
    }

    /// Waits for the predecessor's decision, which comes soon or ends with the predecessor. Only a
    /// server that is told to end does not wait for one that is stopped.
    fn last_word(&mut self, handle: &Handle) -> io::Result<TakeoverAction> {
        self.stream.set_read_timeout(Some(CHECK))?;
        let mut patience = None;
        loop {
            match wire::receive_line(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !handle.is_draining() {
                        continue;
                    }
                    let end = patience.get_or_insert_with(|| Instant::now() + LAST_WORD_TIMEOUT);
                    if handle.is_over() || *end <= Instant::now() {
                        return self.take(TakeoverEvent::TimedOut, None);
                    }
                }
                reply => return self.take_reply(reply?),
            }
        }
    }

    /// A line of the predecessor, or the end of the connection, and the action that it leads to.
    ///
    /// # Errors
    /// It refuses, does not answer, or sends something else.
    fn next_action(&mut self) -> io::Result<TakeoverAction> {
        match wire::receive_line(&self.stream) {
            Ok(reply) => self.take_reply(reply),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.take(TakeoverEvent::TimedOut, None)
            }
            Err(error) => Err(error),
        }
    }

    fn take_reply(&mut self, reply: Option<Reply>) -> io::Result<TakeoverAction> {
        match reply {
            Some(Reply::Offer) => self.take(TakeoverEvent::Offered, None),
            Some(Reply::Granted) => self.take(TakeoverEvent::Granted, None),
            Some(Reply::Released) => self.take(TakeoverEvent::Released, None),
            Some(Reply::Refused(reason)) => self.take(TakeoverEvent::Refused, Some(reason)),
            Some(Reply::Busy) => self.take(TakeoverEvent::Busy, None),
            Some(Reply::Ending) => self.take(TakeoverEvent::Ending, None),
            None => {
                info!("the predecessor is gone");
                self.take(TakeoverEvent::Closed, None)
            }
        }
    }

    /// Moves the state. A failure is an error.
    fn take(&mut self, event: TakeoverEvent, reason: Option<String>) -> io::Result<TakeoverAction> {
        let action;
        (self.state, action) = self.state.on(event);
        match (action, event) {
            (TakeoverAction::Fail | TakeoverAction::LeaveAndFail, TakeoverEvent::TimedOut) => {
                Err(io::Error::other("it does not answer"))
            }
            (TakeoverAction::Fail | TakeoverAction::LeaveAndFail, _) => {
                Err(reason.map_or_else(does_not_speak, io::Error::other))
            }
            _ => Ok(action),
        }
    }

    /// Sends a line. A failure is not an error: the predecessor may have closed the connection, and
    /// then its last word or the end is read next.
    fn send(&self, request: &Request) {
        let _ = wire::send_line(&self.stream, request);
    }

    /// The socket for the next successor. A server without it serves all the same.
    fn adopt_offer(&mut self) -> Option<Offer> {
        let listener = self.offer.take();
        let adopted = match listener.map(|it| Offer::adopt(it, &self.path)) {
            Some(Ok(offer)) => Ok(offer),
            // A predecessor that ended for another reason has removed the file.
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Offer::bind(&self.path),
        };
        adopted
            .inspect_err(|error| {
                let path = self.path.display();
                warn!(%path, %error, "cannot wait for a successor; this server can't be replaced");
            })
            .ok()
    }

    fn error(&self, source: io::Error) -> TakeoverError {
        TakeoverError {
            path: self.path.clone(),
            source,
        }
    }
}

/// Connects, also when many others do at the moment.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + ANSWER_TIMEOUT;
    loop {
        match unix::connect(path) {
            // The backlog is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                thread::park_timeout(CHECK);
            }
            result => return result,
        }
    }
}

fn does_not_speak() -> io::Error {
    io::Error::other("it does not speak this version of the hand-over")
}

/// A predecessor that could not be replaced.
#[derive(Debug)]
pub struct TakeoverError {
    path: PathBuf,
    source: io::Error,
}

impl TakeoverError {
    /// It has been busy with another successor for too long.
    pub(crate) fn busy(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            source: io::Error::other("another server is taking over"),
        }
    }
}

impl fmt::Display for TakeoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot take over from the server that waits on {}: {}",
            self.path.display(),
            self.source
        )
    }
}

impl std::error::Error for TakeoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
