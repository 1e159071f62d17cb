//! The servers' ends of connections, and the pipe for relaying.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::world::*;
use crate::net::pipe::Pipe;
use crate::net::stream::Stream;
use crate::service::{Service, chargen};

pub(super) fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// The server's end of a client's connection. Dropping it closes the socket.
pub(super) struct SimStream {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) id: usize,
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // A failed check unwinds through a borrow.
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        let client = &mut world.clients[self.id];
        assert!(!client.gone, "closed twice");
        client.gone = true;
        client.key = None;
        client.edge = false;
        // Without unread input, close(2) sends an end behind the last byte.
        client.cut_off = (client.sent > client.read || client.resets_on_close) && !client.reset;
        // With TLS the client itself knows.
        let is_plain_echo = client.service == Service::Echo && client.secured.is_none();
        let is_whole = !is_plain_echo || client.written == client.sent;
        assert!(
            client.server_ended || client.reset || client.cut_off || is_whole,
            "client {} takes a part for everything",
            self.id
        );
        client.server_ended = true;
        client.note_end_of_secured();
    }
}

impl Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.id)
    }
}

impl SimStream {
    /// Takes up to `max` bytes of input, at most the count that `reach` returns.
    fn take_out(&self, max: usize, reach: impl Fn(&mut Client) -> u64) -> io::Result<Vec<u8>> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let (now_ms, holds_back) = (world.now_ms(), world.holds_back);
        let client = &mut world.clients[self.id];
        if client.reset {
            return error(ECONNRESET);
        }
        let is_plain_echo = client.service == Service::Echo && client.secured.is_none();
        if is_plain_echo && client.written > client.read {
            // Written before it is taken: only that may be taken now.
            let written = client.written - client.read;
            assert!(max as u64 <= written, "took what it did not echo");
        } else {
            client.turn.reads += 1;
            let has_backlog = is_plain_echo && client.read > client.written;
            assert!(
                !has_backlog || client.server_ended || holds_back,
                "read while a backlog waits"
            );
        }
        client.forget_passed_marks();
        let count = reach(client).min(max as u64);
        if count == 0 {
            let is_end = client.ended && client.sent == client.read;
            return if is_end {
                Ok(Vec::new())
            } else {
                error(EAGAIN)
            };
        }
        let bytes = match client.secured.as_deref_mut() {
            Some(secured) => secured.read(count),
            None => (client.read..client.read + count)
                .map(|at| client.byte(at))
                .collect(),
        };
        client.take_input(count, now_ms);
        self.note_progress(&mut world);
        Ok(bytes)
    }

    /// Sends bytes to the client, up to its room and at most `max`.
    fn give(&self, bytes: &[u8], max: u64) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let now_ms = world.now_ms();
        let client = &mut world.clients[self.id];
        assert!(!client.server_ended, "wrote after its end");
        if client.reset {
            return error(ECONNRESET);
        }
        let room = client.room - (client.written - client.taken);
        if room == 0 {
            client.found_no_room = true;
            return error(EAGAIN);
        }
        let count = room.min(bytes.len() as u64).min(max);
        let taken = &bytes[..count as usize];
        // What is in records is the client's to check.
        let plain = match client.secured.as_deref_mut() {
            Some(secured) => {
                secured.write(taken);
                &[]
            }
            None => taken,
        };
        for (at, &byte) in plain.iter().enumerate() {
            let offset = client.written + at as u64;
            let expected = match client.service {
                Service::Echo => client.byte(offset),
                Service::Chargen => chargen::from(offset as usize % chargen::CYCLE, 1)[0],
                Service::Discard | Service::Whoami => panic!("answers nothing here"),
            };
            assert_eq!(byte, expected, "byte {offset} of client {}", self.id);
        }
        client.written += count;
        client.last_moved_ms = now_ms;
        if client.service == Service::Echo && client.secured.is_none() {
            assert!(client.written <= client.peeked, "echoed what was not read");
        }
        self.note_progress(&mut world);
        Ok(count as usize)
    }

    fn note_progress(&self, world: &mut World) {
        if let Some((worker, _)) = world.clients[self.id].key {
            world.note_progress(worker);
        }
    }

    /// A random cut, so that a call sometimes takes less than its room.
    fn short(&self) -> u64 {
        let random = &mut self.world.borrow_mut().random;
        if random.one_in(4) {
            1 + random.below(8)
        } else {
            u64::MAX
        }
    }
}

