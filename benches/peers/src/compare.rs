//! Servers in turns: A B C, A B C, as many rounds as asked for. Each turn starts the server afresh, so
//! that no other one runs meanwhile, and so that the luck of where its memory lies is drawn again.

use std::io;
use std::time::Duration;

use crate::artifacts::Artifacts;
use crate::counts::{self, Counts, Kind, Lengths};
use crate::load::{self, Checks, Length, Order, Shape, Workload};
use crate::peer::Peer;
use crate::result::{Cell, Remark, Sample};
use crate::server::{Launch, Server, Watcher};

/// How servers are measured.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Where servers run; the load runs where the driver is pinned to.
    pub server_cpus: Vec<usize>,
    /// How often each server has its turn.
    pub rounds: usize,
    /// Sent before the window and not measured.
    pub warm_up: Duration,
    /// What is measured of a turn.
    pub window: Duration,
    /// Operations of the two runs of a count, if there is to be one.
    pub counts: Option<Lengths>,
}

/// Measures these peers in one workload and shape. `progress` is told each turn.
#[must_use]
pub fn cell(
    peers: &[Peer],
    workload: Workload,
    shape: Shape,
    turns: &Turns,
    artifacts: &Artifacts,
    progress: &mut dyn FnMut(&str),
) -> Cell {
    let mut absent = Vec::new();
    let mut present = Vec::new();
    for peer in peers {
        match peer.launch(workload, shape.connections, artifacts) {
            Ok(_) => present.push(peer),
            Err(why) => absent.push(remark(peer, &why.0)),
        }
    }
    let mut failures = Vec::new();
    let mut samples = vec![Vec::new(); present.len()];
    for round in 1..=turns.rounds {
        for (peer, samples) in present.iter().zip(&mut samples) {
            progress(&format!(
                "{workload}, round {round} of {}: {}",
                turns.rounds, peer.name
            ));
            let sample = turn(peer, workload, shape, turns, artifacts);
            samples.push(
                sample
                    .map_err(|e| {
                        failures.push(remark(peer, &format!("round {round}: {e}")));
                    })
                    .ok(),
            );
        }
    }
    let counted = present.iter().map(|peer| {
        let lengths = turns.counts.filter(|_| is_countable(workload))?;
        progress(&format!("{workload}, counting: {}", peer.name));
        Some(count(peer, workload, shape, lengths, turns, artifacts))
    });
    let counted: Vec<Option<Counts>> = counted.collect();
    let names = present.iter().map(|peer| peer.name.clone());
    let measured = names
        .zip(samples)
        .zip(counted)
        .map(|((name, samples), counts)| (name, samples, counts));
    Cell::new(workload, shape, measured.collect(), absent, failures)
}

/// One turn of one peer.
fn turn(
    peer: &Peer,
    workload: Workload,
    shape: Shape,
    turns: &Turns,
    artifacts: &Artifacts,
) -> io::Result<Sample> {
    let launch = launch(peer, workload, shape, artifacts)?;
    let server = Server::start(&launch, &Watcher::None, &turns.server_cpus)?;
    let order = Order {
        target: server.address(),
        workload,
        shape,
        length: Length::Window {
            warm_up: turns.warm_up,
            window: turns.window,
        },
        checks: Checks::All,
    };
    let outcome = load::run(&order, &server)?;
    Ok(Sample::of(&outcome))
}

/// Counts of one peer. The server is slowed down by being watched, so the load saturates it.
fn count(
    peer: &Peer,
    workload: Workload,
    shape: Shape,
    lengths: Lengths,
    turns: &Turns,
    artifacts: &Artifacts,
) -> Counts {
    counts::count(lengths, |kind, words, operations| {
        if let Some(why) = peer.uncountable(kind) {
            return Err(io::Error::other(why));
        }
        let launch = launch(peer, workload, shape, artifacts)?;
        let watcher = match kind {
            Kind::Calls => Watcher::Parent(words.to_vec()),
            Kind::Instructions => Watcher::Host(words.to_vec()),
        };
        let server = Server::start(&launch, &watcher, &turns.server_cpus)?;
        let order = Order {
            target: server.address(),
            workload,
            shape,
            length: Length::Count(operations),
            checks: Checks::All,
        };
        load::run(&order, &server)?;
        server.end()
    })
}

/// A stream to a discard server has no operations of the server's, and idle connections have none.
fn is_countable(workload: Workload) -> bool {
    !matches!(workload, Workload::Discard | Workload::Idle)
}

fn launch(
    peer: &Peer,
    workload: Workload,
    shape: Shape,
    artifacts: &Artifacts,
) -> io::Result<Launch> {
    let launch = peer.launch(workload, shape.connections, artifacts);
    launch.map_err(|why| io::Error::other(why.0))
}

fn remark(peer: &Peer, what: &str) -> Remark {
    Remark {
        peer: peer.name.clone(),
        what: what.to_owned(),
    }
}
