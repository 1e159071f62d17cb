//! From endpoints to sockets: bound anew, inherited from a service manager, or handed over by a
//! predecessor.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use socket2::{Domain, SockRef, Socket, Type};

use crate::config::{Balance, Config};
use crate::error::Error;
use crate::net::datagram;
use crate::net::endpoint::Endpoint;
use crate::net::tcp::{self, ListenError};
use crate::net::tuning::Tuning;
use crate::net::unix::{self, SocketFile};
use crate::service::Service;

mod listener;
mod options;
mod passed;

pub(crate) use listener::{Listener, Owner};
pub(crate) use options::{InheritedOptions, prefer_cpu};
pub(crate) use passed::endpoint_of_passed;

/// Sockets of an endpoint that another process bound and passed to this one.
#[derive(Debug)]
pub struct Inherited {
    /// The service on these sockets.
    pub service: Service,
    /// The endpoint as the configuration names it.
    pub configured: Endpoint,
    /// The sockets, at least one.
    pub sockets: Vec<OwnedFd>,
    /// The other process that keeps them open.
    pub keeper: Keeper,
}

/// The other process that keeps a passed socket open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keeper {
    /// The server that this one replaces, until it has drained.
    Predecessor,
    /// A service manager, for the next process that it starts.
    ServiceManager,
}

impl Inherited {
    /// Other descriptors of the same sockets.
    ///
    /// # Errors
    /// What dup(2) reports.
    pub fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone);
        Ok(Self {
            service: self.service,
            configured: self.configured.clone(),
            sockets: sockets.collect::<io::Result<_>>()?,
            keeper: self.keeper,
        })
    }
}

/// An endpoint with its sockets.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) service: Service,
    /// As in the configuration, by which a successor identifies it.
    pub(crate) configured: Endpoint,
    /// As bound, with the port that the kernel chose.
    pub(crate) endpoint: Endpoint,
    pub(crate) sockets: Sockets,
    pub(crate) owner: Owner,
    /// How many of the sockets, the first ones, were inherited. If there are any, the others were
    /// bound beside them and do not listen yet.
    pub(crate) inherited: usize,
}

/// The sockets of one endpoint.
#[derive(Debug)]
pub(crate) enum Sockets {
    /// One shared listener, or at least one for each worker.
    Tcp(Vec<TcpListener>),
    /// One for each worker, or the sockets that were passed on.
    Udp(Vec<UdpSocket>),
    /// The only listener that a path can have.
    Unix(UnixListener),
}

impl Bound {
    /// Whether the socket with this index was bound beside inherited ones.
    pub(crate) fn is_beside(&self, index: usize) -> bool {
        self.inherited > 0 && index >= self.inherited
    }

    /// Whether a predecessor passed sockets on, and serves on them until it has released them. A
    /// service manager does not serve.
    pub(crate) fn is_of_predecessor(&self) -> bool {
        self.inherited > 0 && self.owner != Owner::Another
    }

