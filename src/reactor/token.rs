//! The meaning of event tokens and timer ids.

use mio::Token;

/// The source of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// Another thread changed the server's state or sent a connection.
    Waker,
    /// The time of an alarm has come.
    Alarm,
    /// The worker's listener with this index.
    Listener(usize),
    /// The worker's UDP socket with this index.
    Datagrams(usize),
    /// The connection with this slab key.
    Conn(usize),
}

/// The number of sources of each kind, fixed at a worker's start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TokenLayout {
    listeners: usize,
    /// The lowest of their tokens: all tokens below it belong to connections.
    lowest: usize,
}

impl TokenLayout {
    pub(super) fn new(listeners: usize, datagrams: usize) -> Self {
        Self {
            listeners,
            lowest: ALARM - listeners - datagrams,
        }
    }
}

/// Connections have the tokens from 0 on, so that the most frequent need no arithmetic; the other
/// sources count down from the top: the waker, the alarm, then the listeners, then the UDP sockets.
const WAKER: usize = usize::MAX;
const ALARM: usize = WAKER - 1;
const FIRST: usize = ALARM - 1;

impl Source {
    #[inline]
    pub(super) fn of(token: Token, layout: TokenLayout) -> Self {
        match token.0 {
            key if key < layout.lowest => Self::Conn(key),
            WAKER => Self::Waker,
            ALARM => Self::Alarm,
            other => match (FIRST - other).checked_sub(layout.listeners) {
                None => Self::Listener(FIRST - other),
                Some(index) => Self::Datagrams(index),
            },
        }
    }

    pub(super) fn token(self, layout: TokenLayout) -> Token {
        Token(match self {
            Self::Waker => WAKER,
            Self::Alarm => ALARM,
            Self::Listener(index) => FIRST - index,
            Self::Datagrams(index) => FIRST - layout.listeners - index,
            Self::Conn(key) => key,
        })
    }
}

/// The purpose of a deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deadline {
    /// Try to accept again after a lack of resources.
    AcceptRetry,
    /// The drain delay is over: stop accepting.
    StopAccepting,
    /// The time for the last handshakes is over: close the listeners.
    CloseListeners,
    /// The drain timeout is over.
    EndDrain,
    /// Try again to serve connections for which the kernel had no memory, and to wake workers.
    Retry,
    /// There are alarms: this one keeps the timers from being empty, on which each turn depends.
    Alarm,
    /// The connection with this slab key may have broken a timeout or lingered long enough.
    Conn(usize),
}

/// Ids below this are not connections.
const FIRST_CONN: usize = 6;

impl Deadline {
    pub(super) fn of(id: usize) -> Self {
        match id {
            0 => Self::AcceptRetry,
            1 => Self::StopAccepting,
            2 => Self::CloseListeners,
            3 => Self::EndDrain,
            4 => Self::Retry,
            5 => Self::Alarm,
            id => Self::Conn(id - FIRST_CONN),
        }
    }

    pub(super) fn id(self) -> usize {
        match self {
            Self::AcceptRetry => 0,
            Self::StopAccepting => 1,
            Self::CloseListeners => 2,
            Self::EndDrain => 3,
            Self::Retry => 4,
            Self::Alarm => 5,
            Self::Conn(key) => key + FIRST_CONN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_ids_convert_back() {
        let layout = TokenLayout::new(5, 3);
        for source in [
            Source::Waker,
            Source::Alarm,
            Source::Listener(0),
            Source::Listener(4),
            Source::Datagrams(0),
            Source::Datagrams(2),
            Source::Conn(0),
            Source::Conn(1 << 30),
        ] {
            assert_eq!(Source::of(source.token(layout), layout), source);
        }
        for deadline in [
            Deadline::AcceptRetry,
            Deadline::StopAccepting,
            Deadline::CloseListeners,
            Deadline::EndDrain,
            Deadline::Retry,
            Deadline::Alarm,
            Deadline::Conn(0),
            Deadline::Conn(9),
        ] {
            assert_eq!(Deadline::of(deadline.id()), deadline);
        }
    }
}
