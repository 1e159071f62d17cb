//! Allocations that report a lack of memory: the usual ones end the process (RLIMIT_AS, a limit on
//! committed memory). What connections need uses these.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use slab::Slab;

use crate::net::sys;

/// There was no memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OutOfMemory;

impl From<std::collections::TryReserveError> for OutOfMemory {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self
    }
}

impl From<OutOfMemory> for std::io::Error {
    fn from(_: OutOfMemory) -> Self {
        std::io::ErrorKind::OutOfMemory.into()
    }
}

/// A value on the heap. `Box::new` can't fail on stable Rust, but a vector of one can, and its
/// block becomes a box of the same size without another allocation.
pub(crate) fn try_box<T>(value: T) -> Result<Box<[T; 1]>, OutOfMemory> {
    let mut only = Vec::new();
    try_reserve_exact(&mut only, 1)?;
    only.push(value);
    only.try_into().map_err(|_| OutOfMemory)
}

/// A copy in a block of exactly its size.
pub(crate) fn try_copy(bytes: &[u8]) -> Result<Vec<u8>, OutOfMemory> {
    let mut copy = Vec::new();
    try_reserve_exact(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for this number of bytes more in a text.
pub(crate) fn try_reserve_text(text: &mut String, additional: usize) -> Result<(), OutOfMemory> {
    #[cfg(test)]
    faults::check()?;
    Ok(sys::fallibly(|| text.try_reserve_exact(additional))?)
}

/// Makes room for exactly this number of items more.
pub(crate) fn try_reserve_exact<T>(vec: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    #[cfg(test)]
    faults::check()?;
    Ok(sys::fallibly(|| vec.try_reserve_exact(additional))?)
}

/// The C library maps a block of this size alone (M_MMAP_THRESHOLD, mallopt(3)), so pages of it that
/// are not used cost no memory.
const MAPPED_ALONE: usize = 128 << 10;

/// Makes room for `total` items, and for some further ones if it has to grow, so that items can be
/// added one by one.
pub(crate) fn try_reserve<T>(vec: &mut Vec<T>, total: usize) -> Result<(), OutOfMemory> {
    if total <= vec.capacity() {
        return Ok(());
    }
    #[cfg(test)]
    faults::check()?;
    if vec.is_empty() {
        // Growing a block copies its unused room too, which would make that resident.
        let alone = MAPPED_ALONE / size_of::<T>().max(1);
        let room = total.max(2 * vec.capacity()).max(alone);
        *vec = Vec::new();
        return Ok(sys::fallibly(|| vec.try_reserve_exact(room))?);
    }
    Ok(sys::fallibly(|| vec.try_reserve(total - vec.len()))?)
}

/// Makes room for one more value. A slab's own growth ends the process where memory lacks, so a
/// block of twice the size it will take is tried first, and freed. Another thread could still take
/// that memory in between.
pub(crate) fn try_reserve_slab<T>(slab: &mut Slab<T>) -> Result<(), OutOfMemory> {
    /// A slab's first growth.
    const MIN_CAPACITY: usize = 4;
    if slab.len() < slab.capacity() {
        return Ok(());
    }
    #[cfg(test)]
    faults::check()?;
    let capacity = (2 * slab.capacity()).max(MIN_CAPACITY);
    // An entry is a value, or the key of the next free one.
    let entry = size_of::<T>().max(size_of::<usize>()) + size_of::<usize>();
    sys::fallibly(|| Vec::<u8>::new().try_reserve_exact(2 * capacity * entry))?;
    slab.reserve_exact(capacity - slab.len());
    Ok(())
}

/// As [`try_reserve`], for a queue.
pub(crate) fn try_reserve_queue<T>(
    queue: &mut VecDeque<T>,
    total: usize,
) -> Result<(), OutOfMemory> {
    if total <= queue.capacity() {
        return Ok(());
    }
    #[cfg(test)]
    faults::check()?;
    Ok(sys::fallibly(|| queue.try_reserve(total - queue.len()))?)
}

/// As [`try_reserve`], for a map.
pub(crate) fn try_reserve_map<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    total: usize,
) -> Result<(), OutOfMemory> {
    if total <= map.capacity() {
        return Ok(());
    }
    #[cfg(test)]
    faults::check()?;
    Ok(sys::fallibly(|| map.try_reserve(total - map.len()))?)
}

/// Allocations that fail on demand, on this thread.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::Cell;

    use super::OutOfMemory;

    thread_local! {
        /// The state of the generator that decides; 0: none fails.
        static STATE: Cell<u64> = const { Cell::new(0) };
    }

    /// One allocation in eight fails, by a sequence that the seed determines.
    pub(crate) fn begin(seed: u64) {
        STATE.set(seed | 1);
    }

    /// No allocation fails any more.
    pub(crate) fn end() {
        STATE.set(0);
    }

    /// xorshift64 (Marsaglia, 2003).
    pub(super) fn check() -> Result<(), OutOfMemory> {
        let mut state = STATE.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        if state % 8 == 1 {
            Err(OutOfMemory)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_has_its_value_and_a_copy_its_bytes() {
        assert_eq!(try_box(7).unwrap()[0], 7);
        let copy = try_copy(b"abc").unwrap();
        assert_eq!((copy.as_slice(), copy.capacity()), (&b"abc"[..], 3));
    }

    #[test]
    fn a_slab_has_room_for_the_next_value() {
        let mut slab = Slab::new();
        for value in 0..100 {
            try_reserve_slab(&mut slab).unwrap();
            let capacity = slab.capacity();
            assert_eq!(slab.insert(value), value);
            assert_eq!(slab.capacity(), capacity);
        }
    }

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        let mut bytes: Vec<u8> = Vec::new();
        let most = isize::MAX as usize;
        assert_eq!(try_reserve_exact(&mut bytes, most), Err(OutOfMemory));
    }
}
