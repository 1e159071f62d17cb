//! A packet is served by the worker on the CPU where it comes in. Over loopback that is the sending
//! thread's CPU, so a pinned client knows its worker.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use echomark::metrics::{CloseReason, Snapshot};
use echomark::net::affinity;
use echomark::{Balance, Config, Server, Service};
use socket2::SockRef;

use crate::support::directory::Directory;
use crate::support::echod::Echod;
use crate::support::generation::{Generation, bind};
use crate::support::tools::skip;
use crate::support::{
    AtEnd, Client, DEADLINE, Running, churn, config, config_for, config_on, connect_until_refused,
    in_parallel, wait_until,
};

/// The value of a socket without a preferred CPU: -1 as getsockopt(2) returns it.
const NONE: usize = usize::MAX;

fn steered(workers: usize, config: Config) -> Config {
    Config {
        workers: NonZeroUsize::new(workers).expect("a number"),
        balance: Balance::IncomingCpu,
        ..config
    }
}

/// The CPUs to send from, or the requirement that this machine lacks.
fn cpus() -> Result<Vec<usize>, &'static str> {
    let cpus = affinity::allowed_cpus().expect("an affinity mask");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a version");
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let redirected = fs::read_to_string("/sys/class/net/lo/queues/rx-0/rps_cpus")
        .is_ok_and(|mask| mask.contains(|digit: char| digit.is_ascii_hexdigit() && digit != '0'));
    if cpus.len() < 2 {
        Err("a second CPU")
    } else if (next(), next()) < (6, 2) {
        Err("Linux 6.2 or later")
    } else if redirected {
        Err("a loopback device that passes packets to no other CPU (rps_cpus)")
    } else {
        Ok(cpus)
    }
}

/// Runs `task` on a thread that is bound to a CPU.
#[track_caller]
fn on_cpu<T: Send>(cpu: usize, task: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let bound = scope.spawn(|| {
            affinity::pin_thread(cpu).expect("an allowed CPU");
            task()
        });
        bound.join().expect("no panic")
    })
}

/// A counter of each worker.
fn counts(server: &Running, read: impl Fn(&Snapshot) -> u64) -> Vec<u64> {
    server.handle.workers().iter().map(read).collect()
}

/// The increase of each worker's counter.
fn added(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(b, a)| a - b).collect()
}

/// `count` at index `place` of `places` zeros.
fn all_at(place: usize, places: usize, count: u64) -> Vec<u64> {
    (0..places)
        .map(|at| if at == place { count } else { 0 })
        .collect()
}

/// Opens enough connections that a hash would not give all to one worker.
#[track_caller]
fn connect_all(address: SocketAddr) -> Vec<Client> {
    (0..20)
        .map(|_| {
            let mut client = Client::connect(address);
            client.echo(b"who serves me?");
            client
        })
        .collect()
}

/// Expects worker i to serve connections that come in on the i-th of these CPUs.
#[track_caller]
fn assert_steered(server: &Running, cpus: &[usize]) {
    let workers = server.handle.workers().len();
    for (worker, &cpu) in cpus.iter().enumerate() {
        let before = counts(server, |it| it.accepted);
        let clients = on_cpu(cpu, || connect_all(server.address()));
        let now = counts(server, |it| it.accepted);
        let count = clients.len() as u64;
        assert_eq!(
            added(&before, &now),
            all_at(worker, workers, count),
            "from CPU {cpu}"
        );
    }
}

#[test]
fn a_connection_is_served_where_it_comes_in() {
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    for endpoint in ["tcp://127.0.0.1:0", "tcp://[::]:0"] {
        let server = Running::start(steered(cpus.len(), config_for(Service::Echo, endpoint)));
        assert_steered(&server, &cpus);
    }
}

#[test]
fn a_datagram_is_answered_where_it_comes_in() {
    const DATAGRAMS: u64 = 20;
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    let config = config_for(Service::Echo, "udp://127.0.0.1:0");
    let server = Running::start(steered(cpus.len(), config));
    for (worker, &cpu) in cpus.iter().enumerate() {
        let before = counts(&server, |it| it.udp_received_datagrams);
        on_cpu(cpu, || {
            for _ in 0..DATAGRAMS {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                socket.send_to(b"who?", server.address()).expect("send");
                assert_eq!(socket.recv(&mut [0; 8]).expect("an answer"), 4);
            }
        });
        let now = counts(&server, |it| it.udp_received_datagrams);
        assert_eq!(
            added(&before, &now),
            all_at(worker, cpus.len(), DATAGRAMS),
            "from CPU {cpu}"
        );
    }
}

/// The hash chooses among several workers on the same CPU, and never one on another CPU.
#[test]
fn workers_on_the_same_cpu_share_its_connections() {
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    let server = Running::start(steered(2 * cpus.len(), config()));
    for (place, &cpu) in cpus.iter().enumerate() {
        let before = counts(&server, |it| it.accepted);
        let clients = on_cpu(cpu, || connect_all(server.address()));
        let now = added(&before, &counts(&server, |it| it.accepted));
        let there = now[place] + now[place + cpus.len()];
        assert_eq!(there, clients.len() as u64, "from CPU {cpu}: {now:?}");
    }
}

/// On a CPU without a worker the hash decides.
#[test]
fn connections_on_a_cpu_without_a_worker_are_served_too() {
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    let server = Running::start(steered(cpus.len() - 1, config()));
    let last = cpus[cpus.len() - 1];
    let clients = on_cpu(last, || connect_all(server.address()));
    assert_eq!(server.metrics().accepted, clients.len() as u64);
}

