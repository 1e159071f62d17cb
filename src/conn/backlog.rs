//! The backlog of a connection: bytes that were read and that the socket has not taken yet.

/// Bytes that wait to be written. Holds memory only while there are any.
///
/// An idle connection has an empty backlog, so this is one pointer wide.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Option<Box<Pending>>);

#[derive(Debug)]
struct Pending {
    bytes: Box<[u8]>,
    written: usize,
}

impl Backlog {
    /// Stores a copy of `bytes` in an allocation of exactly that size.
    ///
    /// Nothing is read while there is a backlog, so there is never one to append to.
    pub(crate) fn store(&mut self, bytes: &[u8]) {
        debug_assert!(self.is_empty(), "nothing is read while there is a backlog");
        if !bytes.is_empty() {
            self.0 = Some(Box::new(Pending {
                bytes: bytes.into(),
                written: 0,
            }));
        }
    }

    /// Notes that the first `count` of the waiting bytes were written, and frees the memory after
    /// the last one.
    ///
    /// # Panics
    /// When `count` exceeds the backlog.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "wrote more than there was");
        if count == self.len() {
            self.0 = None;
        } else if let Some(pending) = &mut self.0 {
            pending.written += count;
        }
    }

    /// Drops the backlog and returns its length.
    pub(crate) fn clear(&mut self) -> usize {
        let lost = self.len();
        self.0 = None;
        lost
    }

    /// The waiting bytes, in order.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0
            .as_ref()
            .map_or(&[], |pending| &pending.bytes[pending.written..])
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

// The layout promise of the type's documentation.
const _: () = assert!(size_of::<Backlog>() == size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stored_bytes_come_out_in_order_and_the_last_one_frees_the_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            steps in prop::collection::vec(1_usize..100, 0..40),
        ) {
            let mut backlog = Backlog::default();
            backlog.store(&bytes);
            let mut out = Vec::new();
            for step in steps {
                let step = step.min(backlog.len());
                out.extend_from_slice(&backlog.bytes()[..step]);
                backlog.consume(step);
                prop_assert_eq!(backlog.is_empty(), out.len() == bytes.len());
                prop_assert_eq!(backlog.len(), bytes.len() - out.len());
            }
            prop_assert_eq!(backlog.clear(), bytes.len() - out.len());
            prop_assert!(backlog.is_empty());
            prop_assert_eq!(&out[..], &bytes[..out.len()]);
        }
    }

    #[test]
    #[should_panic(expected = "wrote more than there was")]
    fn writing_more_than_waits_is_a_defect() {
        let mut backlog = Backlog::default();
        backlog.store(b"abc");
        backlog.consume(4);
    }
}
