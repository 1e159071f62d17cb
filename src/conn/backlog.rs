//! The backlog of a connection: bytes that were read and that the socket has not taken yet, and the
//! memory of a worker for them.
//!
//! Bytes are read only while a worker can keep a whole read for certain: it holds that part of the
//! budget, and a spare block in case an allocation fails. So no byte that was read is lost for lack
//! of memory.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::memory::allocation::{self, OutOfMemory, try_box};
use crate::memory::{Budget, cost};

/// Bytes that wait to be written. Holds memory only while there are any.
///
/// An idle connection has an empty backlog, so this is one pointer wide.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Option<Block>);

/// One on the heap, by an allocation that may fail.
type Block = Box<[Pending; 1]>;

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    fn of(bytes: Result<Vec<u8>, OutOfMemory>) -> Result<Block, OutOfMemory> {
        try_box(Self {
            bytes: bytes?,
            written: 0,
        })
    }

    fn cost(&self) -> usize {
        cost(self.bytes.capacity())
    }
}

impl Backlog {
    /// Notes that the first `count` of the waiting bytes were written, and frees the memory after
    /// the last one.
    ///
    /// # Panics
    /// When `count` exceeds the backlog.
    pub(crate) fn consume(&mut self, count: usize, memory: &mut BacklogMemory) {
        assert!(count <= self.len(), "wrote more than there was");
        if count == self.len() {
            self.clear(memory);
        } else if let Some(block) = &mut self.0 {
            block[0].written += count;
        }
    }

    /// Drops the backlog and returns its length.
    pub(crate) fn clear(&mut self, memory: &mut BacklogMemory) -> usize {
        let lost = self.len();
        if let Some(block) = self.0.take() {
            memory.free(block);
        }
        lost
    }

    /// The waiting bytes, in order.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |block| {
            let [pending] = &**block;
            &pending.bytes[pending.written..]
        })
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether nothing waits.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[cfg(test)]
    pub(crate) fn cost(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block[0].cost())
    }
}

// The layout promise of the type's documentation.
const _: () = assert!(size_of::<Backlog>() == size_of::<usize>());

/// From this many freed bytes on, it pays to return them to the system.
const MIN_RETURNED: usize = 16 << 20;

/// A worker's memory for backlogs.
#[derive(Debug)]
pub(crate) struct BacklogMemory {
    budget: Arc<Budget>,
    /// Bytes taken from the budget and not in use.
    held: usize,
    /// The length of a whole read.
    max_len: usize,
    /// For an allocation that fails. Its pages are untouched, so until then it costs none.
    spare: Option<Block>,
    /// Whether the worker has all that a whole read may need.
    can_keep: bool,
    /// Bytes in use, and the most since freed memory was last returned to the system.
    used: usize,
    peak: usize,
    /// Asks a thread that may wait to return it: the C library keeps it otherwise.
    return_freed: Option<SyncSender<()>>,
}

impl BacklogMemory {
    /// Memory within `budget`, for reads of at most `max_len` bytes.
    pub(crate) fn new(budget: Arc<Budget>, max_len: usize) -> Self {
        let mut memory = Self {
            budget,
            held: 0,
            max_len,
            spare: None,
            can_keep: false,
            used: 0,
            peak: 0,
            return_freed: None,
        };
        memory.prepare();
        memory
    }

    /// Sends a request for each time that much of the memory was freed.
    pub(crate) fn ask_to_return_freed(&mut self, requests: SyncSender<()>) {
        self.return_freed = Some(requests);
    }

    /// Whether all bytes of a read could be kept. If not, input has to stay in the kernel.
    #[inline(always)]
    pub(crate) fn can_keep(&self) -> bool {
        self.can_keep
    }

    /// Tries to get what a whole read may need, and returns whether it is there.
    pub(crate) fn prepare(&mut self) -> bool {
        let needed = cost(self.max_len);
        if self.held < needed && self.budget.try_take(needed - self.held) {
            self.held = needed;
        }
        if self.spare.is_none() {
            let mut bytes = Vec::new();
            let reserved = allocation::try_reserve_exact(&mut bytes, self.max_len);
            self.spare = Pending::of(reserved.map(|()| bytes)).ok();
        }
        self.can_keep = self.held >= needed && self.spare.is_some();
        self.can_keep
    }

    /// Keeps a copy of bytes of one read, in a block of exactly their size if there is memory.
    ///
    /// # Panics
    /// Unless [`BacklogMemory::can_keep`].
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Backlog {
        assert!(self.can_keep, "read without memory for a backlog");
        if bytes.is_empty() {
            return Backlog::default();
        }
        let block = match Pending::of(allocation::try_copy(bytes)) {
            Ok(block) => Some(block),
            Err(OutOfMemory) => self.spare.take().map(|mut spare| {
                // Within its capacity, so this allocates nothing.
                spare[0].bytes.extend_from_slice(bytes);
                spare
            }),
        };
        let cost = block.as_ref().map_or(0, |block| block[0].cost());
        self.held -= cost;
        self.used += cost;
        self.peak = self.peak.max(self.used);
        self.prepare();
        Backlog(block)
    }