/// Workers are on the CPUs that the process may use, not on the first of the machine.
#[test]
fn the_affinity_mask_decides_which_cpus_have_workers() {
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    let last = cpus[cpus.len() - 1];
    // A successor's descriptors are what the test reads.
    let server = on_cpu(last, || bind(&steered(2, config()), Vec::new()));
    assert_eq!(preferred(&server), [last; 2]);
}

/// The preferred CPU of each socket of the first endpoint.
#[track_caller]
fn preferred(server: &Server) -> Vec<usize> {
    let passed = server.handle().sockets_to_pass().expect("descriptors");
    let sockets = passed[0].sockets.iter();
    sockets
        .map(|socket| SockRef::from(socket).cpu_affinity().expect("an option"))
        .collect()
}

/// Inherited sockets get the successor's preference, and lose the predecessor's.
#[test]
fn inherited_sockets_get_the_successors_preference() {
    let cpus: Vec<_> = affinity::allowed_cpus().expect("an affinity mask");
    let cpu = |worker: usize| cpus[worker % cpus.len()];
    for endpoint in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        let with = |balance, workers| Config {
            balance,
            services: config_for(Service::Echo, endpoint).services,
            ..steered(workers, config())
        };
        let first = bind(&with(Balance::Kernel, 2), Vec::new());
        assert_eq!(preferred(&first), [NONE; 2]);
        let succeed = |to: &Server, config| {
            let inherited = to.handle().sockets_to_pass().expect("descriptors");
            let server = bind(&config, inherited);
            assert_eq!(preferred(&server)[..2], preferred(to)[..2], "not granted");
            server.handle().set_inherited_options().expect("options");
            server
        };
        let second = succeed(&first, with(Balance::IncomingCpu, 3));
        let expected: Vec<_> = (0..preferred(&second).len()).map(cpu).collect();
        assert_eq!(preferred(&second), expected);
        assert!(
            expected.len() >= 2,
            "those that were passed on, if not more"
        );
        // The second does not run, so it has nothing to pass on; the first has the same sockets.
        let third = succeed(&first, with(Balance::IncomingCpu, 1));
        assert_eq!(preferred(&third), [cpu(0); 2]);
        let fourth = succeed(&first, with(Balance::LeastConnections, 2));
        assert_eq!(preferred(&fourth), [NONE; 2]);
    }
}

/// The sockets stay while clients connect on every CPU, and each server in turn serves them on the
/// CPUs of its workers.
#[test]
fn a_successor_steers_inherited_sockets_and_loses_nothing() {
    let cpus = match cpus() {
        Ok(cpus) => cpus,
        Err(need) => skip!(need),
    };
    let directory = Directory::new();
    let with = |balance, workers| Config {
        balance,
        drain_timeout: DEADLINE * 10,
        ..steered(workers, config())
    };
    let mut present = Generation::start(&directory, &with(Balance::Kernel, 1));
    let address = present.server.address();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for &cpu in &cpus {
            let (stop, rounds) = (&stop, &rounds);
            scope.spawn(move || {
                affinity::pin_thread(cpu).expect("an allowed CPU");
                churn(address, stop, rounds);
            });
        }
        let _stop = AtEnd(&stop);
        for workers in [cpus.len(), 1, cpus.len() + 1, cpus.len()] {
            let next = Generation::start(&directory, &with(Balance::IncomingCpu, workers));
            std::mem::replace(&mut present, next).join();
            let before = rounds.load(Ordering::Relaxed);
            wait_until("rounds", || rounds.load(Ordering::Relaxed) > before + 50);
        }
    });
    // It has more listeners than workers, from the predecessor with more.
    assert_steered(&present.server, &cpus);
}

/// Connects on every CPU never stop while the listeners close. Each that succeeds is served.
#[test]
fn no_connect_that_succeeds_is_lost_when_the_listeners_close() {
    let cpus = affinity::allowed_cpus().expect("an affinity mask");
    for _ in 0..10 {
        // An address that no other test uses, so that no other test can get the port meanwhile.
        let server = Running::start(Config {
            drain_timeout: Duration::from_secs(600),
            ..steered(cpus.len(), config_on("127.0.0.18"))
        });
        let served = AtomicUsize::new(0);
        in_parallel(2 * cpus.len() + 1, |index| {
            if index == 2 * cpus.len() {
                wait_until("connects", || served.load(Ordering::Relaxed) > 100);
                server.handle.drain();
            } else {
                affinity::pin_thread(cpus[index % cpus.len()]).expect("an allowed CPU");
                connect_until_refused(server.address(), &served);
            }
        });
        let metrics = server.join();
        assert!(metrics.accepted as usize >= served.into_inner());
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
    }
}

/// The program's report agrees with its behaviour.
#[test]
fn the_program_says_how_it_balances_and_that_it_pins() {
    let directory = Directory::new();
    let unix = format!("--echo=unix:{}", directory.join("echo").display());
    let echod = Echod::start(&[
        "--echo=tcp://127.0.0.1:0",
        &unix,
        "--workers=2",
        "--balance=incoming-cpu",
        "--admin=127.0.0.1:0",
    ]);
    let info = echod.info();
    assert_eq!(info["balance"], "incoming-cpu");
    assert_eq!(info["endpoints"][0]["balance"], "incoming-cpu");
    assert_eq!(info["endpoints"][1]["balance"], "least-connections");
    assert_eq!(info["configuration"]["pin"], true);
    assert_eq!(info["configuration"]["balance"], "incoming-cpu");
}
