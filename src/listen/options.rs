//! The options of sockets that a predecessor passed on. They are set once this process may serve on
//! them and not before: until then the predecessor serves on the same sockets, and its connections
//! inherit what is set there.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use socket2::Socket;

use super::{Bound, Sockets};
use crate::config::Config;
use crate::error::Error;
use crate::net::datagram;
use crate::net::endpoint::Endpoint;
use crate::net::tcp::{self, ListenError};
use crate::net::tuning::Tuning;

/// Other descriptors of the sockets, with what is to be set on them.
#[derive(Debug, Default)]
pub(crate) struct InheritedOptions {
    sockets: Vec<Inheritance>,
    tuning: Tuning,
    backlog: u32,
}

#[derive(Debug)]
struct Inheritance {
    /// As configured.
    endpoint: Endpoint,
    socket: Socket,
    kind: Kind,
    /// The CPU whose packets it takes.
    cpu: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
}

impl InheritedOptions {
    /// The options of all sockets of a predecessor, none of which is set yet. `cpu_of` says which
    /// CPU's packets a socket takes, by the index of its endpoint and its own.
    ///
    /// # Errors
    /// The options that the kernel refuses, tried on a new socket, or what dup(2) reports.
    pub(crate) fn of(
        bound: &[Bound],
        config: &Config,
        cpu_of: impl Fn(usize, usize) -> Option<usize>,
    ) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for (index, it) in bound.iter().enumerate() {
            if !it.is_of_predecessor() {
                continue;
            }
            let kind = match it.sockets {
                Sockets::Tcp(_) => Kind::Tcp,
                Sockets::Udp(_) => Kind::Udp,
                // It has none of these options.
                Sockets::Unix(_) => continue,
            };
            let descriptors = it.sockets.descriptors().into_iter();
            for (number, socket) in descriptors.take(it.inherited).enumerate() {
                let socket = socket.try_clone_to_owned().map_err(Error::Handover)?;
                let socket = Socket::from(socket);
                try_on_new_socket(&socket, kind, &config.tuning)
                    .map_err(|error| super::fail(&it.configured, None, error))?;
                sockets.push(Inheritance {
                    endpoint: it.configured.clone(),
                    socket,
                    kind,
                    cpu: cpu_of(index, number),
                });
            }
        }
        Ok(Self {
            sockets,
            tuning: config.tuning.clone(),
            backlog: config.backlog,
        })
    }

    /// Sets the options. What is not configured gets the kernel's default, whatever the predecessor
    /// had set.
    ///
    /// # Errors
    /// [`Error::Tuning`] or [`Error::Bind`] names the endpoint.
    pub(crate) fn set(self) -> Result<(), Error> {
        for it in self.sockets {
            let Inheritance {
                endpoint,
                socket,
                kind,
                cpu,
            } = it;
            let set = match kind {
                Kind::Tcp => set_on_listener(socket, &self.tuning, self.backlog, cpu),
                Kind::Udp => datagram::prepare_inherited(&socket, &self.tuning)
                    .and_then(|()| prefer_cpu(&socket, cpu)),
            };
            set.map_err(|error| super::fail(&endpoint, None, error))?;
        }
        Ok(())
    }
}

fn try_on_new_socket(like: &Socket, kind: Kind, tuning: &Tuning) -> Result<(), ListenError> {
    let fresh = Socket::new(like.domain()?, like.r#type()?, like.protocol()?)?;
    match kind {
        Kind::Tcp => tuning.apply(&fresh)?,
        Kind::Udp => tuning.apply_buffers(&fresh)?,
    }
    Ok(())
}

fn set_on_listener(
    socket: Socket,
    tuning: &Tuning,
    backlog: u32,
    cpu: Option<usize>,
) -> Result<(), ListenError> {
    tcp::prepare_inherited(&socket, tuning)?;
    prefer_cpu(&socket, cpu)?;
    let listener = TcpListener::from(OwnedFd::from(socket));
    // Our backlog may differ from the predecessor's.
    Ok(tcp::set_backlog(&listener, backlog)?)
}

/// Sets or resets SO_INCOMING_CPU.
pub(crate) fn prefer_cpu(socket: &impl AsFd, cpu: Option<usize>) -> Result<(), ListenError> {
    match tcp::prefer_cpu(socket, cpu) {
        // A kernel that can't reset the option never had it set.
        Err(_) if cpu.is_none() => Ok(()),
        result => Ok(result?),
    }
}
