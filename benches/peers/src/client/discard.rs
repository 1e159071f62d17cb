//! Streams to a server that throws them away. The window is from the first byte to the server's end of
//! the last connection, which it sends when it has read everything: so what was sent is what was
//! thrown away, exactly. There is no warm-up.

use std::io;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown};

use super::connect;
use super::load::{Length, Load, Outcome, failed, unless_blocked};
use super::pattern::Pattern;
use super::poll::Poll;
use super::window::Window;

/// Which sides of a connection have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Ours,
    Both,
}

pub(super) fn run(load: &Load) -> io::Result<Outcome> {
    let pattern = Pattern::new(load.shape.size, 0);
    let block = pattern.at(0, load.shape.size);
    let sockets = connect::unproven(load.target, load.shape.connections)?;
    let mut poll = Poll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        poll.add(socket, index, EventFlags::IN | EventFlags::OUT)?;
    }
    let mut window = Window::new(load)?;
    window.open(0, 0)?;
    let begun = Instant::now();
    let (mut writes, mut bytes) = (0, 0);
    let mut ends = vec![End::Open; sockets.len()];
    while ends.iter().any(|end| *end != End::Both) {
        let count = poll.wait()?;
        let enough = match load.length {
            Length::Window { window, .. } => begun.elapsed() >= window,
            Length::Count(count) => writes >= count,
        };
        for number in 0..count {
            let (index, _) = poll.event(number);
            let socket = &sockets[index];
            match ends[index] {
                End::Open if enough => {
                    net::shutdown(socket, Shutdown::Write)?;
                    poll.set_interest(socket, index, EventFlags::IN)?;
                    ends[index] = End::Ours;
                }
                End::Open => {
                    let sent = net::send(socket, block, SendFlags::NOSIGNAL);
                    if let Some(sent) = unless_blocked(sent, "sending")? {
                        writes += 1;
                        bytes += sent as u64;
                    }
                }
                End::Ours => {
                    let received = net::recv(socket, &mut [0; 1], RecvFlags::empty());
                    match unless_blocked(received, "waiting for the server's end")? {
                        Some((0, _)) => {
                            poll.set_interest(socket, index, EventFlags::empty())?;
                            ends[index] = End::Both;
                        }
                        Some(_) => return Err(failed("a discard server answered")),
                        None => {}
                    }
                }
                End::Both => {}
            }
        }
    }
    window.close(writes, bytes)?;
    window.outcome()
}
