//! A client, a router and a server in a network namespace each.
//!
//! ```text
//!   client 10.77.1.2 ── 10.77.1.1 router 10.77.2.1 ── 10.77.2.2 server
//! ```

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server's address.
pub(crate) const SERVER: &str = "10.77.2.2";

/// Three namespaces, deleted at the end.
pub(crate) struct Network {
    names: [String; 3],
}

/// Where a command runs.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Client,
    Router,
    Server,
}

impl Network {
    /// Makes the namespaces and the links between them. `None` without the privilege.
    pub(crate) fn new() -> Option<Self> {
        let name = |place| format!("echomark-{place}-{}", std::process::id());
        let network = Self {
            names: ["client", "router", "server"].map(name),
        };
        for name in &network.names {
            if !run(Command::new("ip").args(["netns", "add", name])) {
                return None;
            }
        }
        network.link(Place::Client, "10.77.1.2/24", "r1", "10.77.1.1/24");
        network.link(Place::Server, "10.77.2.2/24", "r2", "10.77.2.1/24");
        for (place, gateway) in [(Place::Client, "10.77.1.1"), (Place::Server, "10.77.2.1")] {
            network.must(place, &["ip", "route", "add", "default", "via", gateway]);
            // Every refusal is answered.
            network.must(place, &["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
        }
        let router = ["net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0"];
        network.must(Place::Router, &["sysctl", "-qw", router[0], router[1]]);
        let chain = "add table inet faults; add chain inet faults forward { type filter hook forward priority 0; }";
        network.must(Place::Router, &["nft", chain]);
        Some(network)
    }

    fn link(&self, place: Place, address: &str, router: &str, gateway: &str) {
        let [end, at_router] = [place, Place::Router].map(|place| self.name(place));
        assert!(run(Command::new("ip").args([
            "link", "add", "eth0", "netns", end, "type", "veth", "peer", "name", router, "netns",
            at_router,
        ])));
        for (place, device, address) in [(place, "eth0", address), (Place::Router, router, gateway)]
        {
            self.must(place, &["ip", "address", "add", address, "dev", device]);
            self.must(place, &["ip", "link", "set", device, "up"]);
            // A link that is up again finds its neighbour at once, also if the first question is lost.
            let retry = format!("net.ipv4.neigh.{device}.retrans_time_ms=10");
            let often = format!("net.ipv4.neigh.{device}.mcast_solicit=100");
            self.must(place, &["sysctl", "-qw", &retry, &often]);
            self.must(place, &["ip", "link", "set", "lo", "up"]);
        }
    }

    fn name(&self, place: Place) -> &str {
        &self.names[match place {
            Place::Client => 0,
            Place::Router => 1,
            Place::Server => 2,
        }]
    }

    /// A command there, before other work of the host: what is measured is not how busy that is.
    pub(crate) fn command(&self, place: Place, command: &[&str]) -> Command {
        let mut entered = Command::new("nsenter");
        entered
            .arg(format!("--net=/run/netns/{}", self.name(place)))
            .args(["chrt", "--fifo", "5"])
            .args(command)
            .stdin(Stdio::null());
        entered
    }

    /// Runs a command there.
    #[track_caller]
    pub(crate) fn must(&self, place: Place, command: &[&str]) {
        let mut entered = self.command(place, command);
        entered.stdout(Stdio::null());
        assert!(run(&mut entered), "{command:?}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            run(Command::new("ip").args(["netns", "delete", name]));
        }
    }
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// A process that is killed at the end.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets time pass: a fault has a length.
pub(crate) fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
