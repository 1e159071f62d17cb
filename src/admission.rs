//! How many connections may be open at a time: one count over all workers.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::RefuseReason;

/// Admits connections up to a limit that holds exactly, however many workers accept at once.
#[derive(Debug)]
pub struct Admission {
    max_connections: usize,
    open: AtomicUsize,
}

impl Admission {
    /// Admits up to `max_connections` at a time.
    pub fn new(max_connections: NonZeroUsize) -> Self {
        Self {
            max_connections: max_connections.get(),
            open: AtomicUsize::new(0),
        }
    }

    /// Takes a place, to be given back by [`Admission::leave`].
    ///
    /// # Errors
    /// The reason to refuse the connection.
    pub fn enter(&self) -> Result<(), RefuseReason> {
        // Relaxed: the count itself is all that is shared, nothing is published through it.
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < self.max_connections).then_some(open + 1)
            })
            .map(drop)
            .map_err(|_| RefuseReason::MaxConnections)
    }

    /// Gives back a place taken by [`Admission::enter`].
    pub fn leave(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "left more often than entered");
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn the_limit_holds_exactly_under_a_storm_from_many_threads() {
        const LIMIT: usize = 10;
        const THREADS: usize = 8;
        let admission = Admission::new(NonZeroUsize::new(LIMIT).unwrap());
        let barrier = Barrier::new(THREADS);
        let admitted: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        for _ in 0..1000 {
                            if admission.enter().is_ok() {
                                assert!(admission.open() <= LIMIT);
                                admission.leave();
                            }
                        }
                        barrier.wait();
                        (0..LIMIT).filter(|_| admission.enter().is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, LIMIT);
        assert_eq!(admission.open(), LIMIT);
        assert_eq!(admission.enter(), Err(RefuseReason::MaxConnections));
        admission.leave();
        assert_eq!(admission.enter(), Ok(()));
    }
}
