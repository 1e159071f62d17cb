//! The assignment of sockets to workers: a pure function of an endpoint's sockets and the
//! configuration.

use crate::config::Balance;

/// How an endpoint's sockets and clients are distributed over the workers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Assignment {
    /// The effective balance of clients.
    pub(super) balance: Balance,
    workers: usize,
}

impl Assignment {
    /// The assignment of TCP listeners. With fewer listeners than workers, one worker accepts for
    /// all.
    pub(super) fn tcp(listeners: usize, workers: usize, configured: Balance) -> Self {
        let balance = if listeners < workers {
            Balance::LeastConnections
        } else if workers == 1 && configured == Balance::LeastConnections {
            Balance::Kernel
        } else {
            configured
        };
        Self { balance, workers }
    }

    /// The assignment of the one listener of a path.
    pub(super) fn unix(workers: usize) -> Self {
        let balance = if workers == 1 {
            Balance::Kernel
        } else {
            Balance::LeastConnections
        };
        Self { balance, workers }
    }

    /// The assignment of UDP sockets: no worker can hand a datagram to another.
    pub(super) fn udp(workers: usize, configured: Balance) -> Self {
        let balance = match configured {
            Balance::IncomingCpu => Balance::IncomingCpu,
            Balance::Kernel | Balance::LeastConnections => Balance::Kernel,
        };
        Self { balance, workers }
    }

    /// The worker of the socket with this index.
    pub(super) fn worker_of(&self, socket: usize) -> usize {
        match self.balance {
            Balance::LeastConnections => 0,
            Balance::Kernel | Balance::IncomingCpu => socket % self.workers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Balance::{IncomingCpu, Kernel, LeastConnections};

    #[test]
    fn a_worker_that_is_alone_has_nothing_to_balance() {
        for configured in [Kernel, LeastConnections] {
            assert_eq!(Assignment::tcp(1, 1, configured).balance, Kernel);
        }
        assert_eq!(Assignment::tcp(1, 1, IncomingCpu).balance, IncomingCpu);
        assert_eq!(Assignment::unix(1).balance, Kernel);
    }

    #[test]
    fn fewer_listeners_than_workers_feed_the_least_loaded() {
        for configured in [Kernel, LeastConnections, IncomingCpu] {
            let assignment = Assignment::tcp(3, 4, configured);
            assert_eq!(assignment.balance, LeastConnections);
            assert_eq!([0, 1, 2].map(|it| assignment.worker_of(it)), [0; 3]);
        }
        assert_eq!(Assignment::unix(4).balance, LeastConnections);
        assert_eq!(
            Assignment::tcp(4, 4, LeastConnections).balance,
            LeastConnections
        );
    }

    /// A predecessor may have had more workers.
    #[test]
    fn more_sockets_than_workers_are_dealt_in_turn() {
        for assignment in [
            Assignment::tcp(5, 2, Kernel),
            Assignment::udp(2, LeastConnections),
        ] {
            assert_eq!(assignment.balance, Kernel);
            let workers = [0, 1, 2, 3, 4].map(|it| assignment.worker_of(it));
            assert_eq!(workers, [0, 1, 0, 1, 0]);
        }
    }

    #[test]
    fn datagrams_are_the_kernel_s_to_spread_however_few_sockets_there_are() {
        assert_eq!(Assignment::udp(4, IncomingCpu).balance, IncomingCpu);
        assert_eq!(Assignment::udp(4, LeastConnections).balance, Kernel);
    }
}
