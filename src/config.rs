//! The configuration of a server as plain typed values, independent of their source (flags, a file,
//! a test).

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::faults::Faults;
use crate::net::affinity;
use crate::net::cidr::{Cidr, DEFAULT_IPV6_PREFIX};
use crate::net::endpoint::{Endpoint, HostPort};
use crate::net::memory;
use crate::net::tuning::Tuning;
use crate::service::Service;
use crate::tls::ServerTls;

/// The configuration of a [`Server`](crate::Server). [`Config::default`] echoes on
/// `tcp://127.0.0.1:7777` with every CPU that the process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The services and their endpoints.
    pub services: Vec<(Service, Endpoint)>,
    /// What goes wrong at each endpoint, in the order of `services`; endpoints beyond the end of this list
    /// have no faults.
    pub faults: Vec<Faults>,
    /// The number of workers, each a thread with its own event loop.
    pub workers: NonZeroUsize,
    /// Whether worker i is bound to the i-th CPU that the process may use, counting round.
    /// [`Balance::IncomingCpu`] always binds it.
    pub pin: bool,
    /// Whether a worker polls for events instead of sleeping.
    pub spin: Spin,
    /// How connections are distributed over the workers.
    pub balance: Balance,
    /// Permissions of the files of Unix sockets; by default the umask decides.
    pub unix_mode: Option<u32>,
    /// Whether chargen may be served over UDP, where a source address can be forged.
    pub udp_chargen: bool,
    /// Connections that the kernel may hold completed and not yet accepted, for each listener;
    /// the kernel cuts it to net.core.somaxconn (listen(2)).
    pub backlog: u32,
    /// Options of the listeners, inherited by every accepted connection.
    pub tuning: Tuning,
    /// Bytes of a worker's read buffer: the most that one read takes, and so the most memory for a
    /// peer that does not read.
    pub read_buffer: NonZeroUsize,
    /// The most memory, in bytes over all workers, for what peers have sent and do not read back:
    /// beyond it their input stays in the kernel. `None` is unlimited.
    pub backlog_memory: Option<u64>,
    /// Whether connections begin with a PROXY header, by which a proxy says whom it speaks for.
    pub proxy_protocol: ProxyProtocol,
    /// The environment variables that [`Service::Whoami`] tells, if they are set.
    pub whoami_env: Vec<String>,
    /// The certificate and key of every endpoint with TLS.
    pub tls: Option<ServerTls>,
    /// Access lists, maximum connections, rates and timeouts.
    pub limits: Limits,
    /// How long a drain continues accepting, so that load balancers notice the end of the server.
    pub drain_delay: Duration,
    /// How long a drain then lets open connections finish.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            services: vec![(
                Service::Echo,
                Endpoint::Tcp(HostPort {
                    host: "127.0.0.1".to_owned(),
                    port: 7777,
                }),
            )],
            faults: Vec::new(),
            workers: affinity::usable_cpus(),
            pin: false,
            spin: Spin::Never,
            balance: Balance::Kernel,
            unix_mode: None,
            udp_chargen: false,
            backlog: 4096,
            tuning: Tuning::default(),
            read_buffer: const { NonZeroUsize::new(256 << 10).unwrap() },
            backlog_memory: Some(memory::share_for_backlogs()),
            proxy_protocol: ProxyProtocol::default(),
            whoami_env: DEFAULT_WHOAMI_ENV.map(str::to_owned).to_vec(),
            tls: None,
            limits: Limits::default(),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Whether each worker is bound to a CPU: by configuration, or because it serves that CPU's
    /// packets.
    pub fn pins_workers(&self) -> bool {
        self.pin || self.balance == Balance::IncomingCpu
    }

    /// Each endpoint with its service, and with its faults if it has any.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (Service, &Endpoint, Option<&Faults>)> {
        let services = self.services.iter().enumerate();
        services.map(|(index, (service, endpoint))| {
            let faults = self
                .faults
                .get(index)
                .filter(|it| **it != Faults::default());
            (*service, endpoint, faults)
        })
    }

    /// Takes the faults that another configuration has for the same endpoints. Endpoints that it does not
    /// have keep theirs.
    pub(crate) fn take_faults(&mut self, other: &Self) {
        let mut others: Vec<_> = other.endpoints().collect();
        self.faults.resize(self.services.len(), Faults::default());
        for ((service, endpoint), faults) in self.services.iter().zip(&mut self.faults) {
            let same = others
                .iter()
                .position(|it| it.0 == *service && it.1 == endpoint);
            if let Some(same) = same {
                // Each once: endpoints with port 0 look alike.
                *faults = others.remove(same).2.cloned().unwrap_or_default();
            }
        }
    }

    /// What speaks against a service on an endpoint, if anything does.
    pub(crate) fn objection(&self, service: Service, endpoint: &Endpoint) -> Option<&'static str> {
        match (service, endpoint) {
            (Service::Chargen, Endpoint::Udp(_)) if !self.udp_chargen => {
                Some("would answer to forged addresses; set udp-chargen as well if it is meant")
            }
            (Service::Chargen, Endpoint::Unix(_)) => {
                Some("can't be: Unix sockets have echo and discard; write tcp://HOST:PORT")
            }
            _ => None,
        }
    }
}

