//! Who can be measured.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::artifacts::Artifacts;
use crate::counts;
use crate::load::{Service, Workload};
use crate::scratch::Scratch;
use crate::server::{self, Launch, Ready};
use crate::sys;

/// A server that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is called in the tables.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Echod(&'static [&'static str]),
    Own {
        program: &'static str,
        form: Option<&'static str>,
        service: Service,
        ring: Ring,
    },
    /// The bare loop, whose program depends on the service.
    Bare,
    Libuv,
    Socat,
    Xinetd,
    Given(String),
}

/// Does it need io_uring?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Needed,
    Unused,
}

/// Why a peer is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent(pub String);

/// A server with a process for each connection is not asked for more.
const FORKS_MAX: usize = 1000;

impl Peer {
    /// The peers measured where none is named.
    pub const USUAL: [&'static str; 12] = [
        "echod",
        "epoll-lt",
        "epoll-et",
        "mio",
        "tokio",
        "tokio-multi",
        "monoio",
        "monoio-uring",
        "smol",
        "compio",
        "compio-uring",
        "libuv",
    ];

    /// Further ones, which are measured when they are named.
    pub const FURTHER: [&'static str; 3] = ["echod-spin", "socat", "xinetd"];

    /// The peer of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let own = |program, form, ring| Kind::Own {
            program,
            form,
            service: Service::Echo,
            ring,
        };
        let kind = match name {
            "echod" => Kind::Echod(&[]),
            "echod-spin" => Kind::Echod(&["--spin", "always"]),
            "epoll-lt" => Kind::Bare,
            "epoll-et" => own("peer-epoll-et", None, Ring::Unused),
            "mio" => own("peer-mio", None, Ring::Unused),
            "tokio" => own("peer-tokio", Some("current"), Ring::Unused),
            "tokio-multi" => own("peer-tokio", Some("multi"), Ring::Unused),
            "monoio" => own("peer-monoio", Some("epoll"), Ring::Unused),
            "monoio-uring" => own("peer-monoio", Some("uring"), Ring::Needed),
            "smol" => own("peer-smol", None, Ring::Unused),
            "compio" => own("peer-compio", Some("poll"), Ring::Unused),
            "compio-uring" => own("peer-compio", Some("uring"), Ring::Needed),
            "libuv" => Kind::Libuv,
            "socat" => Kind::Socat,
            "xinetd" => Kind::Xinetd,
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            kind,
        })
    }

    /// A user's own: a name and a command line, in which `{port}` stands for the port to listen on.
    /// Without it, the program has to say `listening tcp://127.0.0.1:PORT` on stdout.
    #[must_use]
    pub fn given(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Given(command.to_owned()),
        }
    }

    /// Is it the program that the others are there for?
    #[must_use]
    pub fn is_echod(&self) -> bool {
        matches!(self.kind, Kind::Echod(_))
    }

    /// Is it one of this package's own programs?
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own { .. } | Kind::Bare)
    }

    /// Why this can't be counted of it, if it can't.
    #[must_use]
    pub fn uncountable(&self, kind: counts::Kind) -> Option<&'static str> {
        match (&self.kind, kind) {
            (Kind::Socat | Kind::Xinetd, counts::Kind::Instructions) => {
                Some("it forks, and callgrind counts one process")
            }
            (Kind::Echod(options), _) if options.contains(&"--spin") => {
                Some("it spins, so that it does as much as there is time for")
            }
            _ => None,
        }
    }

    /// How to start it for a workload with so many connections.
    ///
    /// # Errors
    /// Why it can't take part.
    pub fn launch(
        &self,
        workload: Workload,
        connections: usize,
        artifacts: &Artifacts,
    ) -> Result<Launch, Absent> {
        let service = workload.service();
        let announced = |program: PathBuf, arguments: &[&str]| Launch {
            command: [program.to_string_lossy().into_owned()]
                .into_iter()
                .chain(arguments.iter().map(ToString::to_string))
                .collect(),
            ready: Ready::Announced,
            service,
            file: None,
        };
        match &self.kind {
            Kind::Echod(options) => {
                let endpoint: &[&str] = match service {
                    Service::Echo => &["--echo", "tcp://127.0.0.1:0"],
                    Service::Discard => &["--discard", "tcp://127.0.0.1:0"],
                    Service::UdpEcho => &["--echo", "udp://127.0.0.1:0"],
                };
                Ok(announced(
                    artifacts.echod.clone(),
                    &[endpoint, options].concat(),
                ))
            }
            Kind::Bare => {
                let program = match service {
                    Service::Echo => "peer-epoll-lt",
                    Service::Discard => "peer-discard",
                    Service::UdpEcho => "peer-udp",
                };
                Ok(announced(artifacts.servers.join(program), &[]))
            }
            Kind::Own {
                program,
                form,
                service: offered,
                ring,
            } => {
                if *offered != service {
                    return Err(Absent(format!("it has no service for {workload}")));
                }
                if *ring == Ring::Needed {
                    sys::io_uring_available()
                        .map_err(|e| Absent(format!("io_uring is not available: {e}")))?;
                }
                Ok(announced(artifacts.servers.join(program), form.as_slice()))
            }
            Kind::Libuv => {
                only_echo(service, workload)?;
                let program = artifacts.libuv().map_err(|e| Absent(e.to_string()))?;
                Ok(announced(program, &[]))
            }
            Kind::Socat => {
                forks(service, workload, connections)?;
                find_program("socat")?;
                given(
                    "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,nodelay,backlog=4096 PIPE",
                    service,
                )
            }
            Kind::Xinetd => {
                forks(service, workload, connections)?;
                find_program("xinetd")?;
                xinetd(service)
            }
            Kind::Given(command) => given(command, service),
        }
    }
}

