//! A peer at full speed has to share: whoever else has something to say gets a turn soon.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use crate::support::pattern::Pattern;
use crate::support::{Client, Running, config};

#[test]
fn greedy_peers_leave_the_others_their_turn() {
    const PEERS: u64 = 4;
    /// A few budgets of one turn, which is four reads of 64 KiB.
    const SHARE: u64 = 4 * (256 << 10);
    const ROUND_TRIPS: usize = 200;
    let server = Running::start(config());
    let peers: Vec<_> = (0..PEERS).map(|_| server.connect()).collect();
    let mut client = server.connect();
    thread::scope(|scope| {
        for peer in &peers {
            let (mut sender, mut receiver) = (Client::of(peer), Client::of(peer));
            // Both end with an error or an end once the connection is shut down below.
            scope.spawn(move || {
                let chunk = Pattern(1).bytes(256 << 10);
                while sender.write_all(&chunk).is_ok() {}
            });
            scope.spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while receiver.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
        }
        server.wait_for_metrics("greedy peers at work", |metrics| {
            metrics.received_bytes > PEERS << 20
        });
        // What the server takes from the greedy ones while a message waits for its echo. The
        // scheduler may delay this thread at times, so the typical round trip is looked at.
        let mut meanwhile: Vec<_> = (0..ROUND_TRIPS)
            .map(|_| {
                let before = server.metrics().received_bytes;
                client.echo(b"May I?");
                server.metrics().received_bytes - before
            })
            .collect();
        for peer in &peers {
            peer.shutdown(Shutdown::Both).expect("shutdown");
        }
        meanwhile.sort_unstable();
        let typical = meanwhile[ROUND_TRIPS / 2];
        assert!(
            typical <= SHARE * PEERS,
            "{typical} bytes of {PEERS} greedy peers before one echo: {meanwhile:?}"
        );
    });
    drop(peers);
    drop(client);
    server.wait_for_all_closed(PEERS + 1);
}
