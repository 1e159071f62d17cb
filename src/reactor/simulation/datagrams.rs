//! The servers' UDP sockets.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use mio::Interest;

use super::stream::error;
use super::world::*;
use crate::net::datagram::{Batch, Destination, MAX_SLOTS, Progress, SendCounts, UnsentAnswer};
use crate::net::readiness::Readiness;
use crate::service::{Service, chargen};
use crate::udp::DatagramSocket;

/// A worker's hold on a UDP socket.
pub(super) struct SimDatagrams {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) worker: WorkerId,
    pub(super) index: usize,
}

impl Debug for SimDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UDP socket {} of {:?}", self.index, self.worker)
    }
}

impl SimDatagrams {
    /// Sends one datagram, if it is the answer to a request and there is room.
    fn transmit(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if world.faults && world.random.one_in(30) {
            return error(world_error(&mut world));
        }
        if world.datagrams[self.index].room == 0 {
            return error(EAGAIN);
        }
        world.note_progress(self.worker);
        let socket = &mut world.datagrams[self.index];
        let answers = |(source, request): &(_, Vec<u8>)| {
            SocketAddr::V4(*source) == to
                && match socket.service {
                    Service::Echo => request == payload,
                    Service::Chargen => request.len() == payload.len() && is_of_chargen(payload),
                    Service::Discard | Service::Whoami => false,
                }
        };
        let open = &mut socket.open_requests;
        let request = open.iter().position(answers);
        let request = request.expect("each request is answered once, to its source");
        open.remove(request);
        assert!(
            to.port() >= 1024 && to.port() != UDP_PORT,
            "answered a service"
        );
        socket.room = socket.room.saturating_sub(1);
        socket.answered += 1;
        Ok(())
    }

    fn holder(&self, world: &World) -> Option<usize> {
        let holders = &world.datagrams[self.index].holders;
        holders.iter().position(|it| it.worker == self.worker)
    }
}

/// An error that sendmmsg(2) may report for one datagram.
fn world_error(world: &mut World) -> i32 {
    world.random.some(&[EINTR, EPERM])
}

fn is_of_chargen(payload: &[u8]) -> bool {
    (0..chargen::CYCLE / chargen::LINE)
        .any(|line| payload == chargen::from(line * chargen::LINE, payload.len()))
}

impl DatagramSocket for SimDatagrams {
    fn only_destination(&self) -> Option<Destination> {
        Some(Destination {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            interface: 0,
            unicast: true,
        })
    }

    fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let socket = &mut world.datagrams[self.index];
        if socket.queue.is_empty() {
            return error(EAGAIN);
        }
        let count = socket.queue.len().min(MAX_SLOTS);
        let taken: Vec<_> = socket.queue.drain(..count).collect();
        socket.open_requests.extend(taken.iter().cloned());
        socket.received += count as u64;
        world.note_progress(self.worker);
        Ok(batch.receive_simulated(taken))
    }

    fn send(&self, batch: &mut Batch, counts: &mut SendCounts) -> Progress {
        batch.send_simulated(|to, payload| self.transmit(to, payload), counts)
    }

    fn send_unsent(
        &self,
        _: &mut Batch,
        unsent: &mut Vec<UnsentAnswer>,
        counts: &mut SendCounts,
    ) -> Progress {
        Batch::send_unsent_simulated(unsent, |to, payload| self.transmit(to, payload), counts)
    }

    fn register(&mut self, interests: Interest) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let mut interest = Readiness::READABLE;
        if interests.is_writable() {
            interest |= Readiness::WRITABLE;
        }
        let holder = self.holder(&world);
        if holder.is_some() && world.faults && world.random.one_in(10) {
            return error(ENOMEM);
        }
        let socket = &mut world.datagrams[self.index];
        // Existing readiness is reported at once.
        let edge = socket.readiness().intersects(interest);
        match holder {
            Some(holder) => {
                socket.holders[holder].interest = interest;
                socket.holders[holder].edge |= edge;
            }
            None => socket.holders.push(Holder {
                worker: self.worker,
                edge,
                interest,
            }),
        }
        Ok(())
    }

    fn deregister(&mut self) {
        let mut world = self.world.borrow_mut();
        if let Some(holder) = self.holder(&world) {
            world.datagrams[self.index].holders[holder].interest = Readiness::NONE;
            world.datagrams[self.index].holders[holder].edge = false;
        }
    }

    fn is_registered(&self) -> bool {
        let world = self.world.borrow();
        let holder = self.holder(&world);
        holder.is_some_and(|it| world.datagrams[self.index].holders[it].interest != Readiness::NONE)
    }
}

impl Drop for SimDatagrams {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        let socket = &mut world.datagrams[self.index];
        socket.holders.retain(|it| it.worker != self.worker);
        if socket.holders.is_empty() {
            socket.queue.clear();
        }
    }
}
