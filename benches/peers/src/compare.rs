//! `compare` and `matrix`: servers under the same load. Each turn starts the server afresh, so that no
//! other one runs meanwhile, and the layout of its memory is drawn again.

use std::io;

use crate::cli::Compare;
use crate::client::{self, Checks, Length, Load, Outcome, Shape, Workload};
use crate::counts;
use crate::peer::Peer;
use crate::programs::Programs;
use crate::report::{Sample, Table};
use crate::server::{Server, Watcher};
use crate::{Document, Place};

pub(crate) fn run(
    options: &Compare,
    cells: &[(Workload, Shape)],
    programs: &Programs,
    place: Place,
    document: &mut Document,
) -> io::Result<()> {
    let peers = options.peers();
    for &(workload, shape) in cells {
        let cell = Cell {
            options,
            workload,
            shape,
            programs,
            place,
        };
        document.add(cell.measure(&peers))?;
    }
    Ok(())
}

/// One workload in one shape.
struct Cell<'a> {
    options: &'a Compare,
    workload: Workload,
    shape: Shape,
    programs: &'a Programs,
    place: Place,
}

impl Cell<'_> {
    fn measure(&self, peers: &[Peer]) -> Table {
        let absence = |peer: &Peer| peer.absence(self.workload, self.shape, self.programs);
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for peer in peers {
            match absence(peer) {
                None => present.push(peer),
                Some(why) => absent.push((peer, why)),
            }
        }
        let title = format!("{}: {}", self.workload, self.shape);
        let names = present.iter().map(|peer| peer.name.clone()).collect();
        let rounds = self.options.common.rounds;
        let mut table = Table::measure(title, self.workload.unit(), names, rounds, |index, _| {
            self.turn(present[index])
        });
        for (peer, why) in absent {
            table.leave_out(&peer.name, why);
        }
        // A stream to a discard server has no operations of the server's, and idle connections have none.
        if self.options.counts && !matches!(self.workload, Workload::Discard | Workload::Idle) {
            table.count(|index| self.count(present[index]));
        }
        table
    }

    fn turn(&self, peer: &Peer) -> io::Result<Sample> {
        let server = self.start(peer, Watcher::None)?;
        let length = Length::Window {
            warm_up: self.options.warm_up,
            window: self.options.duration,
        };
        let outcome = self.load(&server, length)?;
        let units = match self.workload.unit() {
            "MiB" => outcome.bytes as f64 / f64::from(1 << 20),
            _ => outcome.operations as f64,
        };
        Ok(Sample::of(&outcome, units))
    }

    /// The server is slowed down by being watched, so the load saturates it.
    fn count(&self, peer: &Peer) -> Sample {
        counts::count(|watcher, operations| {
            if let Some(why) = peer.uncountable(&watcher) {
                return Err(io::Error::other(why));
            }
            let server = self.start(peer, watcher)?;
            self.load(&server, Length::Count(operations))?;
            server.end()
        })
    }

    fn start(&self, peer: &Peer, watcher: Watcher) -> io::Result<Server> {
        let launch = peer.launch(self.workload.service(), self.programs)?;
        Server::start(&launch, watcher, &[self.place.server])
    }

    fn load(&self, server: &Server, length: Length) -> io::Result<Outcome> {
        client::run(&Load {
            target: server.address(),
            server: server.pid(),
            workload: self.workload,
            shape: self.shape,
            length,
            checks: Checks::All,
        })
    }
}
