//! A socket's readiness as the kernel reports it.

use std::ops::{BitOr, BitOrAssign};

/// The known readiness of a socket: a set in one byte, because each connection keeps one and each
/// event adds to it.
///
/// Readiness sticks until a call says "would block" (epoll(7), edge-triggered), so reports only ever
/// add to what is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readiness(u8);

impl Readiness {
    /// No readiness.
    pub const NONE: Self = Self(0);
    /// There may be input, an end or an error to read.
    pub const READABLE: Self = Self(1);
    /// There may be room to write, or an error to report.
    pub const WRITABLE: Self = Self(1 << 1);
    /// The peer shut its side down, the connection is gone, or it has an error. Both directions
    /// need a try.
    pub const HANGUP: Self = Self(1 << 2);
    /// Urgent data is announced.
    pub const URGENT: Self = Self(1 << 3);

    /// Whether there may be input to read.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.intersects(Self::READABLE)
    }

    /// Whether there may be room to write.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.intersects(Self::WRITABLE)
    }

    /// Whether anything of `other` is in the set.
    #[inline]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Removes all of `other` from the set.
    #[inline]
    pub fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl BitOr for Readiness {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl From<&mio::event::Event> for Readiness {
    #[inline]
    fn from(event: &mio::event::Event) -> Self {
        let all = Self::READABLE | Self::WRITABLE | Self::HANGUP;
        let mut readiness = Self::NONE;
        let mut add = |holds: bool, what: Self| readiness.0 |= what.0 * u8::from(holds);
        add(event.is_readable(), Self::READABLE);
        add(event.is_writable(), Self::WRITABLE);
        add(event.is_priority(), Self::URGENT);
        let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
        add(hangup, all);
        readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    #[test]
    fn a_set_adds_and_removes() {
        let mut set = Readiness::NONE;
        set |= Readiness::READABLE | Readiness::URGENT;
        assert!(set.is_readable() && !set.is_writable());
        set.remove(Readiness::READABLE | Readiness::HANGUP);
        assert_eq!(set, Readiness::URGENT);
        assert!(!set.intersects(Readiness::READABLE | Readiness::WRITABLE));
    }

    /// Merges reports of one socket until all of `wanted` were reported.
    #[track_caller]
    fn reports(socket: &std::net::TcpStream, wanted: Readiness) -> Readiness {
        let mut poll = mio::Poll::new().unwrap();
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE | mio::Interest::PRIORITY;
        poll.registry()
            .register(
                &mut mio::unix::SourceFd(&socket.as_raw_fd()),
                mio::Token(0),
                interest,
            )
            .unwrap();
        let mut events = mio::Events::with_capacity(4);
        let mut seen = Readiness::NONE;
        for _ in 0..100 {
            poll.poll(&mut events, Some(Duration::from_millis(100)))
                .unwrap();
            for event in &events {
                seen |= event.into();
            }
            if seen | wanted == seen {
                return seen;
            }
        }
        panic!("{wanted:?} was not reported, only {seen:?}");
    }

    #[test]
    fn reports_of_the_kernel_are_read_right() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let room = Readiness::WRITABLE;
        assert_eq!(reports(&client, room), room);
        server.write_all(b"x").unwrap();
        assert_eq!(
            reports(&client, Readiness::READABLE),
            Readiness::READABLE | room
        );
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            reports(&client, Readiness::HANGUP),
            Readiness::READABLE | room | Readiness::HANGUP
        );
        let socket = socket2::SockRef::from(&server);
        assert_eq!(
            socket.send_out_of_band(b"!").map_err(|e| e.kind()),
            Err(std::io::ErrorKind::BrokenPipe)
        );
        let urgent = socket2::SockRef::from(&client);
        urgent.send_out_of_band(b"!").unwrap();
        assert!(reports(&server, Readiness::URGENT).intersects(Readiness::URGENT));
    }
}
