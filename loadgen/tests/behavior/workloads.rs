//! Each workload compared with the server's counts: connections, bytes, addresses and times.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use echomark::net::endpoint::Endpoint;
use loadgen::plan::sizes::{Part, Sizes};
use loadgen::plan::{Background, Close, Direction, Load, Plan, Target, Workload};
use loadgen::result::{Code, TcpLimitCode};

use crate::known::{is_disturbed, show, until_undisturbed};
use crate::support::{
    PlainServer, codes, constant, embedded, number, plan, run, server, wait_until,
};

const ORDERLY: Workload = Workload::Churn {
    close: Close::Orderly,
};

fn stream(direction: Direction) -> Workload {
    Workload::Stream { direction }
}

/// Waits, but never less than the delay, which is the experiment.
fn pass(duration: Duration) {
    wait_till(Instant::now() + duration);
}

/// Returns its lateness.
fn wait_till(time: Instant) -> Duration {
    loop {
        let now = Instant::now();
        if now >= time {
            return now - time;
        }
        thread::park_timeout(time - now);
    }
}

/// The maximum lateness of a server that keeps a rate.
#[derive(Clone, Debug, Default)]
struct Lateness(Arc<AtomicU64>);

impl Lateness {
    fn note(&self, late: Duration) {
        self.0.fetch_max(late.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether it was for more than a four hundredth of half a second.
    fn is_disturbing(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1_250_000
    }
}

/// A server that handles one connection after the other with its own handler.
struct Scripted {
    endpoint: Endpoint,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Scripted {
    fn start(mut handle: impl FnMut(TcpStream) + Send + 'static) -> Self {
        Self::start_with(|_| (), move |stream, _| handle(stream))
    }

    /// `prepare` may set options of the listener; `handle` is told when the server is to end.
    fn start_with(
        prepare: impl FnOnce(&TcpListener),
        mut handle: impl FnMut(TcpStream, &AtomicBool) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&listener);
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().into());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    handle(stream, &stop);
                }
            })
        };
        Self {
            endpoint,
            stop,
            thread: Some(thread),
        }
    }

    fn target(&self) -> Target {
        Target::Servers {
            targets: vec![self.endpoint.clone()],
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Endpoint::Tcp(address) = &self.endpoint {
            // Wakes the acceptor.
            let _ = TcpStream::connect((address.host.as_str(), address.port));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn churn_tells_where_the_time_of_a_connection_goes() {
    const BEFORE: Duration = Duration::from_millis(5);
    const AFTER: Duration = Duration::from_millis(3);
    until_undisturbed(|| {
        let served = Arc::new(AtomicU64::new(0));
        let target = {
            let served = Arc::clone(&served);
            Scripted::start(move |mut stream| {
                // The kernel has completed the handshake: only what follows is the server's.
                pass(BEFORE);
                let mut message = [0; 64];
                // The first connection of a run only shows that it can be made.
                if stream.read_exact(&mut message).is_err() {
                    return;
                }
                stream.write_all(&message).unwrap();
                served.fetch_add(1, Ordering::Relaxed);
                assert_eq!(stream.read(&mut message).unwrap(), 0);
                pass(AFTER);
            })
        };
        let result = run(&Plan {
            connections: number(1),
            workload: ORDERLY,
            ..plan(target.target())
        });
        let sent = result.messages.sent;
        assert!(sent > 5);
        assert_eq!(served.load(Ordering::Relaxed), sent);
        assert_eq!(result.connections.opened, sent + 1);
        assert_eq!(result.connections.failed, 0);
        let latency = &result.latency_ns;
        let [service, connect, first_byte, close] = [
            &latency.service,
            &latency.connect,
            &latency.first_byte,
            &latency.close,
        ]
        .map(|latency| latency.as_ref().unwrap());
        for latency in [service, connect, first_byte, close] {
            assert_eq!(latency.count(), sent);
        }
        show(&format!(
            "means: service {}, connect {}, first byte {}, close {}",
            service.mean(),
            connect.mean(),
            first_byte.mean(),
            close.mean()
        ));
        let (before, after) = (BEFORE.as_nanos() as f64, AFTER.as_nanos() as f64);
        assert!(service.min() as f64 >= before * 0.999);
        assert!(close.min() as f64 >= after * 0.999);
        // Connecting and waiting for the first byte make up a message, but for the client's own
        // steps between.
        let parts = connect.mean() + first_byte.mean();
        assert!(parts <= service.mean() * 1.001);
        let disturbed = is_disturbed(&result);
        let own = service.mean() - parts;
        assert!(disturbed || own <= before * 0.02, "{own}");
        // The handshake does not wait for accept(2).
        let connect = connect.mean();
        assert!(disturbed || connect < before / 10.0, "{connect}");
        disturbed
    });
}

#[test]
fn a_server_that_does_not_close_is_seen_not_to() {
    let open = Arc::new(Mutex::new(Vec::new()));
    let target = {
        let open = Arc::clone(&open);
        Scripted::start(move |mut stream| {
            let mut message = [0; 64];
            if stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message).unwrap();
                open.lock().unwrap().push(stream);
            }
        })
    };
    let result = run(&Plan {
        connections: number(3),
        workload: ORDERLY,
        timeout: Duration::from_millis(100),
        ..plan(target.target())
    });
    // On a busy machine an echo may time out too.
    assert!(result.messages.received > 0);
    assert!(result.messages.received <= open.lock().unwrap().len() as u64);
    assert!((1..=result.messages.received).contains(&result.connections.unclosed));
    assert!(result.latency_ns.close.is_none());
    assert!(codes(&result).contains(&&Code::Unclosed));
}

#[test]
fn sources_are_used_evenly() {
    let seen = Arc::new(Mutex::new(BTreeMap::<IpAddr, u64>::new()));
    let target = {
        let seen = Arc::clone(&seen);
        PlainServer::start(move |peer, bytes| {
            let source = peer.stream.peer_addr().unwrap().ip();
            *seen.lock().unwrap().entry(source).or_default() += 1;
            peer.send(bytes)
        })
    };
    // Six addresses for hosts, and one more.
    for workload in [ORDERLY, Workload::Request] {
        seen.lock().unwrap().clear();
        let result = run(&Plan {
            connections: number(70),
            threads: number(2),
            workload,
            duration: None,
            requests: NonZeroU64::new(700),
            sources: vec![
                "127.9.0.0/29".parse().unwrap(),
                "127.5.5.5".parse().unwrap(),
            ],
            ..plan(server(&target))
        });
        assert_eq!(result.messages.received, 700);
        let seen = seen.lock().unwrap();
        let mut expected: Vec<IpAddr> = (1..=6).map(|host| [127, 9, 0, host].into()).collect();
        expected.insert(0, [127, 5, 5, 5].into());
        assert!(seen.keys().eq(&expected), "{seen:?}");
        if workload == ORDERLY {
            // Each of two threads goes round, from its own beginning.
            let counts = || seen.values().copied();
            assert!(
                counts().max() <= counts().min().map(|least| least + 2),
                "{seen:?}"
            );
        }
    }
}

#[test]
fn what_a_stream_sends_is_what_the_server_counts() {
    for direction in [Direction::Echo, Direction::Up] {
        let target = PlainServer::start(move |peer, bytes| match direction {
            Direction::Echo => peer.send(bytes),
            Direction::Up | Direction::Down => true,
        });
        let result = run(&Plan {
            connections: number(2),
            workload: stream(direction),
            size: Sizes::Fixed(100_000),
            load: Load::Closed {
                pipeline: number(4),
            },
            verify: direction == Direction::Echo,
            ..plan(server(&target))
        });
        assert!(result.bytes.sent > 0, "{direction:?}");
        assert_eq!(result.bytes.received, result.bytes.sent);
        assert_eq!(result.bytes.sent, result.messages.sent * 100_000);
        // What was acknowledged is with the server, if not yet with its program.
        wait_until("the server has read all", || {
            target.bytes() == result.bytes.sent
        });
    }
}

/// A server that sends what `fill` puts into a block, 10 kB each millisecond: 80 Mbit/s.
fn source(fill: impl Fn(u64, &mut [u8]) + Send + 'static) -> Scripted {
    punctual_source(&Lateness::default(), fill)
}

fn punctual_source(
    lateness: &Lateness,
    fill: impl Fn(u64, &mut [u8]) + Send + 'static,
) -> Scripted {
    let lateness = lateness.clone();
    Scripted::start(move |mut stream| {
        let mut block = vec![0; KILOBYTES_PER_MS * 1000];
        let begin = Instant::now();
        for number in 0.. {
            fill(number * block.len() as u64, &mut block);
            if stream.write_all(&block).is_err() {
                return;
            }
            lateness.note(wait_till(begin + Duration::from_millis(number + 1)));
        }
    })
}

const KILOBYTES_PER_MS: usize = 10;
const BITS_PER_S: f64 = KILOBYTES_PER_MS as f64 * 8e6;

/// The line of RFC 864 at `position`, in its ring of 95.
fn chargen(position: u64, block: &mut [u8]) {
    for (position, byte) in (position..).zip(block) {
        let (line, column) = (position / 74, position % 74);
        *byte = match column {
            72 => b'\r',
            73 => b'\n',
            _ => b' ' + ((line + column) % 95) as u8,
        };
    }
}

#[test]
fn a_stream_from_a_server_has_its_rate_and_is_verified() {
    until_undisturbed(|| {
        let lateness = Lateness::default();
        let target = punctual_source(&lateness, chargen);
        let result = run(&Plan {
            connections: number(1),
            workload: stream(Direction::Down),
            size: Sizes::Fixed(7_001),
            warmup: Duration::from_millis(100),
            ..plan(target.target())
        });
        assert!(result.messages.verified > 0);
        assert_eq!(result.messages.corrupt, 0);
        // The block that is arriving at the end is not missing.
        assert_eq!(result.messages.sent, result.messages.verified);
        assert!(!codes(&result).contains(&&Code::Missing));
        let measured = result.throughput.received_bits_per_s;
        show(&format!("down: {measured} bit/s, {lateness:?}"));
        let disturbed = is_disturbed(&result) || lateness.is_disturbing();
        let error = (measured / BITS_PER_S - 1.0).abs();
        assert!(disturbed || error <= 0.01, "{measured}");
        disturbed
    });
}

#[test]
fn a_pattern_that_is_not_known_is_not_called_verified_and_a_wrong_byte_is_found() {
    let target = source(|_, block| block.fill(b'x'));
    let streaming = |target| Plan {
        connections: number(1),
        workload: stream(Direction::Down),
        size: Sizes::Fixed(10_000),
        // The wrong byte is sent within 50 ms.
        duration: Some(Duration::from_secs(1)),
        ..plan(target)
    };
    // Such a result does not add up to received = verified + corrupt.
    let result = crate::support::try_run(&streaming(target.target())).unwrap();
    assert!(result.messages.received > 0);
    assert_eq!(result.messages.verified, 0);
    assert_eq!(result.messages.corrupt, 0);
    assert!(codes(&result).contains(&&Code::NotVerified));
    let target = source(|position, block| {
        chargen(position, block);
        if position == 500_000 {
            block[1234] ^= 1;
        }
    });
    let result = run(&streaming(target.target()));
    assert_eq!(result.messages.corrupt, 1);
    assert_eq!(result.client.first_corruption.unwrap().offset, 501_234);
}

#[test]
fn a_stream_to_a_server_that_reads_at_a_rate_has_that_rate() {
    const RECEIVE_BUFFER: usize = 128 << 10;
    /// Fast, so that what TCP acknowledges at once is little of it.
    const BYTES_PER_MS: usize = 100_000;
    const BITS_PER_S: f64 = BYTES_PER_MS as f64 * 8e3;
    until_undisturbed(|| {
        let lateness = Lateness::default();
        let server_s = lateness.clone();
        let target = Scripted::start_with(
            |listener| {
                // What its kernel takes in advance is counted too, so it is to be little.
                socket2::SockRef::from(listener)
                    .set_recv_buffer_size(RECEIVE_BUFFER)
                    .unwrap();
            },
            move |mut stream, stop| {
                let mut block = vec![0; BYTES_PER_MS];
                let begin = Instant::now();
                for number in 1.. {
                    if stop.load(Ordering::Relaxed) || stream.read_exact(&mut block).is_err() {
                        return;
                    }
                    server_s.note(wait_till(begin + Duration::from_millis(number)));
                }
            },
        );
        let result = run(&Plan {
            connections: number(1),
            workload: stream(Direction::Up),
            size: Sizes::Fixed(1_000_000),
            warmup: Duration::from_millis(200),
            // Twice as much, so that there always is something to write.
            load: constant(200.0),
            timeout: Duration::from_millis(100),
            verify: false,
            ..plan(target.target())
        });
        let measured = result.throughput.received_bits_per_s;
        let shares = result.tcp.as_ref().unwrap().shares;
        show(&format!("up: {measured} bit/s, {shares:?}, {lateness:?}"));
        let disturbed = is_disturbed(&result) || lateness.is_disturbing();
        let error = (measured / BITS_PER_S - 1.0).abs();
        assert!(disturbed || error <= 0.01, "{measured}");
        disturbed
    });
}

#[test]
fn a_receiver_that_never_reads_is_what_limits_a_stream() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let target = {
        let held = Arc::clone(&held);
        Scripted::start(move |stream| held.lock().unwrap().push(stream))
    };
    let result = run(&Plan {
        connections: number(2),
        workload: stream(Direction::Up),
        size: Sizes::Fixed(256 << 10),
        timeout: Duration::from_millis(200),
        load: Load::Closed {
            pipeline: number(64),
        },
        verify: false,
        ..plan(target.target())
    });
    let tcp = result.tcp.unwrap();
    assert_eq!(tcp.limit.code, TcpLimitCode::ReceiveWindow, "{tcp:?}");
}

