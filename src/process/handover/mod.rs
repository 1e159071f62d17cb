//! Replacement without loss: a running server passes its listening sockets to its successor over a
//! Unix socket, and drains once the successor serves.
//!
//! Both processes hold the same sockets meanwhile, with the same queues of connections (SCM_RIGHTS,
//! unix(7)), so that none is refused or reset. If the successor fails before it has said which
//! endpoints it took, nothing has changed for the running server.
//!
//! The conversation, on a stream socket that is passed on too, so that its path never leads nowhere:
//! ```text
//! successor                                   running server
//!    connects                            ──▶
//!                                        ◀──  length and JSON: what it has, how many sockets each
//!                                        ◀──  one byte with up to 64 descriptors, repeated
//!    binds, starts its workers
//!    a line of JSON: the indices it took ──▶
//!                                        ◀──  a line: done, or no if it goes on itself
//!                                             releases these, drains
//! ```
//! From the descriptors on until that line, neither may close the sockets in its way (a filter on the
//! listener, a Unix socket shut down, its file removed): whoever of the two is told to end meanwhile
//! leaves them to the other. A predecessor that ends without that line is gone, which is as good.

use std::fmt;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::Config;
use crate::listen::{Inherited, Keeper};
use crate::net::unix::{self, SocketFile};
use crate::server::Handle;

pub(crate) mod inventory;

use inventory::{Inventory, Item, What};

/// Descriptors in one message; the kernel takes up to 253 (SCM_MAX_FD, unix(7)).
const MAX_DESCRIPTORS: usize = 64;
/// How long either side waits for the other to say something. Starting a server is a matter of
/// milliseconds, unless the machine is in trouble.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No description of endpoints is longer, so nothing else is read into memory.
const MAX_HEADER_LEN: u32 = 1 << 20;
/// Successors that may wait for their turn.
const MAX_WAITING: u32 = 16;

/// Where a running server waits for its successor.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    file: SocketFile,
}