    fn free(&mut self, block: Block) {
        let freed = block[0].cost();
        self.held += freed;
        self.used = self.used.saturating_sub(freed);
        drop(block);
        if self.peak >= MIN_RETURNED && self.used <= self.peak / 4 {
            self.peak = self.used;
            if let Some(return_freed) = &self.return_freed {
                // If the queue is full, it is going to be returned.
                let _ = return_freed.try_send(());
            }
        }
        // What two reads may need stays, so that backlogs that come and go rarely touch the budget.
        let needed = cost(self.max_len);
        if self.held > 2 * needed {
            self.budget.give_back(self.held - needed);
            self.held = needed;
        }
        if !self.can_keep {
            self.prepare();
        }
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}

impl Drop for BacklogMemory {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::allocation::faults;
    use proptest::prelude::*;

    const MAX_LEN: usize = 300;

    fn memory(limit: Option<u64>) -> BacklogMemory {
        BacklogMemory::new(Arc::new(Budget::new(limit)), MAX_LEN)
    }

    proptest! {
        #[test]
        fn kept_bytes_come_out_in_order_and_the_last_one_frees_the_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..MAX_LEN),
            steps in prop::collection::vec(1_usize..100, 0..40),
        ) {
            let mut memory = memory(None);
            let mut backlog = memory.keep(&bytes);
            let mut out = Vec::new();
            for step in steps {
                let step = step.min(backlog.len());
                out.extend_from_slice(&backlog.bytes()[..step]);
                backlog.consume(step, &mut memory);
                prop_assert_eq!(backlog.is_empty(), out.len() == bytes.len());
                prop_assert_eq!(backlog.len(), bytes.len() - out.len());
            }
            prop_assert_eq!(backlog.clear(&mut memory), bytes.len() - out.len());
            prop_assert!(backlog.is_empty());
            prop_assert_eq!(&out[..], &bytes[..out.len()]);
        }

        /// Two workers keep and free backlogs while allocations fail: nothing that was read is lost,
        /// and the accounts add up to the budget at every step.
        #[test]
        fn the_budget_is_kept_and_all_of_it_comes_back(
            limit in 0_usize..5000,
            seed in any::<u64>(),
            steps in prop::collection::vec((0_usize..2, 0_usize..=MAX_LEN, any::<bool>()), 1..200),
        ) {
            let budget = Arc::new(Budget::new(Some(limit as u64)));
            let mut workers = [(); 2].map(|()| BacklogMemory::new(Arc::clone(&budget), MAX_LEN));
            let mut kept = [Vec::new(), Vec::new()];
            faults::begin(seed);
            for (worker, len, keeps) in steps {
                let (memory, kept) = (&mut workers[worker], &mut kept[worker]);
                if !keeps {
                    if let Some(mut backlog) = kept.pop() {
                        let _: usize = Backlog::clear(&mut backlog, memory);
                    }
                } else if memory.can_keep() || memory.prepare() {
                    let backlog = memory.keep(&vec![7; len]);
                    assert_eq!(backlog.len(), len);
                    kept.push(backlog);
                }
                let used: usize = kept_cost(&workers, &[]) + budget.free();
                prop_assert!(used <= limit);
            }
            faults::end();
            prop_assert_eq!(kept_cost(&workers, &kept) + budget.free(), limit);
            for (memory, kept) in workers.iter_mut().zip(&mut kept) {
                for backlog in kept {
                    backlog.clear(memory);
                }
            }
            drop(workers);
            prop_assert_eq!(budget.free(), limit);
        }
    }

    fn kept_cost(workers: &[BacklogMemory], kept: &[Vec<Backlog>]) -> usize {
        let held: usize = workers.iter().map(BacklogMemory::held).sum();
        held + kept.iter().flatten().map(Backlog::cost).sum::<usize>()
    }

    #[test]
    fn much_that_was_freed_is_returned_once() {
        const BLOCK: usize = 1 << 20;
        let (requests, received) = std::sync::mpsc::sync_channel(1);
        let mut memory = BacklogMemory::new(Arc::new(Budget::new(None)), BLOCK);
        memory.ask_to_return_freed(requests);
        let mut kept: Vec<_> = (0..32).map(|_| memory.keep(&vec![1; BLOCK])).collect();
        for backlog in &mut kept[..23] {
            backlog.clear(&mut memory);
        }
        assert!(received.try_recv().is_err(), "a quarter is still in use");
        for backlog in &mut kept[23..] {
            backlog.clear(&mut memory);
        }
        assert!(received.try_recv().is_ok());
        assert!(received.try_recv().is_err(), "little more was freed");
    }

    #[test]
    fn without_budget_nothing_may_be_read_until_some_is_free() {
        let mut memory = memory(Some(cost(MAX_LEN) as u64));
        assert!(memory.can_keep());
        let mut backlog = memory.keep(b"abc");
        assert!(!memory.can_keep() && !memory.prepare());
        backlog.consume(3, &mut memory);
        assert!(memory.can_keep());
    }

    #[test]
    #[should_panic(expected = "wrote more than there was")]
    fn writing_more_than_waits_is_a_defect() {
        let mut memory = memory(None);
        memory.keep(b"abc").consume(4, &mut memory);
    }
}
