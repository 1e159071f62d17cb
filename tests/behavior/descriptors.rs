//! Out of descriptors: the server neither spins nor ends, serves its open connections, and accepts
//! further ones as soon as it can.

use std::time::{Duration, Instant};

use crate::support::echod::Echod;

const DESCRIPTORS: u64 = 40;

#[test]
fn at_the_descriptor_limit_it_stays_idle_and_recovers() {
    let mut echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--workers=1"]);
    echod.limit_descriptors(DESCRIPTORS);
    let mut first = echod.connect();
    first.echo(b"first");
    // All of these connect, because the kernel completes connections that the program can't accept
    // yet.
    let mut clients: Vec<_> = (0..2 * DESCRIPTORS)
        .map(|_| {
            let mut client = echod.connect();
            client.send(b"waiting");
            client
        })
        .collect();
    echod.wait_for_log("cannot accept");

    // Open connections are served as before, and an idle server uses almost no processor time. The
    // wait is for a log line that rarely comes.
    const ROUND_TRIPS: u32 = 20;
    let (start, before) = (Instant::now(), echod.cpu_time());
    for _ in 0..ROUND_TRIPS {
        first.echo(b"still there?");
        echod.watch_log_for(Duration::from_millis(100));
    }
    let (elapsed, used) = (start.elapsed(), echod.cpu_time() - before);
    assert!(
        used < elapsed / 10,
        "used {used:?} of {elapsed:?} at the limit"
    );

    // Each client that leaves makes room for the next waiting one, in the order of arrival.
    for mut client in clients.drain(..) {
        assert_eq!(client.receive(7), b"waiting");
    }
    echod.connect().echo(b"as before");
    first.echo(b"still there");
}