impl Offer {
    /// Waits on a path, which only this user and root may connect to.
    ///
    /// # Errors
    /// As [`unix::listen`].
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = unix::listen(path, MAX_WAITING, Some(0o600))?;
        listener.set_nonblocking(false)?;
        Ok(Self { listener, file })
    }

    /// Goes on waiting where the predecessor did.
    ///
    /// # Errors
    /// When the path leads elsewhere by now.
    pub fn adopt(listener: OwnedFd, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(false)?;
        let file = SocketFile::at(path)?;
        Ok(Self { listener, file })
    }

    /// The file that leads here, to be removed by whoever ends without a successor.
    pub fn file(&self) -> &SocketFile {
        &self.file
    }

    /// Serves successors until one has taken over. `extra` is passed on with the endpoints.
    pub fn serve(&self, handle: &Handle, extra: Option<BorrowedFd<'_>>) {
        while !handle.is_draining() {
            match self.listener.accept() {
                Ok((stream, _)) => match self.pass_on(&stream, handle, extra) {
                    Ok(()) => {}
                    Err(error) => {
                        warn!(%error, "a successor did not take over; going on");
                        // Silence would mean that this server is gone.
                        let _ = (&stream).write_all(b"no\n");
                        if !handle.is_draining() {
                            handle.settle();
                        }
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Of descriptors or memory, perhaps for long; asking at once would spin.
                    warn!(%error, "cannot accept a successor");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    fn pass_on(
        &self,
        stream: &UnixStream,
        handle: &Handle,
        extra: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        check_peer(stream)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let endpoints = handle.sockets_to_pass()?;
        if handle.is_draining() {
            return Err(io::Error::other(
                "it came when this server was to end already",
            ));
        }
        let mut items: Vec<_> = endpoints.iter().map(Item::from).collect();
        let mut descriptors: Vec<BorrowedFd<'_>> = endpoints
            .iter()
            .flat_map(|it| it.sockets.iter().map(AsFd::as_fd))
            .collect();
        items.push(Item::one(What::Offer));
        descriptors.push(self.listener.as_fd());
        if let Some(admin) = extra {
            items.push(Item::one(What::Admin));
            descriptors.push(admin);
        }
        let header = Inventory::new(items).map_err(io::Error::other)?.to_json();
        let mut writer = stream;
        writer.write_all(&(header.len() as u32).to_be_bytes())?;
        writer.write_all(header.as_bytes())?;
        for some in descriptors.chunks(MAX_DESCRIPTORS) {
            send_descriptors(stream, some)?;
        }
        let passed = endpoints.len();
        drop(endpoints);
        let mut reply = String::new();
        // A successor that failed closes the connection without a word.
        BufReader::new(stream)
            .take(u64::from(MAX_HEADER_LEN))
            .read_line(&mut reply)?;
        if reply.is_empty() {
            return Err(io::Error::other("it ended before it served"));
        }
        let reply: Reply = serde_json::from_str(&reply)?;
        if reply.taken.iter().any(|&index| index >= passed) {
            return Err(io::Error::other("it took what we do not have"));
        }
        info!(
            endpoints = reply.taken.len(),
            "a successor serves; draining"
        );
        // First, because a server without connections may be gone a moment after it was told to let
        // go. It does not matter any more whether the successor hears this.
        let _ = writer.write_all(b"done\n");
        handle.release(&reply.taken);
        Ok(())
    }
}

/// What a predecessor passed on.
#[derive(Debug)]
pub struct Takeover {
    stream: UnixStream,
    /// The sockets of the endpoints that this server's configuration wants.
    pub endpoints: Vec<Inherited>,
    /// The admin port's listener, if there was one.
    pub admin: Option<OwnedFd>,
    offer: Option<OwnedFd>,
    taken: Vec<usize>,
    path: PathBuf,
}

impl Takeover {
    /// Asks the server that waits on `path` for its sockets; `None` if there is none.
    ///
    /// # Errors
    /// [`TakeoverError`] when there is one and it does not answer as it should.
    pub fn ask(path: &Path, config: &Config) -> Result<Option<Self>, TakeoverError> {
        let fail = |source| TakeoverError {
            path: path.to_owned(),
            source,
        };
        let stream = match unix::connect(path) {
            Ok(stream) => stream,
            // Nobody was ever there, or nobody is any more.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        Self::receive(stream, path, config).map(Some).map_err(fail)
    }

    fn receive(stream: UnixStream, path: &Path, config: &Config) -> io::Result<Self> {
        check_peer(&stream)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut len = [0; 4];
        (&stream).read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > MAX_HEADER_LEN {
            return Err(io::Error::other("it does not speak our language"));
        }
        let mut header = vec![0; len as usize];
        (&stream).read_exact(&mut header)?;
        let inventory = Inventory::parse(&header).map_err(io::Error::other)?;
        let mut takeover = Self {
            stream,
            endpoints: Vec::new(),
            admin: None,
            offer: None,
            taken: Vec::new(),
            path: path.to_owned(),
        };
        let count = inventory.sockets();
        let mut descriptors = receive_descriptors(&takeover.stream, count)?.into_iter();
        let mut wanted = config.services.clone();
        for (index, item) in inventory.into_items().into_iter().enumerate() {
            let mut sockets: Vec<_> = descriptors.by_ref().take(item.sockets).collect();
            match item.what {
                What::Admin => takeover.admin = sockets.pop(),
                What::Offer => takeover.offer = sockets.pop(),
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
                    // Each at most once: what is taken must be served.
                    let place = wanted.iter().position(|(service, endpoint)| {
                        *service == inherited.service && *endpoint == inherited.configured
                    });
                    if let Some(place) = place {
                        wanted.swap_remove(place);
                    }
                    if place.is_some() || inherited.keeper == Keeper::ServiceManager {
                        takeover.taken.push(index);
                        takeover.endpoints.push(inherited);
                    }
                }
            }
        }
        Ok(takeover)
    }

    /// Tells the predecessor that its connections are served by the server of `handle` from now on,
    /// which makes it drain, and returns where to wait for the next successor. A predecessor that is
    /// gone has nothing against it.
    ///
    /// # Errors
    /// [`TakeoverError`] when it says no or does not answer: it goes on, and this server should end.
    pub fn confirm(self, handle: &Handle) -> Result<Offer, TakeoverError> {
        let path = self.path.clone();
        let offer = self
            .try_confirm()
            .map_err(|source| TakeoverError { path, source })?;
        handle.settle();
        Ok(offer)
    }

    fn try_confirm(self) -> io::Result<Offer> {
        let answer = match self.say_what_was_taken() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                String::new()
            }
            answer => answer?,
        };
        match answer.as_str() {
            "done\n" => {}
            "" => info!("the predecessor is gone"),
            _ => return Err(io::Error::other("it goes on itself")),
        }
        let Some(listener) = self.offer else {
            return Err(io::Error::other("it kept its end of the hand-over"));
        };
        match Offer::adopt(listener, &self.path) {
            // A predecessor that ended for another reason took the file with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Offer::bind(&self.path),
            offer => offer,
        }
    }

    fn say_what_was_taken(&self) -> io::Result<String> {
        let mut reply = serde_json::to_vec(&Reply {
            taken: self.taken.clone(),
        })?;
        reply.push(b'\n');
        (&self.stream).write_all(&reply)?;
        let mut answer = String::new();
        BufReader::new(&self.stream)
            .take(16)
            .read_line(&mut answer)?;
        Ok(answer)
    }
}

/// A predecessor that could not be replaced.
#[derive(Debug)]
pub struct TakeoverError {
    path: PathBuf,
    source: io::Error,
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

#[derive(Debug, Deserialize, Serialize)]
struct Reply {
    taken: Vec<usize>,
}

/// Only this user and root may have our sockets, or give us theirs.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?.uid;
    if peer.is_root() || peer == rustix::process::geteuid() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the other end is user {}", peer.as_raw()),
    ))
}

/// Sends one byte with descriptors, at most [`MAX_DESCRIPTORS`].
fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(
        stream,
        &[IoSlice::new(b"#")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives `count` descriptors, as many with each byte as [`send_descriptors`] put there.
fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    // Each message brings at least one, or is an error.
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = received.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                received.extend(descriptors);
            }
        }
        if received.len() == before {
            return Err(io::Error::other(
                "a descriptor did not arrive; is the limit on open files reached?",
            ));
        }
    }
    Ok(received)
}
