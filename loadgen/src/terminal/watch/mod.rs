//! Terminal output during a watch: the live line and the full-screen view.
//!
//! The thread that probes must not wait for a terminal. It sends its news through a bounded channel to a
//! thread that shows them, and drops them while the channel is full: the next state has all counts.

mod draw;
pub(crate) mod line;
pub(crate) mod tui;

use std::io;
use std::sync::mpsc::Receiver;

use loadgen::observer::watch::{WatchEvent, WatchObserver, WatchStatus};

use super::viewer::Viewer;

/// Maximum of waiting news.
const MAX_WAITING: usize = 256;

/// News of a watch.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Event(WatchEvent),
    Status(WatchStatus),
}

/// A thread that shows a watch. Dropping it ends the thread and joins it.
#[derive(Debug)]
pub(crate) struct Feed(Viewer<News>);

impl Feed {
    /// Starts a thread that runs `show` until its channel is closed.
    ///
    /// # Errors
    /// The error of the kernel if no thread can be started.
    pub(crate) fn start(
        name: &str,
        show: impl FnOnce(&Receiver<News>) + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self(Viewer::start(name, MAX_WAITING, show)?))
    }
}

impl WatchObserver for Feed {
    fn event(&mut self, event: &WatchEvent) {
        self.0.send(News::Event(event.clone()));
    }

    fn status(&mut self, status: &WatchStatus) {
        self.0.send(News::Status(status.clone()));
    }
}
