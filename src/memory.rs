//! The memory that workers share: a budget in bytes, and allocations that may fail.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) mod allocation;

/// The memory for bytes that wait to be written, of all workers together. A worker takes a part and
/// keeps its accounts there, so that only a backlog that begins or ends may touch the shared number.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes; `None` is unlimited.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        Self {
            free: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
        }
    }

    /// Takes this number of bytes, or nothing if fewer are free.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        // Relaxed: only the number is shared, and it publishes nothing else.
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }

    /// Returns bytes that were taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

/// The memory that `len` kept bytes cost at most: themselves, the allocator's rounding (a page, when
/// a block is mapped alone, which the C library does from 128 KiB on), and what describes them.
pub(crate) const fn cost(len: usize) -> usize {
    /// Two small blocks with their headers, or the description of a kept datagram.
    const DESCRIPTION: usize = 224;
    len + len / 32 + DESCRIPTION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded() {
        let budget = Budget::new(Some(100));
        assert!(budget.try_take(60) && !budget.try_take(41) && budget.try_take(40));
        budget.give_back(1);
        assert!(!budget.try_take(2) && budget.try_take(1));
        assert_eq!(budget.free(), 0);
    }

    #[test]
    fn workers_take_no_more_than_there_is() {
        const WORKERS: usize = 4;
        const TAKES: usize = 10_000;
        let budget = Budget::new(Some(TAKES as u64));
        let take_all = || (0..TAKES).filter(|_| budget.try_take(1)).count();
        let taken: usize = std::thread::scope(|scope| {
            let workers = [(); WORKERS].map(|()| scope.spawn(take_all));
            workers.map(|it| it.join().unwrap()).iter().sum()
        });
        assert_eq!((taken, budget.free()), (TAKES, 0));
    }

    #[test]
    fn no_limit_is_never_reached() {
        let budget = Budget::new(None);
        assert!(budget.try_take(usize::MAX / 2));
        budget.give_back(usize::MAX / 2);
        assert_eq!(budget.free(), usize::MAX);
    }
}