    /// Other descriptors of the sockets that were bound beside inherited ones.
    pub(crate) fn beside(&self) -> io::Result<Vec<TcpListener>> {
        match &self.sockets {
            Sockets::Tcp(sockets) if self.inherited > 0 => {
                let beside = sockets.iter().skip(self.inherited);
                beside.map(TcpListener::try_clone).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Other descriptors of the same sockets, for a successor.
    pub(crate) fn to_pass(&self) -> io::Result<Inherited> {
        let descriptors = self.sockets.descriptors().into_iter();
        Ok(Inherited {
            service: self.service,
            configured: self.configured.clone(),
            sockets: descriptors
                .map(|it| it.try_clone_to_owned())
                .collect::<io::Result<_>>()?,
            keeper: match self.owner {
                Owner::Us | Owner::UsWithFile(_) => Keeper::Predecessor,
                Owner::Another => Keeper::ServiceManager,
            },
        })
    }
}

impl Sockets {
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Tcp(sockets) => sockets.iter().map(AsFd::as_fd).collect(),
            Self::Udp(sockets) => sockets.iter().map(AsFd::as_fd).collect(),
            Self::Unix(socket) => vec![socket.as_fd()],
        }
    }
}

/// Binds every endpoint of the configuration, or adopts its sockets if they were passed on. Passed
/// sockets that the configuration does not name are served if a service manager passed them, and
/// closed otherwise.
///
/// Nothing here affects a running predecessor: what is bound beside inherited sockets does not
/// listen yet.
pub(crate) fn bind_all(
    config: &Config,
    mut inherited: Vec<Inherited>,
) -> Result<Vec<Bound>, Error> {
    let mut passed = Vec::with_capacity(config.services.len());
    for (service, endpoint) in &config.services {
        let index = inherited
            .iter()
            .position(|it| it.configured == *endpoint && it.service == *service);
        passed.push(index.map(|index| inherited.remove(index)));
    }
    // Files of sockets that no other server uses: removed if a later endpoint can't be bound.
    let mut fresh_files = Vec::new();
    let all = bind_missing(config, passed, &mut fresh_files).and_then(|mut all| {
        for left in inherited {
            if left.keeper == Keeper::ServiceManager {
                all.push(adopt(left, config)?);
            }
        }
        for bound in &mut all {
            bound.add_missing(config)?;
        }
        Ok(all)
    });
    all.inspect_err(|_| fresh_files.iter().for_each(SocketFile::remove))
}

/// Binds the endpoints for which no socket was passed on, and then adopts the sockets of the others.
fn bind_missing(
    config: &Config,
    passed: Vec<Option<Inherited>>,
    fresh_files: &mut Vec<SocketFile>,
) -> Result<Vec<Bound>, Error> {
    let mut fresh = Vec::with_capacity(passed.len());
    for ((service, endpoint), passed) in config.services.iter().zip(&passed) {
        if passed.is_none() {
            let bound = bind(*service, endpoint, config)?;
            if let Owner::UsWithFile(file) = &bound.owner {
                fresh_files.push(file.clone());
            }
            fresh.push(bound);
        }
    }
    let mut fresh = fresh.into_iter();
    let in_order = passed.into_iter().filter_map(|passed| match passed {
        Some(inherited) => Some(adopt(inherited, config)),
        None => fresh.next().map(Ok),
    });
    in_order.collect()
}

/// The endpoint that a socket is bound to.
///
/// # Errors
/// What getsockname(2) reports, and `InvalidInput` for an unsupported kind of socket.
pub(crate) fn endpoint_of(socket: &impl AsFd) -> io::Result<Endpoint> {
    let socket = SockRef::from(socket);
    let address = socket.local_addr()?;
    let is_stream = socket.r#type()? == Type::STREAM;
    if let Some(address) = address.as_socket() {
        return Ok(if is_stream {
            Endpoint::Tcp(address.into())
        } else {
            Endpoint::Udp(address.into())
        });
    }
    match address.as_pathname() {
        Some(path) if is_stream => Ok(Endpoint::Unix(path.to_owned())),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a TCP, UDP or Unix stream socket with an address",
        )),
    }
}

/// Binds one endpoint. A name with several addresses is bound on the first.
fn bind(service: Service, configured: &Endpoint, config: &Config) -> Result<Bound, Error> {
    let (sockets, owner) = match configured {
        Endpoint::Tcp(_) | Endpoint::Tls(_) => {
            let address = resolve(configured)?;
            let count = match config.balance {
                Balance::Kernel | Balance::IncomingCpu => config.workers.get(),
                Balance::LeastConnections => 1,
            };
            let tuning = tuning_for(configured, address, config);
            let sockets = tcp::listen(address, count, config.backlog, &tuning)
                .map_err(|error| fail(configured, Some(address), error))?;
            (Sockets::Tcp(sockets), Owner::Us)
        }
        Endpoint::Udp(_) => {
            let address = resolve(configured)?;
            let tuning = tuning_for(configured, address, config);
            let sockets = datagram::datagram_sockets(address, config.workers.get(), &tuning)
                .map_err(|error| fail(configured, Some(address), error))?;
            (Sockets::Udp(sockets), Owner::Us)
        }
        Endpoint::Unix(path) => {
            let (socket, file) = unix::listen(path, config.backlog, config.unix_mode)
                .map_err(|source| fail(configured, None, ListenError::Bind(source)))?;
            (Sockets::Unix(socket), Owner::UsWithFile(file))
        }
    };
    let mut bound = Bound {
        service,
        configured: configured.clone(),
        endpoint: configured.clone(),
        sockets,
        owner,
        inherited: 0,
    };
    bound.name_as_bound()?;
    Ok(bound)
}

fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, Error> {
    let fail = |source| Error::Resolve {
        endpoint: endpoint.clone(),
        source,
    };
    let addresses = endpoint.resolve().map_err(fail)?;
    // `resolve` reports an empty answer as an error.
    addresses
        .first()
        .copied()
        .ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
}

/// The socket options of an endpoint. An IPv6 wildcard takes IPv4 connections as well, unless the
/// configuration has an IPv4 endpoint at the same port.
fn tuning_for(endpoint: &Endpoint, address: SocketAddr, config: &Config) -> Tuning {
    let same_transport = |other: &Endpoint| other.has_socket_like(endpoint) && other != endpoint;
    let is_of_ipv4 = |other: &Endpoint| {
        other.resolve().is_ok_and(|addresses| {
            let first = addresses.first();
            first.is_some_and(|it| it.is_ipv4() && it.port() == address.port())
        })
    };
    Tuning {
        only_v6: address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            && address.port() != 0
            && config
                .services
                .iter()
                .any(|(_, other)| same_transport(other) && is_of_ipv4(other)),
        ..config.tuning.clone()
    }
}

