//! The servers that can be measured, each a command line in which placeholders stand for what differs
//! from turn to turn.

use std::io;
use std::process::Command;

use crate::client::{Service, Shape, Workload};
use crate::programs::Programs;
use crate::server::{self, Launch, Watcher};
use crate::sys;

/// A server with a process for each connection is not asked for more.
const MAX_FORKS: usize = 1000;

/// A server that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    command: String,
    traits: &'static [Trait],
}

/// What is special about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trait {
    /// It has all services, not only that of an echo over TCP.
    AllServices,
    /// It has an echo over TLS, and nothing else.
    OnlyTls,
    NeedsIoUring,
    /// The driver compiles it.
    NeedsLibuv,
    /// A program of its name has to be installed. It has a process for each connection.
    Forks,
    Spins,
}

use Trait::{AllServices, Forks, NeedsIoUring, NeedsLibuv, OnlyTls, Spins};

const ECHOD: &str = "--{kind} {url}";

const SOCAT: &str = "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,nodelay,backlog=4096 PIPE";

const XINETD: &str = "bash {package}/servers/xinetd.sh {port}";

/// The option that switches off echod's rate for one source of datagrams: all of the load is one
/// source. A build from before the option has no rate by default.
fn without_udp_rate(program: &str) -> Vec<String> {
    let option = ["--udp-rate-per-source", "off"];
    let mut check = Command::new(program);
    let checked = check.arg("--check-config").args(option).output();
    match checked.is_ok_and(|it| it.status.success()) {
        true => option.map(str::to_owned).to_vec(),
        false => Vec::new(),
    }
}

/// Name, command and traits; `{servers}` is the directory of this package's programs.
const PEERS: [(&str, &str, &[Trait]); 17] = [
    ("echod", "{echod} --{kind} {url}", &[AllServices]),
    ("epoll-lt", "{servers}/{bare}", &[AllServices]),
    ("epoll-et", "{servers}/peer-epoll-et", &[]),
    ("mio", "{servers}/peer-mio", &[]),
    ("tokio", "{servers}/peer-tokio current", &[]),
    ("tokio-multi", "{servers}/peer-tokio multi", &[]),
    ("monoio", "{servers}/peer-monoio epoll", &[]),
    (
        "monoio-uring",
        "{servers}/peer-monoio uring",
        &[NeedsIoUring],
    ),
    ("smol", "{servers}/peer-smol", &[]),
    ("compio", "{servers}/peer-compio poll", &[]),
    (
        "compio-uring",
        "{servers}/peer-compio uring",
        &[NeedsIoUring],
    ),
    ("libuv", "{servers}/peer-libuv", &[NeedsLibuv]),
    // These are measured only when they are named.
    (
        "echod-spin",
        "{echod} --{kind} {url} --spin always",
        &[AllServices, Spins],
    ),
    ("rustls-mio", "{servers}/peer-rustls-mio", &[OnlyTls]),
    ("tokio-rustls", "{servers}/peer-tokio-rustls", &[OnlyTls]),
    ("socat", SOCAT, &[Forks]),
    ("xinetd", XINETD, &[Forks]),
];

/// How many of [`PEERS`] are measured where none is named.
const DEFAULTS: usize = 12;

impl Peer {
    pub(crate) fn defaults() -> Vec<Self> {
        let names = PEERS[..DEFAULTS].iter();
        names.flat_map(|(name, ..)| Self::named(name)).collect()
    }

