//! Streams to a server that throws them away. The window is from the first byte to the server's end of
//! the last connection, which it sends when it has read everything: so what was sent is what was
//! thrown away, exactly. There is no warm-up.

use std::io;
use std::time::Instant;

use super::flow::{self, Patience};
use super::pattern::Pattern;
use super::window::{Gauge, Window};
use super::{Length, Order, Outcome, STALL, context};
use crate::sys::{self, EPOLLIN, EPOLLOUT, Epoll};

pub(super) fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    let size = order.shape.size;
    let pattern = Pattern::new(size, 0);
    let sockets = flow::connect_unproven(order.target, order.shape.connections)?;
    let epoll = Epoll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        epoll.add(socket.0, EPOLLIN | EPOLLOUT, index as u64)?;
    }
    // Nothing to count: the window is opened by the first byte and closed below.
    let mut window = Window::new(Length::Count(0), gauge)?;
    let begun = Instant::now();
    let (mut writes, mut bytes) = (0_u64, 0_u64);
    let mut ended = vec![End::Open; sockets.len()];
    let mut events = [sys::NO_EVENT; sys::EVENTS];
    let mut patience = Patience::new();
    while ended.contains(&End::Open) || ended.contains(&End::Ours) {
        let count = epoll.wait(&mut events, Some(STALL))?;
        patience.after(count, || ended.len())?;
        let enough = match order.length {
            Length::Window { window, .. } => begun.elapsed() >= window,
            Length::Count(count) => writes >= count,
        };
        for event in &events[..count] {
            let index = event.u64 as usize;
            let fd = sockets[index].0;
            match ended[index] {
                End::Open if enough => {
                    sys::shutdown_write(fd)?;
                    epoll.modify(fd, EPOLLIN, index as u64)?;
                    ended[index] = End::Ours;
                }
                End::Open => match sys::send(fd, pattern.at(0, size)) {
                    Ok(sent) => {
                        writes += 1;
                        bytes += sent as u64;
                    }
                    Err(e) if sys::is_transient(&e) => {}
                    Err(e) => return Err(context("sending", &e)),
                },
                End::Ours => match sys::recv(fd, &mut [0; 1]) {
                    Ok(0) => {
                        epoll.modify(fd, 0, index as u64)?;
                        ended[index] = End::Both;
                    }
                    Ok(_) => return Err(io::Error::other("a discard server answered")),
                    Err(e) if sys::is_transient(&e) => {}
                    Err(e) => return Err(context("waiting for the server's end", &e)),
                },
                End::Both => {}
            }
        }
    }
    window.close(writes, bytes)?;
    window.outcome()
}

/// Which sides of a connection have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Ours,
    Both,
}