#[test]
fn connections_that_the_server_ended_are_not_held() {
    for ended in [0_u64, 10] {
        let target = PlainServer::start_if(
            move |number| ended == 0 || number % 5 != 2,
            |peer, bytes| peer.send(bytes),
        );
        let result = run(&Plan {
            connections: number(50),
            workload: Workload::Idle,
            load: constant(200.0),
            timeout: Duration::from_millis(300),
            ..plan(server(&target))
        });
        assert_eq!(target.connections(), 50);
        assert_eq!(result.connections.opened, 50);
        assert_eq!(result.connections.held, 50 - ended);
        assert_eq!(
            result.connections.closed_by_peer + result.connections.reset,
            ended
        );
        assert_eq!(codes(&result).contains(&&Code::NotHeld), ended > 0);
        // Probes use the remaining connections.
        assert_eq!((result.messages.sent, result.messages.unsent), (100, 0));
    }
}

#[test]
fn connects_are_spread_over_the_ramp() {
    const RAMP: Duration = Duration::from_millis(500);
    until_undisturbed(|| {
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let target = {
            let accepted = Arc::clone(&accepted);
            PlainServer::start_if(
                move |_| {
                    accepted.lock().unwrap().push(Instant::now());
                    true
                },
                |peer, bytes| peer.send(bytes),
            )
        };
        let result = run(&Plan {
            connections: number(100),
            threads: number(2),
            workload: Workload::Idle,
            load: constant(100.0),
            duration: Some(Duration::from_millis(100)),
            ramp: RAMP,
            ..plan(server(&target))
        });
        let opened: Vec<u64> = result.ramp.iter().map(|part| part.opened).collect();
        assert_eq!(opened.iter().sum::<u64>(), 100);
        assert_eq!(result.connections.opened, 100);
        assert_eq!(result.latency_ns.connect.as_ref().unwrap().count(), 100);
        let accepted = accepted.lock().unwrap();
        let spread = *accepted.last().unwrap() - accepted[0];
        show(&format!("ramp {opened:?}, accepted over {spread:?}"));
        let disturbed = is_disturbed(&result);
        // The last begins a hundredth of the ramp before its end.
        let expected = RAMP.mul_f64(0.99);
        let error = (spread.as_secs_f64() / expected.as_secs_f64() - 1.0).abs();
        assert!(disturbed || error < 0.1, "{spread:?}");
        assert!(disturbed || opened[..5].iter().all(|&part| (18..=22).contains(&part)));
        disturbed
    });
}