/// The default of [`Config::whoami_env`]: by these names orchestrators and their users say which
/// instance it is.
const DEFAULT_WHOAMI_ENV: [&str; 5] = [
    "HOSTNAME",
    "POD_NAME",
    "POD_NAMESPACE",
    "NODE_NAME",
    "SERVICE_NAME",
];

/// The default of [`Limits::udp_rate_per_source`]. No client of an echo for diagnosis sends as
/// much, and an exchange that a forged datagram starts between two servers ends or stays below it.
pub(crate) const DEFAULT_UDP_RATE_PER_SOURCE: f64 = 1000.0;

/// The default of [`Limits::handshake_timeout`]: several retransmissions of a lost segment, and a key
/// on slow hardware.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Access lists, maximum connections, rates and timeouts: everything that may change while the
/// server runs. `None` and empty mean unlimited, which is the default of all but
/// `udp_rate_per_source` and `handshake_timeout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The most connections open at a time over all workers; further ones are accepted and closed.
    pub max_connections: Option<NonZeroUsize>,
    /// The most connections open at a time from one source: an IPv4 address, or an IPv6 network of
    /// `ipv6_prefix`.
    pub max_connections_per_ip: Option<NonZeroUsize>,
    /// The most new connections served per second, above 0, with a burst of one second's worth;
    /// further ones are accepted and closed.
    pub accept_rate: Option<f64>,
    /// The same for each source.
    pub accept_rate_per_ip: Option<f64>,
    /// The length of the IPv6 prefix that counts as one source, from 1 to 128. Connections that are
    /// open when it changes still count for their earlier source.
    pub ipv6_prefix: u8,
    /// Addresses that are served. Empty: all addresses that are not denied.
    pub allow: Vec<Cidr>,
    /// Addresses that are not served. Of all prefixes here and in `allow` that contain an address,
    /// the longest decides; a prefix in both lists denies.
    pub deny: Vec<Cidr>,
    /// Closes a connection after this time without a byte in either direction.
    pub idle_timeout: Option<Duration>,
    /// Closes a connection on which fewer than `stall_bytes` moved in this time.
    pub stall_timeout: Option<Duration>,
    /// Bytes, both directions together, that a connection has to move within each `stall_timeout`.
    pub stall_bytes: u64,
    /// Closes a connection this long after it was accepted, busy or not.
    pub lifetime: Option<Duration>,
    /// Closes a connection whose PROXY header or TLS handshake is not complete after this time.
    pub handshake_timeout: Option<Duration>,
    /// The senders of PROXY headers that are believed. Without any, none is, except over Unix sockets,
    /// where the permissions of the file decide.
    pub proxy_from: Vec<Cidr>,
    /// The most datagrams answered per second over all sources, above 0, with a burst of one
    /// second's worth; further ones are dropped.
    pub udp_rate: Option<f64>,
    /// The same for each source. It keeps two servers from answering each other for ever after one
    /// forged datagram.
    pub udp_rate_per_source: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_ip: None,
            accept_rate: None,
            accept_rate_per_ip: None,
            ipv6_prefix: DEFAULT_IPV6_PREFIX,
            allow: Vec::new(),
            deny: Vec::new(),
            idle_timeout: None,
            stall_timeout: None,
            stall_bytes: 1024,
            lifetime: None,
            handshake_timeout: Some(DEFAULT_HANDSHAKE_TIMEOUT),
            proxy_from: Vec::new(),
            udp_rate: None,
            udp_rate_per_source: Some(DEFAULT_UDP_RATE_PER_SOURCE),
        }
    }
}

/// How TCP connections are distributed over the workers. A Unix socket has one listener, and its
/// connections always go to the worker with the fewest. The kernel distributes datagrams, by a hash
/// or by CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// The kernel, by a hash of the addresses: each worker has a listener (SO_REUSEPORT).
    #[default]
    Kernel,
    /// One worker accepts and hands each connection to the worker with the fewest.
    LeastConnections,
    /// The kernel, by the CPU on which a connect comes in: every worker is bound to a CPU and
    /// serves what arrives there, so that no thread on another CPU has to be woken
    /// (SO_INCOMING_CPU). For CPUs without a worker the hash decides; before Linux 6.2 it decides
    /// for all. Each datagram goes to the worker of its own CPU, so a peer that changes CPUs may
    /// get answers out of order.
    IncomingCpu,
}

impl Balance {
    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::LeastConnections => "least-connections",
            Self::IncomingCpu => "incoming-cpu",
        }
    }
}

/// Whether connections over TCP and Unix sockets begin with a header of the PROXY protocol, version 1
/// or 2.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyProtocol {
    /// No: a header is input as any other.
    #[default]
    Off,
    /// Those from [`Limits::proxy_from`] may. Until it is certain that one does not, or the handshake
    /// timeout is over, its service does not begin.
    Accept,
    /// All do, and come from [`Limits::proxy_from`]; others are closed.
    Require,
}

impl ProxyProtocol {
    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Accept => "accept",
            Self::Require => "require",
        }
    }
}

/// Whether an idle worker polls instead of sleeping. While it polls it answers sooner, because it
/// need not be woken, and uses a whole CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Spin {
    /// Sleep at once.
    #[default]
    Never,
    /// Stay awake for this long after the last event.
    For(Duration),
    /// Adapt the time to recent arrivals, at most 100 µs.
    Auto,
    /// Never sleep.
    Always,
}
