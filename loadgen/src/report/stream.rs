//! Writing during a run, without ever blocking it.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use crate::engine::sys;

/// Niceness of a writer: measuring threads go first (nice(1)).
const NICE: i32 = 10;

/// A writing thread with a bounded queue. If the disk or the reader is too slow, items are dropped
/// and counted.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    queue: SyncSender<T>,
    writer: thread::JoinHandle<io::Result<()>>,
    dropped: u64,
}

/// Why the output of a run is incomplete.
#[derive(Debug)]
pub enum StreamError {
    /// Writing failed.
    Write(io::Error),
    /// This number of intervals or events is missing, because writing them took longer than the run.
    Dropped(u64),
}

impl<T: Send + 'static> Stream<T> {
    /// Starts a thread called `name`, in which `write` writes the queued items. At most `capacity`
    /// items wait.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(
        name: &str,
        capacity: usize,
        write: impl FnOnce(Receiver<T>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, items) = mpsc::sync_channel(capacity);
        let writer = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // If this fails, only a little precision is lost.
                let _ = sys::set_thread_nice(NICE);
                write(items)
            })?;
        Ok(Self {
            queue,
            writer,
            dropped: 0,
        })
    }

    /// Queues `item`, or drops it if the queue is full. Returns at once.
    pub(crate) fn put(&mut self, item: T) {
        match self.queue.try_send(item) {
            // The writer has failed; `finish` reports the reason.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.dropped += 1,
        }
    }

    /// Writes the waiting items and a last item, made with the number of dropped items. This waits
    /// for the disk or the reader, as long as they take.
    ///
    /// # Errors
    /// Not everything was written.
    pub(crate) fn finish(self, last: impl FnOnce(u64) -> T) -> Result<(), StreamError> {
        // Fails only if the writer has failed.
        let _ = self.queue.send(last(self.dropped));
        drop(self.queue);
        self.writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writing thread ended unexpectedly")))
            .map_err(StreamError::Write)?;
        match self.dropped {
            0 => Ok(()),
            dropped => Err(StreamError::Dropped(dropped)),
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(error) => error.fmt(f),
            Self::Dropped(count) => write!(
                f,
                "{count} lines are missing, because it did not take them as fast as they came; use \
                 a faster disk or reader, or in a run longer intervals (--interval)"
            ),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write(error) => Some(error),
            Self::Dropped(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stuck_writer_can_t_take_is_dropped_and_counted() {
        const CAPACITY: usize = 3;
        let (go, gate) = mpsc::channel::<()>();
        let (out, written) = mpsc::channel();
        let mut stream = Stream::start("test", CAPACITY, move |items| {
            let _ = gate.recv();
            for item in items {
                out.send(item).map_err(io::Error::other)?;
            }
            Ok(())
        })
        .unwrap();
        for item in 0..10 {
            stream.put(item);
        }
        go.send(()).unwrap();
        let error = stream.finish(|dropped| 100 + dropped).unwrap_err();
        assert!(matches!(error, StreamError::Dropped(7)), "{error:?}");
        assert_eq!(written.iter().collect::<Vec<_>>(), [0, 1, 2, 107]);
    }

    #[test]
    fn a_writer_that_fails_says_why_and_stops_nobody() {
        let mut stream = Stream::start("test", 1, |items| {
            let _ = items.recv();
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap();
        for item in 0..10 {
            stream.put(item);
        }
        match stream.finish(|_| 0).unwrap_err() {
            StreamError::Write(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            other => panic!("{other:?}"),
        }
    }
}
