//! Servers in this process, each of which takes over from its predecessor.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use echomark::internal::{Alive, Heartbeat, Inherited, Succession};
use echomark::internal::{Answer, Claim, Confirmed, Offer, Takeover};
use echomark::metrics::CloseReason;
use echomark::{Config, Handle, Server};

use super::directory::Directory;
use super::{Running, wait_for, wait_until};

/// A server that waits for its successor.
pub(crate) struct Generation {
    pub(crate) server: Running,
    offering: JoinHandle<()>,
}

impl Generation {
    /// Takes over from the server that waits for its successor in the directory, if there is one.
    #[track_caller]
    pub(crate) fn start(directory: &Directory, config: &Config) -> Self {
        let path = &path_in(directory);
        let (server, offer) = match Takeover::ask(path, config).expect("an answer") {
            Answer::Offer(mut takeover) => {
                let server = claim(&mut takeover, config);
                let server = Running::run(server);
                wait_until_it_serves(&server);
                let offer = confirm(*takeover, &server.handle);
                (server, offer.expect("a socket for the next successor"))
            }
            Answer::Busy => panic!("another server is taking over"),
            Answer::Nobody | Answer::Ending(_) => {
                let server = bind(config, Vec::new());
                let offer = Offer::bind(path).expect("a path to wait on");
                (Running::run(server), offer)
            }
        };
        let handle = server.handle.clone();
        let offering = thread::spawn(move || offer.serve(&handle, &()));
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

/// The hand-over socket of all generations of a test.
pub(crate) fn path_in(directory: &Directory) -> PathBuf {
    directory.join("handover")
}

/// A server with these sockets and new ones, all of which a successor may ask for.
#[track_caller]
pub(crate) fn bind(config: &Config, inherited: Vec<Inherited>) -> Server {
    let server = Server::bind_with(config.clone(), inherited, Succession::Offered);
    server.expect("inherited sockets or free ports")
}

/// The server on a predecessor's sockets. It may serve, and does not yet.
#[track_caller]
pub(crate) fn claim(takeover: &mut Takeover, config: &Config) -> Server {
    let inherited = std::mem::take(&mut takeover.endpoints);
    let server = bind(config, inherited);
    let claim = takeover.claim(&server.handle()).expect("an answer");
    assert_eq!(claim, Claim::Granted);
    server
}

/// Reports that the server serves, which the predecessor must accept.
#[track_caller]
pub(crate) fn confirm(takeover: Takeover, handle: &Handle) -> Option<Offer> {
    match takeover.confirm(handle).expect("no failure") {
        Confirmed::Owner(offer) => offer,
        Confirmed::Left => None,
    }
}

/// Asks for the sockets of a server that has to offer them, perhaps once it has noticed the end of an
/// earlier successor.
#[track_caller]
pub(crate) fn ask(directory: &Directory, config: &Config) -> Box<Takeover> {
    let path = &path_in(directory);
    wait_for("an offer", || {
        match Takeover::ask(path, config).expect("an answer") {
            Answer::Offer(takeover) => Some(takeover),
            Answer::Busy => None,
            other => panic!("no offer but {other:?}"),
        }
    })
}

/// Returns once every worker's loop turns.
#[track_caller]
pub(crate) fn wait_until_it_serves(server: &Running) {
    let mut heartbeat = Heartbeat::new(server.handle.clone());
    wait_until("turning workers", || heartbeat.check() == Alive::All);
}
