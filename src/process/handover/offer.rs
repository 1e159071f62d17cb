//! The running server's side: it offers its sockets to a successor.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use super::inventory::{Inventory, Item, What};
use super::protocol::{self, MAX_DESCRIPTORS, MAX_HEADER_LEN, Reply};
use crate::net::unix::{self, SocketFile};
use crate::server::Handle;

/// The backlog of the hand-over socket.
const MAX_WAITING: u32 = 16;

/// The socket on which a running server waits for its successor.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    file: SocketFile,
}

impl Offer {
    /// Listens on a path that only this user and root may connect to.
    ///
    /// # Errors
    /// As [`unix::listen`].
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = unix::listen(path, MAX_WAITING, Some(0o600))?;
        listener.set_nonblocking(false)?;
        Ok(Self { listener, file })
    }

    /// Takes over the predecessor's socket.
    ///
    /// # Errors
    /// When the path no longer leads to a file.
    pub fn adopt(listener: OwnedFd, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(false)?;
        let file = SocketFile::at(path)?;
        Ok(Self { listener, file })
    }

    /// The socket file, which a server without a successor removes.
    pub fn file(&self) -> &SocketFile {
        &self.file
    }

    /// Answers successors until one has taken over. `extra` is passed on with the endpoints.
    pub fn serve(&self, handle: &Handle, extra: Option<BorrowedFd<'_>>) {
        while !handle.is_draining() {
            match self.listener.accept() {
                Ok((stream, _)) => match self.pass_on(&stream, handle, extra) {
                    Ok(()) => {}
                    Err(error) => {
                        warn!(%error, "a successor did not take over; still serving");
                        // A close without a line would mean that this server is gone.
                        let _ = (&stream).write_all(b"no\n");
                        if !handle.is_draining() {
                            handle.settle();
                        }
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Descriptors or memory ran out, perhaps for long; an immediate retry would
                    // spin.
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
        protocol::begin(stream)?;
        let endpoints = handle.sockets_to_pass()?;
        if handle.is_draining() {
            return Err(io::Error::other(
                "it came after this server was told to end",
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
            protocol::send_descriptors(stream, some)?;
        }
        let passed = endpoints.len();
        drop(endpoints);
        let mut reply = String::new();
        // A failed successor closes the connection without a line.
        BufReader::new(stream)
            .take(u64::from(MAX_HEADER_LEN))
            .read_line(&mut reply)?;
        if reply.is_empty() {
            return Err(io::Error::other("it ended before it served"));
        }
        let reply: Reply = serde_json::from_str(&reply)?;
        if reply.taken.iter().any(|&index| index >= passed) {
            return Err(io::Error::other(
                "it took endpoints that this server does not have",
            ));
        }
        info!(
            endpoints = reply.taken.len(),
            "a successor serves; draining"
        );
        // The line is sent first, because a server without connections may end at once after the
        // release. A failed write no longer matters.
        let _ = writer.write_all(b"done\n");
        handle.release(&reply.taken);
        Ok(())
    }
}
