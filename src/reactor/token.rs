//! What an event's token stands for, and what a timer's id does.

use mio::Token;

/// The source of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// Someone outside the worker changed the server's state.
    Waker,
    /// The worker's listener with this index.
    Listener(usize),
    /// The connection with this slab key.
    Conn(usize),
}

/// Connections take the tokens from 0 on, so that the most frequent need no arithmetic; everything
/// else counts down from the top.
const WAKER: usize = usize::MAX;
const FIRST_LISTENER: usize = WAKER - 1;

impl Source {
    /// `listeners` is how many listeners the worker has.
    pub(super) fn of(token: Token, listeners: usize) -> Self {
        match token.0 {
            WAKER => Self::Waker,
            other if FIRST_LISTENER - other < listeners => Self::Listener(FIRST_LISTENER - other),
            key => Self::Conn(key),
        }
    }

    pub(super) fn token(self) -> Token {
        Token(match self {
            Self::Waker => WAKER,
            Self::Listener(index) => FIRST_LISTENER - index,
            Self::Conn(key) => key,
        })
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deadline {
    /// Try to accept again after a lack of resources.
    AcceptRetry,
    /// The drain delay is over: stop accepting.
    StopAccepting,
    /// The last handshakes had their time: close the listeners.
    CloseListeners,
    /// The drain timeout is over.
    EndDrain,
    /// Look after the connection with this slab key.
    Conn(usize),
}

impl Deadline {
    pub(super) fn of(id: usize) -> Self {
        match id {
            0 => Self::AcceptRetry,
            1 => Self::StopAccepting,
            2 => Self::CloseListeners,
            3 => Self::EndDrain,
            id => Self::Conn(id - 4),
        }
    }

    pub(super) fn id(self) -> usize {
        match self {
            Self::AcceptRetry => 0,
            Self::StopAccepting => 1,
            Self::CloseListeners => 2,
            Self::EndDrain => 3,
            Self::Conn(key) => key + 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_ids_stand_for_what_they_were_made_of() {
        for source in [
            Source::Waker,
            Source::Listener(0),
            Source::Listener(4),
            Source::Conn(0),
            Source::Conn(1 << 30),
        ] {
            assert_eq!(Source::of(source.token(), 5), source);
        }
        for deadline in [
            Deadline::AcceptRetry,
            Deadline::StopAccepting,
            Deadline::CloseListeners,
            Deadline::EndDrain,
            Deadline::Conn(0),
            Deadline::Conn(9),
        ] {
            assert_eq!(Deadline::of(deadline.id()), deadline);
        }
    }
}