impl Read for SimStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A read stops before an urgent byte, unless it begins there (tcp_recvmsg).
        let reach = |client: &mut Client| client.available(|read, mark| mark > read);
        let bytes = self.take_out(buffer.len(), reach)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.give(bytes, self.short())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SimStream {
    type Pipe = SimPipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let now_ms = world.now_ms();
        let client = &mut world.clients[self.id];
        if client.reset {
            return error(ENOTCONN);
        }
        client.server_ended = true;
        client.server_ended_ms = now_ms;
        client.turn.was_ended = true;
        client.note_end_of_secured();
        client.was_cut_at_end = client.service == Service::Echo
            && client.secured.is_none()
            && client.sent > client.written;
        Ok(())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        self.world.borrow_mut().clients[self.id].resets_on_close = true;
        Ok(())
    }

    /// As a read that takes nothing.
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let client = &mut world.clients[self.id];
        client.turn.reads += 1;
        if client.reset {
            return error(ECONNRESET);
        }
        assert_eq!(client.read, client.written, "peeked while a backlog waits");
        client.forget_passed_marks();
        let count = client.available(|read, mark| mark > read);
        let count = count.min(buffer.len() as u64);
        if count == 0 {
            let is_end = client.ended && client.sent == client.read;
            return if is_end { Ok(0) } else { error(EAGAIN) };
        }
        for (at, byte) in buffer[..count as usize].iter_mut().enumerate() {
            *byte = client.byte(client.read + at as u64);
        }
        client.peeked = client.read + count;
        Ok(count as usize)
    }

    fn drained_by_short_read(&self) -> bool {
        self.world.borrow().clients[self.id].kind == Kind::Tcp
    }

    fn is_spliceable(&self) -> bool {
        self.drained_by_short_read()
    }

    fn is_drained(&mut self) -> bool {
        let client = &self.world.borrow().clients[self.id];
        !client.reset && client.sent == client.read
    }

    fn open_pipe(&self) -> io::Result<SimPipe> {
        let mut world = self.world.borrow_mut();
        let choice = world.random.below(40);
        match choice {
            0 if world.faults => error(EMFILE),
            1 if world.faults => error(EPERM),
            _ => Ok(SimPipe::default()),
        }
    }

    /// A splice never passes an urgent mark, and the slots may fill up before all input is moved.
    fn fill(&mut self, pipe: &mut SimPipe, max: usize) -> io::Result<usize> {
        let slots = {
            let random = &mut self.world.borrow_mut().random;
            if random.one_in(3) {
                1 + random.below(20)
            } else {
                u64::MAX
            }
        };
        let reach = |client: &mut Client| client.available(|read, mark| mark >= read).min(slots);
        let bytes = self.take_out(max, reach)?;
        pipe.0.extend(&bytes);
        Ok(bytes.len())
    }

    fn pour(&mut self, pipe: &mut SimPipe) -> io::Result<usize> {
        let count = self.give(pipe.0.make_contiguous(), self.short())?;
        pipe.0.drain(..count);
        Ok(count)
    }
}

/// A pipe in memory.
#[derive(Debug, Default)]
pub(super) struct SimPipe(VecDeque<u8>);

impl Pipe for SimPipe {
    const MIN_BULK: usize = 8;

    fn held(&self) -> usize {
        self.0.len()
    }
}

impl Read for SimPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
