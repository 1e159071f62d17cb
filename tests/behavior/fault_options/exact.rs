//! How exact delays are, on a quiet host: `cargo test --release --test behavior -- --ignored exact
//! --nocapture`. The server is the program in another process, the client spins.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

use echomark::Faults;
use echomark::internal::delays;

use crate::support::echod::Echod;

const MESSAGES: usize = 4000;
/// A worker that never sleeps sees a message when it comes.
const POLLING: &str = "--spin=always";

/// Sorted round-trip times of messages that are sent one at a time, in nanoseconds.
fn round_trips(send: &mut dyn FnMut(), receive: &mut dyn FnMut() -> bool) -> Vec<u64> {
    let mut times: Vec<u64> = (0..MESSAGES)
        .map(|_| {
            let sent = Instant::now();
            send();
            while !receive() {
                std::hint::spin_loop();
            }
            sent.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    times
}

fn over_tcp(options: &str, spin: &str) -> Vec<u64> {
    let endpoint = format!("--echo=tcp://127.0.0.1:0{options}");
    let echod = Echod::start(&[&endpoint, "--workers=1", spin]);
    let mut stream = TcpStream::connect(echod.address()).expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    let mut other = stream.try_clone().expect("a descriptor");
    round_trips(
        &mut || stream.write_all(b"sixteen bytes...").expect("sent"),
        &mut || match other.read(&mut [0; 16]) {
            Ok(count) => count == 16,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        },
    )
}

fn over_udp(options: &str, spin: &str) -> Vec<u64> {
    let endpoint = format!("--echo=udp://127.0.0.1:0{options}");
    let rate = "--udp-rate-per-source=off";
    let echod = Echod::start(&[&endpoint, "--workers=1", spin, rate]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .connect(echod.address_of("echo udp://"))
        .expect("an address");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    round_trips(
        &mut || assert_eq!(socket.send(b"sixteen bytes...").expect("sent"), 16),
        &mut || socket.recv(&mut [0; 16]).is_ok(),
    )
}

fn quantile(sorted: &[u64], q: f64) -> f64 {
    sorted[((q * sorted.len() as f64) as usize).min(sorted.len() - 1)] as f64
}

/// What a delay of 2 ms adds to a round trip without a delay, of a worker that polls, and of one that
/// sleeps: a timer wakes it.
#[test]
#[ignore = "a measurement, for a quiet host"]
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn exact_delays() {
    type Measure = fn(&str, &str) -> Vec<u64>;
    for (name, measure) in [("tcp", over_tcp as Measure), ("udp", over_udp)] {
        for spin in [POLLING, "--spin=0"] {
            let plain = measure("", spin);
            let delayed = measure("?delay=2ms", spin);
            let mut late = [0.0; 2];
            for (late, q) in late.iter_mut().zip([0.5, 0.99]) {
                let us = |times: &[u64]| quantile(times, q) / 1e3;
                *late = us(&delayed) - 2e3 - us(&plain);
                println!(
                    "{name} {spin} p{}: {:.1} us without, {:.1} us with a delay of 2 ms, {late:.1} us late",
                    q * 100.0,
                    us(&plain),
                    us(&delayed),
                );
            }
            assert!(quantile(&delayed, 0.0) >= 2e6, "never early");
            assert!(late[0].abs() <= 20.0 && late[1].abs() <= 100.0, "{late:?}");
        }
    }
}

/// Each quantile of what is measured is that of the delays that the seed decides, and a round trip.
#[test]
#[ignore = "a measurement, for a quiet host"]
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn exact_distributions() {
    let base = quantile(&over_udp("", POLLING), 0.5);
    for options in [
        "delay=exp:2ms&seed=1",
        "delay=mix:1ms=90,20ms=10&seed=1",
        "delay=uniform:1ms-3ms&seed=1",
        "delay=normal:2ms,300us&seed=1",
    ] {
        let faults: Faults = options.parse().expect("options");
        let decided = delays(&faults, 0).take(MESSAGES);
        let mut decided: Vec<u64> = decided.map(|it| it.as_nanos() as u64).collect();
        decided.sort_unstable();
        let measured = over_udp(&format!("?{options}"), POLLING);
        for q in [0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
            let expected = quantile(&decided, q);
            let error = quantile(&measured, q) - base - expected;
            println!(
                "{options} p{}: decided {expected:.0} ns, {error:.0} ns more",
                q * 100.0
            );
            assert!(error.abs() <= (expected * 0.01).max(20e3), "p{q}");
        }
    }
}
