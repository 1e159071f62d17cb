//! The C library's allocator, and a reserve for when it has no memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Returns freed memory to the system, as far as the allocator can: malloc_trim(3) of glibc, which
/// holds each of its arenas for the time that takes. Other C libraries have nothing like it.
pub(crate) fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) takes a number and may be called by any thread (MT-Safe).
        unsafe { libc::malloc_trim(0) };
    }
}

/// The system's allocator, with a reserve. Rust ends the process when an allocation fails that does
/// not say so in order, and such are in the standard library and in others everywhere. Where memory
/// lacks, one of these gets the reserve's; until there is a reserve again, what can wait is to ask
/// `refill_reserve` first.
#[derive(Clone, Copy, Debug)]
pub struct ReservingAllocator;

/// A block that nothing is written to, so that it costs no memory where the C library maps it alone.
/// It is enough for the longest answer of the admin port several times over, and for a table of rates.
const BLOCK: Layout = match Layout::from_size_align(1 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

/// The reserve; null if it was given up.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Whether this thread's allocation may fail in order.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// Makes allocations that report failure: they leave the reserve to others.
pub(crate) fn fallibly<R>(allocate: impl FnOnce() -> R) -> R {
    let before = MAY_FAIL.replace(true);
    let result = allocate();
    MAY_FAIL.set(before);
    result
}

/// Whether there is a reserve, perhaps since now.
pub(crate) fn refill_reserve() -> bool {
    if !RESERVE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    // From the allocator and not from the system: what others have freed may do.
    // SAFETY: its size is not zero.
    let block = unsafe { System.alloc(BLOCK) };
    if block.is_null() {
        return false;
    }
    let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
    let stored = RESERVE.compare_exchange(ptr::null_mut(), block, release, relaxed);
    if stored.is_err() {
        // Another thread was faster.
        free(block);
    }
    true
}

/// Gives the reserve up for an allocation of this thread that failed, and returns whether it is worth
/// another try.
#[cold]
fn give_up_reserve() -> bool {
    // A thread that ends has no such variable any more; what it allocates can't fail in order.
    if MAY_FAIL.try_with(Cell::get).unwrap_or(false) {
        return false;
    }
    let block = RESERVE.swap(ptr::null_mut(), Ordering::Acquire);
    if !block.is_null() {
        free(block);
    }
    !block.is_null()
}

fn free(block: *mut u8) {
    // SAFETY: it is a block of `refill_reserve`, of this layout, and nothing refers to it: who has it took
    // it out of `RESERVE`, or never put it there.
    unsafe { System.dealloc(block, BLOCK) };
}

// SAFETY: each call is passed on to the system's allocator, perhaps twice if the first has failed and
// so has changed nothing; what it returns is returned.
unsafe impl GlobalAlloc for ReservingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() && give_up_reserve() {
            // SAFETY: as above.
            return unsafe { System.alloc(layout) };
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() && give_up_reserve() {
            // SAFETY: as above.
            return unsafe { System.alloc_zeroed(layout) };
        }
        block
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.realloc(old, layout, new_size) };
        if block.is_null() && give_up_reserve() {
            // SAFETY: as above; a call that failed has left the old block as it was.
            return unsafe { System.realloc(old, layout, new_size) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) };
    }
}
