//! Everything a server can be told, as plain typed values. Where they come from (flags, a file, a
//! test) is not known here.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::affinity;
use crate::net::cidr::Cidr;
use crate::net::endpoint::{Endpoint, HostPort};
use crate::net::tuning::Tuning;
use crate::service::Service;

/// The configuration of a [`Server`](crate::Server). [`Config::default`] echoes on
/// `tcp://127.0.0.1:7777` with every CPU that the process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What to serve and where.
    pub services: Vec<(Service, Endpoint)>,
    /// How many workers, each a thread with an event loop of its own.
    pub workers: NonZeroUsize,
    /// Whether worker i is bound to the i-th CPU that the process may use, counting round.
    /// [`Balance::IncomingCpu`] binds it whatever this says.
    pub pin: bool,
    /// Whether a worker waits for events awake.
    pub spin: Spin,
    /// Who decides which worker serves a connection.
    pub balance: Balance,
    /// Permissions of the files of Unix sockets; without them the umask decides.
    pub unix_mode: Option<u32>,
    /// Whether chargen may be served over UDP, where anyone can ask in another's name.
    pub udp_chargen: bool,
    /// Where to offer metrics, health and information over HTTP.
    pub admin: Option<HostPort>,
    /// The Unix socket over which a new process takes the listening sockets over from a running one.
    pub handover: Option<PathBuf>,
    /// Connections that the kernel may hold completed and not yet accepted, for each listener;
    /// the kernel cuts it to net.core.somaxconn (listen(2)).
    pub backlog: u32,
    /// Options of the listeners, inherited by every accepted connection.
    pub tuning: Tuning,
    /// Bytes of a worker's read buffer: the most that one read takes, and so the most that the
    /// server keeps in memory for a peer that does not read.
    pub read_buffer: NonZeroUsize,
    /// Who is served, how many and how long.
    pub limits: Limits,
    /// How long a drain goes on accepting, so that load balancers notice that the server leaves.
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
            workers: affinity::usable_cpus(),
            pin: false,
            spin: Spin::Never,
            balance: Balance::Kernel,
            unix_mode: None,
            udp_chargen: false,
            admin: None,
            handover: None,
            backlog: 4096,
            tuning: Tuning::default(),
            read_buffer: const { NonZeroUsize::new(256 << 10).unwrap() },
            limits: Limits::default(),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Whether each worker is bound to a CPU: because that is asked for, or because it serves what
    /// comes in there.
    pub fn pins_workers(&self) -> bool {
        self.pin || self.balance == Balance::IncomingCpu
    }
}

/// Who is served, how many and how long: all that may change while the server runs. What is `None`
/// or empty is not limited, which is the default of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The most connections open at a time over all workers; more are accepted and closed.
    pub max_connections: Option<NonZeroUsize>,
    /// The most connections open at a time from one IPv4 address or one IPv6 /64.
    pub max_connections_per_ip: Option<NonZeroUsize>,
    /// The most connections served anew per second, above 0, with a burst of as many as a second
    /// brings; more are accepted and closed.
    pub accept_rate: Option<f64>,
    /// Addresses that are served. Empty: all that are not denied.
    pub allow: Vec<Cidr>,
    /// Who is not served. Of several prefixes with an address, here and in `allow`, the longest
    /// decides, and of the same in both this one.
    pub deny: Vec<Cidr>,
    /// Closes a connection on which no byte moved for this long.
    pub idle_timeout: Option<Duration>,
    /// Closes a connection on which fewer than `stall_bytes` moved in this time.
    pub stall_timeout: Option<Duration>,
    /// Bytes, both directions together, that a connection has to move within each `stall_timeout`.
    pub stall_bytes: u64,
    /// Closes a connection this long after it was accepted, busy or not.
    pub lifetime: Option<Duration>,
    /// The most datagrams answered per second over all sources, above 0, with a burst of as many
    /// as a second brings; more are dropped.
    pub udp_rate: Option<f64>,
    /// The same for each source: an IPv4 address or an IPv6 /64.
    pub udp_rate_per_source: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_ip: None,
            accept_rate: None,
            allow: Vec::new(),
            deny: Vec::new(),
            idle_timeout: None,
            stall_timeout: None,
            stall_bytes: 1024,
            lifetime: None,
            udp_rate: None,
            udp_rate_per_source: None,
        }
    }
}

/// Who decides which worker serves a TCP connection. One of a Unix socket, of which there is only
/// one, always goes to the worker with the fewest. Datagrams are the kernel's to spread, by a hash or
/// by CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// The kernel, by a hash of the addresses: each worker has a listener (SO_REUSEPORT).
    #[default]
    Kernel,
    /// One worker accepts and gives each connection to the worker that has the fewest.
    LeastConnections,
    /// The kernel, by the CPU that a connect comes in on: every worker is bound to its CPU and serves
    /// what arrives there, so that no thread on another CPU has to be woken (SO_INCOMING_CPU). For CPUs
    /// without a worker the hash decides, and on a kernel before Linux 6.2 it does for all. Each
    /// datagram goes by its own CPU, so those of a peer that moves may be answered out of order.
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

/// Whether a worker with nothing to do asks the kernel again and again instead of sleeping. Awake it
/// answers sooner, because it need not be woken, and uses a whole CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Spin {
    /// Sleep at once.
    #[default]
    Never,
    /// Stay awake for this long after the last event.
    For(Duration),
    /// Stay awake for as long as that paid lately, at most 100 µs.
    Auto,
    /// Never sleep.
    Always,
}