    /// The peer of this name. An error lists all names.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match PEERS.iter().find(|(known, ..)| *known == name) {
            Some((_, command, traits)) => Ok(Self {
                name: name.to_owned(),
                command: (*command).to_owned(),
                traits,
            }),
            None => Err(format!(
                "expected one of {}",
                PEERS.map(|(name, ..)| name).join(", ")
            )),
        }
    }

    /// A build of echod: its path, and options if there are any.
    pub(crate) fn echod(name: &str, command: &str) -> Self {
        Self::custom(name, &format!("{command} {ECHOD}"))
    }

    /// echod with as many workers as a turn asks for.
    pub(crate) fn workers() -> Self {
        Self::echod("echod", "{echod} --workers {workers}")
    }

    /// Is the program that it runs this repository's echod, unless the user says otherwise?
    pub(crate) fn is_own_echod(&self) -> bool {
        self.command.contains("{echod}")
    }

    /// A command of the user's, in which placeholders may stand: `{port}` for the port to listen on
    /// (without it, the program has to say where it listens, as echod does), `{kind}` for `echo`
    /// or `discard`, and `{url}` for the endpoint.
    pub(crate) fn custom(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
            traits: &[AllServices],
        }
    }

    /// Why this can't be counted of it, if it can't.
    pub(crate) fn uncountable(&self, watcher: &Watcher) -> Option<&'static str> {
        match watcher {
            _ if self.traits.contains(&Spins) => Some("it spins as long as there is time"),
            Watcher::Callgrind(_) if self.traits.contains(&Forks) => {
                Some("it forks, and callgrind counts one process")
            }
            _ => None,
        }
    }

    /// Why it can't take part, if it can't.
    pub(crate) fn absence(
        &self,
        workload: Workload,
        shape: Shape,
        programs: &Programs,
    ) -> Option<String> {
        let service = workload.service();
        // The bare loops of that name know no TLS.
        let knows_tls = self.traits.contains(&OnlyTls)
            || self.traits.contains(&AllServices) && !self.command.contains("{bare}");
        let has_service = match service {
            Service::TlsEcho => knows_tls,
            Service::Echo => !self.traits.contains(&OnlyTls),
            Service::Discard | Service::UdpEcho => self.traits.contains(&AllServices),
        };
        if !has_service {
            return Some(format!("it has no service for {workload:?}"));
        }
        self.traits.iter().find_map(|needed| match needed {
            NeedsIoUring => {
                let refused = sys::io_uring_refused()?;
                Some(format!("io_uring is not available: {refused}"))
            }
            NeedsLibuv => programs.build_libuv().err(),
            Forks if shape.connections > MAX_FORKS => Some(format!(
                "it forks, and is asked for {MAX_FORKS} connections at the most"
            )),
            Forks => {
                let program = &self.name;
                let find = ["-c", "command -v \"$0\" >/dev/null", program];
                let found = Command::new("sh").args(find).status();
                let found = found.is_ok_and(|status| status.success());
                (!found).then(|| format!("{program} is not installed"))
            }
            AllServices | OnlyTls | Spins => None,
        })
    }

    /// How to start it for a service.
    pub(crate) fn launch(
        &self,
        service: Service,
        workers: usize,
        programs: &Programs,
    ) -> io::Result<Launch> {
        let (kind, url, bare) = match service {
            Service::Echo => ("echo", "tcp://127.0.0.1:0", "peer-epoll-lt"),
            Service::Discard => ("discard", "tcp://127.0.0.1:0", "peer-discard"),
            Service::UdpEcho => ("echo", "udp://127.0.0.1:0", "peer-udp"),
            Service::TlsEcho => ("echo", "tls://127.0.0.1:0", ""),
        };
        let port = match self.command.contains("{port}") {
            true => Some(server::free_port(service)?),
            false => None,
        };
        let workers = workers.to_string();
        let port_text = port.unwrap_or(0).to_string();
        let values = [
            ("{package}", env!("CARGO_MANIFEST_DIR")),
            ("{servers}", &*programs.servers.to_string_lossy()),
            ("{echod}", &*programs.echod.to_string_lossy()),
            ("{bare}", bare),
            ("{kind}", kind),
            ("{url}", url),
            ("{port}", &port_text),
            ("{workers}", &workers),
        ];
        // Words are split before values are filled in, because a path may contain spaces.
        let words = self.command.split_whitespace().map(|word| {
            let fill = |word: String, (name, value): &(&str, &str)| word.replace(name, value);
            values.iter().fold(word.to_owned(), fill)
        });
        let mut command: Vec<String> = words.collect();
        if service == Service::UdpEcho && self.command.contains(ECHOD) {
            command.extend(without_udp_rate(&command[0]));
        }
        if service == Service::TlsEcho && self.command.contains(ECHOD) {
            command.push("--tls-self-signed".to_owned());
        }
        Ok(Launch {
            command,
            port,
            service,
        })
    }
}
