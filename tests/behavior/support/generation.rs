//! Servers in this process, each of which takes over from its predecessor.

use std::thread::{self, JoinHandle};

use echomark::internal::{Alive, Heartbeat};
use echomark::internal::{Offer, Takeover};
use echomark::metrics::CloseReason;
use echomark::{Config, Server};

use super::{Running, wait_until};

/// A server that waits for its successor.
pub(crate) struct Generation {
    pub(crate) server: Running,
    offering: JoinHandle<()>,
}

impl Generation {
    /// Takes over from the server that listens on the path, if there is one.
    #[track_caller]
    pub(crate) fn start(config: &Config) -> Self {
        let path = config.handover.as_deref().expect("a path");
        let mut takeover = Takeover::ask(path, config).expect("a predecessor that answers");
        let inherited = takeover
            .as_mut()
            .map(|it| std::mem::take(&mut it.endpoints));
        let server = Server::bind_with(config.clone(), inherited.unwrap_or_default());
        let server = Running::run(server.expect("sockets"));
        let offer = match takeover {
            Some(takeover) => {
                wait_until_it_serves(&server);
                takeover
                    .confirm(&server.handle)
                    .expect("the predecessor lets go")
            }
            None => Offer::bind(path).expect("a path to wait on"),
        };
        let handle = server.handle.clone();
        let offering = thread::spawn(move || offer.serve(&handle, None));
        Self { server, offering }
    }

    /// Waits until it has drained after the take-over.
    #[track_caller]
    pub(crate) fn join(self) {
        wait_until("the end of the offer", || self.offering.is_finished());
        self.offering.join().expect("offering does not panic");
        let metrics = self.server.join();
        assert_eq!(metrics.active, 0);
        assert_eq!(metrics.closed(CloseReason::DrainTimeout), 0);
        assert_eq!(metrics.closed(CloseReason::Reset), 0);
    }
}

/// Returns once every worker's loop turns.
#[track_caller]
pub(crate) fn wait_until_it_serves(server: &Running) {
    let mut heartbeat = Heartbeat::new(server.handle.clone());
    wait_until("turning workers", || heartbeat.check() == Alive::All);
}
