//! Waiting for the client's sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::load::{MAX_SILENCE, failed};

/// The events of the client's sockets, and when the last ones came.
pub(super) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
    pub(super) last_event: Instant,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(echomark_peers::MAX_EVENTS),
            last_event: Instant::now(),
        })
    }

    pub(super) fn add(
        &self,
        socket: &OwnedFd,
        index: usize,
        interest: EventFlags,
    ) -> io::Result<()> {
        let data = EventData::new_u64(index as u64);
        Ok(epoll::add(&self.epoll, socket, data, interest)?)
    }

    pub(super) fn set_interest(
        &self,
        socket: &OwnedFd,
        index: usize,
        interest: EventFlags,
    ) -> io::Result<()> {
        let data = EventData::new_u64(index as u64);
        Ok(epoll::modify(&self.epoll, socket, data, interest)?)
    }

    /// Waits for events; `event` tells one of them.
    pub(super) fn wait(&mut self) -> io::Result<usize> {
        let timeout = rustix::event::Timespec {
            tv_sec: MAX_SILENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        let count = match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Err(Errno::INTR) => 0,
            count => count?,
        };
        if count > 0 {
            self.last_event = Instant::now();
        } else if self.last_event.elapsed() >= MAX_SILENCE {
            let seconds = MAX_SILENCE.as_secs();
            return Err(failed(format!("nothing came back for {seconds} s")));
        }
        Ok(count)
    }

    pub(super) fn event(&self, number: usize) -> (usize, EventFlags) {
        let event = self.events[number];
        ({ event.data }.u64() as usize, event.flags)
    }
}
