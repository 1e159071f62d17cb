//! The successor's side: it takes sockets over from a running server.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tracing::info;

use super::inventory::{Inventory, What};
use super::offer::Offer;
use super::protocol::{self, MAX_HEADER_LEN, Reply};
use crate::config::Config;
use crate::listen::{Inherited, Keeper};
use crate::net::unix;
use crate::server::Handle;

/// The sockets that a predecessor passed on.
#[derive(Debug)]
pub struct Takeover {
    stream: UnixStream,
    /// The sockets of the endpoints in this server's configuration.
    pub endpoints: Vec<Inherited>,
    /// The admin port's listener, if the predecessor had one.
    pub admin: Option<OwnedFd>,
    offer: Option<OwnedFd>,
    taken: Vec<usize>,
    path: PathBuf,
}

impl Takeover {
    /// Asks the server that listens on `path` for its sockets; `None` if there is no server.
    ///
    /// # Errors
    /// [`TakeoverError`] when the server violates the protocol.
    pub fn ask(path: &Path, config: &Config) -> Result<Option<Self>, TakeoverError> {
        let fail = |source| TakeoverError {
            path: path.to_owned(),
            source,
        };
        let stream = match unix::connect(path) {
            Ok(stream) => stream,
            // There is no server, or it has ended.
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
        protocol::begin(&stream)?;
        let mut len = [0; 4];
        (&stream).read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > MAX_HEADER_LEN {
            return Err(io::Error::other("it does not speak this protocol"));
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
        let mut descriptors = protocol::receive_descriptors(&takeover.stream, count)?.into_iter();
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
                    // Each endpoint at most once: every taken socket must be served.
                    let wanted_at = wanted.iter().position(|(service, endpoint)| {
                        *service == inherited.service && *endpoint == inherited.configured
                    });
                    if let Some(at) = wanted_at {
                        wanted.swap_remove(at);
                    }
                    if wanted_at.is_some() || inherited.keeper == Keeper::ServiceManager {
                        takeover.taken.push(index);
                        takeover.endpoints.push(inherited);
                    }
                }
            }
        }
        Ok(takeover)
    }

    /// Tells the predecessor that the server of `handle` serves its endpoints from now on, which
    /// makes it drain, and returns the socket for the next successor. A predecessor that has ended
    /// counts as agreeing.
    ///
    /// # Errors
    /// [`TakeoverError`] when it refuses or does not answer: it keeps serving, and this server
    /// should end.
    pub fn confirm(self, handle: &Handle) -> Result<Offer, TakeoverError> {
        let path = self.path.clone();
        let offer = self
            .try_confirm()
            .map_err(|source| TakeoverError { path, source })?;
        handle.settle();
        Ok(offer)
    }

    fn try_confirm(self) -> io::Result<Offer> {
        let answer = match self.report_taken() {
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
            _ => return Err(io::Error::other("it keeps serving")),
        }
        let Some(listener) = self.offer else {
            return Err(io::Error::other("it did not pass on the hand-over socket"));
        };
        match Offer::adopt(listener, &self.path) {
            // A predecessor that ended for another reason has removed the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Offer::bind(&self.path),
            offer => offer,
        }
    }

    fn report_taken(&self) -> io::Result<String> {
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
