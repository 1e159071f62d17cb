//! A thread that shows what another one sends, and never holds it up.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Niceness of the thread: those that measure go first (nice(1)).
const NICE: i32 = 10;

/// A thread that shows a run or a watch. Dropping it ends the thread and joins it.
#[derive(Debug)]
pub(crate) struct Viewer<T> {
    /// `None` once the thread has to end.
    sender: Option<SyncSender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Viewer<T> {
    /// Starts a thread that runs `show` until its channel, of `max_waiting` items, is closed.
    ///
    /// # Errors
    /// The error of the kernel if no thread can be started.
    pub(crate) fn start(
        name: &str,
        max_waiting: usize,
        show: impl FnOnce(&Receiver<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(max_waiting);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Without the niceness it still works, but may disturb others.
                let _ = rustix::process::setpriority_process(None, NICE);
                show(&receiver);
            })?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }
}

impl<T> Viewer<T> {
    /// Sends an item, unless the channel is full: then it is dropped.
    pub(crate) fn send(&self, item: T) {
        if let Some(sender) = &self.sender {
            // The thread is behind or has ended. The sender goes on.
            let _ = sender.try_send(item);
        }
    }
}

impl<T> Drop for Viewer<T> {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // The panic was printed.
            let _ = thread.join();
        }
    }
}
