//! Terminal output during a watch: the live line and the full-screen view.
//!
//! The thread that probes must not wait for a terminal. It sends its news through a bounded channel to a
//! thread that shows them, and drops them while the channel is full: the next state has all counts.

mod draw;
pub(crate) mod line;
pub(crate) mod tui;

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use loadgen::observer::watch::{WatchEvent, WatchObserver, WatchStatus};

/// Maximum of waiting news.
const MAX_WAITING: usize = 256;
/// Niceness of the showing thread: probes go first (nice(1)).
const NICE: i32 = 10;

/// News of a watch.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Event(WatchEvent),
    Status(WatchStatus),
}

/// A thread that shows a watch. Dropping it ends the thread and joins it.
#[derive(Debug)]
pub(crate) struct Feed {
    /// `None` once the thread has to end.
    sender: Option<SyncSender<News>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts a thread that runs `show` until its channel is closed.
    ///
    /// # Errors
    /// The error of the kernel if no thread can be started.
    pub(crate) fn start(
        name: &str,
        show: impl FnOnce(&Receiver<News>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
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

    fn send(&self, news: News) {
        if let Some(sender) = &self.sender {
            // The thread is behind or has ended. The watch continues.
            let _ = sender.try_send(news);
        }
    }
}

impl WatchObserver for Feed {
    fn event(&mut self, event: &WatchEvent) {
        self.send(News::Event(event.clone()));
    }

    fn status(&mut self, status: &WatchStatus) {
        self.send(News::Status(status.clone()));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // The panic was printed.
            let _ = thread.join();
        }
    }
}