fn only_echo(service: Service, workload: Workload) -> Result<(), Absent> {
    match service {
        Service::Echo => Ok(()),
        _ => Err(Absent(format!("it has no service for {workload}"))),
    }
}

fn forks(service: Service, workload: Workload, connections: usize) -> Result<(), Absent> {
    only_echo(service, workload)?;
    match connections <= FORKS_MAX {
        true => Ok(()),
        false => Err(Absent(format!(
            "it forks for each connection and is asked for {FORKS_MAX} at the most"
        ))),
    }
}

fn find_program(name: &str) -> Result<(), Absent> {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\" >/dev/null", name])
        .status();
    match found.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(Absent(format!("{name} is not installed"))),
    }
}

fn given(command: &str, service: Service) -> Result<Launch, Absent> {
    let (ready, command) = match command.contains("{port}") {
        true => {
            let port = server::free_port(service).map_err(|e| Absent(e.to_string()))?;
            (
                Ready::AtPort(port),
                command.replace("{port}", &port.to_string()),
            )
        }
        false => (Ready::Announced, command.to_owned()),
    };
    Ok(Launch {
        command: command.split_whitespace().map(String::from).collect(),
        ready,
        service,
        file: None,
    })
}

/// xinetd's own echo service, from a configuration of its own.
fn xinetd(service: Service) -> Result<Launch, Absent> {
    let write = || -> io::Result<Launch> {
        let file = Scratch::new("xinetd.conf");
        let port = server::free_port(service)?;
        fs::write(
            file.path(),
            format!(
                "defaults\n{{\n instances = UNLIMITED\n per_source = UNLIMITED\n cps = 1000000 1\n}}\n\
                 service echo\n{{\n type = INTERNAL UNLISTED\n id = echo-stream\n socket_type = stream\n \
                 protocol = tcp\n user = root\n wait = no\n port = {port}\n bind = 127.0.0.1\n \
                 flags = NODELAY\n disable = no\n}}\n"
            ),
        )?;
        let path = file.path().to_string_lossy().into_owned();
        Ok(Launch {
            command: ["xinetd", "-dontfork", "-f", &path]
                .map(String::from)
                .to_vec(),
            ready: Ready::AtPort(port),
            service,
            file: Some(Arc::new(file)),
        })
    };
    write().map_err(|e| Absent(format!("its configuration can't be written: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifacts() -> Artifacts {
        Artifacts::locate(None, None, crate::artifacts::Build::Never).unwrap()
    }

    #[test]
    fn every_name_that_is_offered_is_known() {
        for name in Peer::USUAL.iter().chain(&Peer::FURTHER) {
            assert_eq!(Peer::named(name).unwrap().name, *name);
        }
        assert_eq!(Peer::named("nginx"), None);
    }

    #[test]
    fn a_command_of_the_users_gets_a_port() {
        let peer = Peer::given("mine", "serve --port {port} --fast");
        let launch = peer.launch(Workload::Echo, 1, &artifacts()).unwrap();
        let Ready::AtPort(port) = launch.ready else {
            panic!("{:?}", launch.ready)
        };
        assert_eq!(
            launch.command,
            ["serve", "--port", &port.to_string(), "--fast"]
        );
        let plain = Peer::given("mine", "serve").launch(Workload::Echo, 1, &artifacts());
        assert_eq!(plain.unwrap().ready, Ready::Announced);
    }

    #[test]
    fn who_lacks_a_service_says_so() {
        let absent = |name, workload, connections| {
            Peer::named(name)
                .unwrap()
                .launch(workload, connections, &artifacts())
                .unwrap_err()
                .0
        };
        assert!(absent("tokio", Workload::Udp, 1).contains("no service for udp"));
        assert!(absent("socat", Workload::Echo, 5000).contains("1000 at the most"));
    }

    #[test]
    fn what_does_not_depend_on_the_echoes_alone_is_not_counted() {
        let uncountable = |name, kind| Peer::named(name).unwrap().uncountable(kind).is_some();
        assert!(uncountable("echod-spin", counts::Kind::Calls));
        assert!(uncountable("socat", counts::Kind::Instructions));
        assert!(!uncountable("socat", counts::Kind::Calls));
        assert!(!uncountable("echod", counts::Kind::Instructions));
    }

    #[test]
    fn the_bare_loop_has_a_program_for_each_service() {
        let program = |workload| {
            let launch = Peer::named("epoll-lt")
                .unwrap()
                .launch(workload, 1, &artifacts());
            launch.unwrap().command[0]
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(program(Workload::Churn), "peer-epoll-lt");
        assert_eq!(program(Workload::Discard), "peer-discard");
        assert_eq!(program(Workload::UdpBulk), "peer-udp");
    }
}