/// Takes over sockets that another process passed on.
fn adopt(inherited: Inherited, config: &Config) -> Result<Bound, Error> {
    let Inherited {
        service,
        configured,
        sockets,
        keeper,
    } = inherited;
    let fail = |error| fail(&configured, None, error);
    let mut owner = match keeper {
        Keeper::Predecessor => Owner::Us,
        Keeper::ServiceManager => Owner::Another,
    };
    let sockets = match &configured {
        Endpoint::Tcp(_) | Endpoint::Tls(_) => {
            let mut listeners = Vec::with_capacity(sockets.len());
            for socket in sockets {
                // Those of a predecessor follow once it grants the sockets.
                let tuning = (keeper == Keeper::ServiceManager).then_some(&config.tuning);
                listeners.push(tcp::adopt_listener(socket, tuning).map_err(fail)?);
            }
            Sockets::Tcp(listeners)
        }
        Endpoint::Udp(_) => {
            let mut adopted = Vec::with_capacity(sockets.len());
            for socket in sockets {
                let tuning = (keeper == Keeper::ServiceManager).then_some(&config.tuning);
                adopted.push(datagram::adopt_datagram_socket(socket.into(), tuning).map_err(fail)?);
            }
            Sockets::Udp(adopted)
        }
        Endpoint::Unix(path) => {
            let socket = sockets
                .into_iter()
                .next()
                .ok_or_else(|| fail(ListenError::Socket(io::ErrorKind::InvalidInput.into())))?;
            let socket = adopt_unix(socket).map_err(|it| fail(ListenError::Socket(it)))?;
            if owner == Owner::Us {
                match SocketFile::at(path) {
                    Ok(file) => owner = Owner::UsWithFile(file),
                    // The predecessor was told to end just now, and says so when it is asked for
                    // the grant.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(fail(ListenError::Socket(error))),
                }
            }
            Sockets::Unix(socket)
        }
    };
    let mut bound = Bound {
        service,
        endpoint: configured.clone(),
        configured,
        inherited: sockets.descriptors().len(),
        sockets,
        owner,
    };
    bound.name_as_bound()?;
    Ok(bound)
}

fn adopt_unix(socket: OwnedFd) -> io::Result<UnixListener> {
    let socket = Socket::from(socket);
    if socket.domain()? != Domain::UNIX || !socket.is_listener()? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    Ok(OwnedFd::from(socket).into())
}

impl Bound {
    /// Binds more sockets for an inherited endpoint until each worker has one. Once they listen,
    /// the kernel gives some connections to this process only.
    fn add_missing(&mut self, config: &Config) -> Result<(), Error> {
        let Sockets::Tcp(listeners) = &mut self.sockets else {
            return Ok(());
        };
        let missing = config.workers.get().saturating_sub(listeners.len());
        if self.owner != Owner::Us || config.balance == Balance::LeastConnections || missing == 0 {
            return Ok(());
        }
        let Some(first) = listeners.first() else {
            return Ok(());
        };
        let more = first
            .local_addr()
            .map_err(ListenError::Socket)
            .and_then(|address| {
                let tuning = tuning_for(&self.configured, address, config);
                tcp::bind_beside(address, missing, &tuning)
            });
        listeners.extend(more.map_err(|error| fail(&self.configured, None, error))?);
        Ok(())
    }

    /// Sets the endpoint to the first socket's address.
    fn name_as_bound(&mut self) -> Result<(), Error> {
        if let Some(first) = self.sockets.descriptors().first() {
            let bound = endpoint_of(first)
                .map_err(|source| fail(&self.configured, None, ListenError::Socket(source)))?;
            self.endpoint = match (&self.configured, bound) {
                (Endpoint::Tls(_), Endpoint::Tcp(address)) => Endpoint::Tls(address),
                (_, bound) => bound,
            };
        }
        Ok(())
    }
}

/// The error of an endpoint.
pub(crate) fn fail(endpoint: &Endpoint, address: Option<SocketAddr>, error: ListenError) -> Error {
    match error {
        ListenError::Bind(source) | ListenError::Socket(source) => Error::Bind {
            endpoint: endpoint.clone(),
            address,
            source,
        },
        ListenError::Tuning(source) => Error::Tuning {
            endpoint: endpoint.clone(),
            source,
        },
    }
}
