//! How exact delays are, on a quiet host: `cargo test --release --test behavior -- --ignored exact
//! --nocapture`. The server is the program in another process, the client spins.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

use crate::support::echod::Echod;

const MESSAGES: usize = 4000;

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

fn over_tcp(options: &str) -> Vec<u64> {
    let endpoint = format!("--echo=tcp://127.0.0.1:0{options}");
    let echod = Echod::start(&[&endpoint, "--workers=1", "--spin=always"]);
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

fn over_udp(options: &str) -> Vec<u64> {
    let endpoint = format!("--echo=udp://127.0.0.1:0{options}");
    let rate = "--udp-rate-per-source=off";
    let echod = Echod::start(&[&endpoint, "--workers=1", "--spin=always", rate]);
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

/// What a delay of 2 ms adds to a round trip without a delay.
#[test]
#[ignore = "a measurement, for a quiet host"]
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn exact_delays() {
    for (name, measure) in [("tcp", over_tcp as fn(&str) -> Vec<u64>), ("udp", over_udp)] {
        let plain = measure("");
        let delayed = measure("?delay=2ms");
        let mut late = [0.0; 2];
        for (late, q) in late.iter_mut().zip([0.5, 0.99]) {
            *late = (quantile(&delayed, q) - 2e6 - quantile(&plain, q)) / 1e3;
            println!(
                "{name} p{}: {:.1} us without, {:.1} us with a delay of 2 ms, {late:.1} us late",
                q * 100.0,
                quantile(&plain, q) / 1e3,
                quantile(&delayed, q) / 1e3,
            );
        }
        assert!(quantile(&delayed, 0.0) >= 2e6, "never early");
        assert!(late[0].abs() <= 20.0 && late[1].abs() <= 100.0, "{late:?}");
    }
}

/// The quantiles of distributions, in which a round trip without a delay is the only error.
#[test]
#[ignore = "a measurement, for a quiet host"]
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn exact_distributions() {
    let plain = over_udp("");
    let base = quantile(&plain, 0.5);
    let exponential = over_udp("?delay=exp:2ms&seed=1");
    for q in [0.25_f64, 0.5, 0.75, 0.9] {
        let expected = -(1.0 - q).ln() * 2e6;
        let measured = quantile(&exponential, q) - base;
        let error = measured / expected - 1.0;
        // Of so many draws, the quantile itself varies by this, three standard deviations.
        let chance = 3.0 * (q * (1.0 - q) / MESSAGES as f64).sqrt() / (1.0 - q) * 2e6 / expected;
        println!(
            "exp:2ms p{}: {measured:.0} ns, {:.2} % off",
            q * 100.0,
            error * 100.0
        );
        assert!(error.abs() <= 0.01 + chance, "p{q}");
    }
    let mix = over_udp("?delay=mix:1ms=90,20ms=10&seed=1");
    for (q, expected) in [
        (0.25, 1e6),
        (0.5, 1e6),
        (0.75, 1e6),
        (0.95, 2e7),
        (0.99, 2e7),
    ] {
        let measured = quantile(&mix, q) - base;
        let error = measured - expected;
        println!("mix p{}: {measured:.0} ns, {error:.0} ns off", q * 100.0);
        assert!(error.abs() <= (expected * 0.01_f64).max(20e3), "p{q}");
    }
}