#[test]
fn a_mix_of_sizes_is_what_the_server_counts() {
    let target = PlainServer::echo();
    let result = run(&Plan {
        duration: None,
        requests: NonZeroU64::new(4000),
        size: Sizes::Mix(vec![
            Part {
                size: 64,
                weight: 90,
            },
            Part {
                size: 1500,
                weight: 10,
            },
        ]),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.verified, 4000);
    assert_eq!(result.bytes.sent, target.bytes());
    assert_eq!(result.bytes.received, target.bytes());
    let large = (target.bytes() - 4000 * 64) / (1500 - 64);
    assert_eq!(4000 * 64 + large * (1500 - 64), target.bytes());
    // 400 are expected; six standard deviations to either side.
    assert!((286..514).contains(&large), "{large}");
}

#[test]
fn streams_beside_the_workload_are_counted_apart() {
    let (target, beside) = (PlainServer::echo(), PlainServer::echo());
    let result = run(&Plan {
        load: constant(1000.0),
        background: Some(Background {
            streams: number(2),
            direction: Direction::Echo,
            targets: vec![beside.endpoint()],
        }),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.verified, 500);
    assert_eq!(target.bytes(), 500 * 64);
    assert_eq!((target.connections(), beside.connections()), (4, 2));
    let background = result.background.unwrap();
    assert_eq!(background.corrupt, 0);
    assert!(background.bytes.received > 0);
    // Blocks that were begun before the end of the window are finished after it.
    let most_after = 2 * 4 * (64 << 10);
    let counted = beside.bytes();
    let sent = background.bytes.sent;
    assert!(
        (counted - most_after..=counted).contains(&sent),
        "{sent} {counted}"
    );
    let in_intervals: u64 = result
        .intervals
        .iter()
        .filter_map(|interval| interval.background_received_bytes)
        .sum();
    assert_eq!(in_intervals, background.bytes.received);
    let bits = background.throughput.received_bits_per_s * result.duration_s;
    assert!((bits / 8.0 - background.bytes.received as f64).abs() < 1.0);
}

#[test]
fn streams_beside_a_number_of_messages_have_the_rate_of_their_own_time() {
    let (target, beside) = (PlainServer::echo(), source(chargen));
    let result = run(&Plan {
        load: constant(1000.0),
        requests: NonZeroU64::new(100),
        duration: Some(Duration::from_millis(500)),
        background: Some(Background {
            streams: number(1),
            direction: Direction::Down,
            targets: vec![beside.endpoint.clone()],
        }),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.received, 100);
    let measured = result.background.unwrap().throughput.received_bits_per_s;
    // Over the time of the messages alone it would be five times as much.
    assert!(measured <= BITS_PER_S * 1.5, "{measured}");
}

#[test]
fn repeated_runs_add_up() {
    let target = PlainServer::echo();
    let result = run(&Plan {
        repeat: number(3),
        duration: Some(Duration::from_millis(200)),
        ..plan(server(&target))
    });
    assert_eq!(target.connections(), 12);
    assert_eq!(result.connections.opened, 12);
    assert_eq!(result.messages.sent * 64, target.bytes());
    assert_eq!(result.messages.verified, result.messages.sent);
    assert!((result.duration_s - 0.6).abs() < 1e-9);
    let repeats = result.repeats.unwrap();
    assert_eq!(repeats.runs.len(), 3);
    let rates: Vec<f64> = repeats.runs.iter().map(|run| run.achieved).collect();
    let mean = rates.iter().sum::<f64>() / 3.0;
    assert!((result.rate.achieved - mean).abs() < 1e-6 * mean);
    let spread = repeats.spread.achieved.unwrap();
    assert!((spread.mean - mean).abs() < 1e-6 * mean, "{spread:?}");
}

#[test]
fn one_byte_in_a_million_is_found() {
    const EACH: u64 = 1_000_000;
    let target = PlainServer::start(|peer, bytes| {
        let mut bytes = bytes.to_vec();
        for (position, byte) in (peer.received..).zip(&mut bytes) {
            if position % EACH == EACH - 1 {
                *byte = !*byte;
            }
        }
        peer.send(&bytes)
    });
    let result = run(&Plan {
        connections: number(1),
        duration: None,
        requests: NonZeroU64::new(3500),
        size: Sizes::Fixed(1000),
        load: Load::Closed {
            pipeline: number(8),
        },
        ..plan(server(&target))
    });
    assert_eq!(result.messages.corrupt, 3);
    assert_eq!(result.messages.verified, 3497);
    let corruption = result.client.first_corruption.unwrap();
    assert_eq!((corruption.connection, corruption.offset), (0, EACH - 1));
}

#[test]
fn the_embedded_servers_do_what_each_workload_needs() {
    for direction in [Direction::Echo, Direction::Up, Direction::Down] {
        let result = run(&Plan {
            workload: stream(direction),
            size: Sizes::Fixed(64 << 10),
            duration: Some(Duration::from_millis(200)),
            verify: direction != Direction::Up,
            ..plan(embedded())
        });
        assert!(result.messages.received > 0, "{direction:?}");
        assert_eq!(result.messages.corrupt, 0);
        assert!(result.throughput.received_bits_per_s > 0.0);
    }
}
