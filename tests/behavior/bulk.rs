//! Bulk streams are relayed through a pipe without copying, with the same result as reads and
//! writes.

use std::thread;

use echomark::metrics::CloseReason;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Signal};
use crate::support::pattern::Pattern;
use crate::support::tools::require;
use crate::support::{Client, Running, config, in_parallel, strace};

/// More than the largest read, several times.
const CHUNK: usize = 1 << 20;
const STREAM: u64 = 20_000_000;

const ARGS: [&str; 2] = ["--echo=tcp://127.0.0.1:0", "--workers=1"];

#[track_caller]
fn stream(client: &mut Client, seed: u64) {
    client.echo_stream(Pattern(seed), STREAM);
    client.half_close();
    client.expect_end();
}

#[test]
fn streams_beside_each_other_come_back_each_as_it_was_sent() {
    let server = Running::start(config());
    in_parallel(8, |index| stream(&mut server.connect(), index as u64));
    let metrics = server.wait_for_all_closed(8);
    assert_eq!(metrics.received_bytes, 8 * STREAM);
    assert_eq!(metrics.sent_bytes, 8 * STREAM);
}

/// The kernel reports a socket's error once, and the relay may be the call that gets it.
#[test]
fn a_reset_after_bulk_is_counted_as_one() {
    const ROUNDS: u64 = 20;
    let server = Running::start(config());
    for _ in 0..ROUNDS {
        let mut client = server.connect();
        client.echo_stream(Pattern(4), CHUNK as u64);
        server.wait_until_at_rest();
        client.reset();
    }
    let metrics = server.wait_for_all_closed(ROUNDS);
    assert_eq!(metrics.closed(CloseReason::Reset), ROUNDS);
}

/// The kernel never splices past an urgent mark.
#[test]
fn urgent_bytes_in_a_stream_come_back_in_their_place() {
    const CHUNKS: u64 = 24;
    let server = Running::start(config());
    let mut client = server.connect();
    let pattern = Pattern(9);
    let sender = Client::of(&client);
    let sending = thread::spawn(move || {
        let mut sender = sender;
        let mut chunk = vec![0; CHUNK];
        for index in 0..CHUNKS {
            pattern.fill(index * CHUNK as u64, &mut chunk);
            let (urgent, rest) = chunk.split_first().expect("is not empty");
            sender.send_urgent(&[*urgent]);
            sender.send(rest);
        }
        sender.half_close();
    });
    client.receive_stream(pattern, 0, CHUNKS * CHUNK as u64);
    client.expect_end();
    sending.join().expect("everything was sent");
}

#[test]
fn large_messages_are_not_copied() {
    require!("strace");
    const MESSAGES: usize = 50;
    let directory = Directory::new();
    let trace = directory.join("trace");
    let echod = Echod::start_command(
        strace::recorder(&trace, "recvfrom,sendto,splice,exit_group").args(ARGS),
    );
    let mut client = echod.connect();
    for _ in 0..MESSAGES {
        client.echo_stream(Pattern(3), CHUNK as u64);
    }
    echod.signal(Signal::TERM);
    drop(client);
    assert_eq!(echod.wait_for_exit().code, Some(0));
    let text = strace::recorded(&trace);
    let moved = |name: &str| -> u64 {
        let calls = text.lines().filter(|line| line.contains(name));
        let results = calls.filter_map(|line| line.rsplit_once("= "));
        results
            .filter_map(|(_, result)| result.parse::<u64>().ok())
            .sum()
    };
    let all = (MESSAGES * CHUNK) as u64;
    let (copied, moved) = (moved("recvfrom"), moved("splice"));
    assert!(
        copied < all / 2 && moved > all,
        "{copied} of {all} copied, {moved} moved in and out"
    );
}

#[track_caller]
fn streams_all_the_same(faults: &[&str]) {
    let echod = Echod::start_command(
        strace::with_faults(faults, crate::support::echod::PROGRAM).args(ARGS),
    );
    stream(&mut echod.connect(), 1);
    stream(&mut echod.connect(), 2);
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

#[test]
fn a_kernel_that_moves_nothing_through_pipes_is_read_from() {
    require!("strace");
    streams_all_the_same(&["splice:error=EINVAL"]);
    streams_all_the_same(&["pipe2:error=EPERM"]);
}

#[test]
fn without_descriptors_for_a_pipe_streams_are_copied() {
    require!("strace");
    streams_all_the_same(&["pipe2:error=EMFILE"]);
}

#[test]
fn an_interrupted_relay_loses_nothing() {
    require!("strace");
    streams_all_the_same(&["splice:error=EINTR:when=2+3"]);
    streams_all_the_same(&["splice:error=EAGAIN:when=2+3"]);
    streams_all_the_same(&["splice:error=ENOBUFS:when=2+5"]);
}
