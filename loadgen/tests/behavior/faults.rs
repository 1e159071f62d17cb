//! Servers with one known fault each. Every fault is found at its exact position.

use std::num::NonZeroU64;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Background, Direction, Load, Plan, Target};
use loadgen::result::{Code, Status};
use loadgen::{RunError, RunResult};

use crate::support::{PlainServer, codes, constant, number, plan, run, server, try_run};

/// One connection, so that what happened to it is all that happened.
fn single(target: &PlainServer) -> Plan {
    Plan {
        connections: number(1),
        ..plan(server(target))
    }
}

#[track_caller]
fn assert_invalid(result: &RunResult, code: &Code) {
    assert_eq!(result.verdict.status, Status::Invalid);
    assert!(codes(result).contains(&code), "{:?}", codes(result));
}

#[test]
fn one_wrong_bit_is_found_at_its_offset() {
    const OFFSET: u64 = 12_345;
    let target = PlainServer::start(|peer, bytes| {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = OFFSET
            .checked_sub(peer.received)
            .and_then(|offset| bytes.get_mut(offset as usize))
        {
            *byte ^= 0x10;
        }
        peer.send(&bytes)
    });
    let result = run(&Plan {
        requests: NonZeroU64::new(1000),
        ..single(&target)
    });
    assert_eq!(result.messages.corrupt, 1);
    assert_eq!(result.messages.verified, 999);
    let corruption = result.client.first_corruption.unwrap();
    assert_eq!((corruption.connection, corruption.offset), (0, OFFSET));
    assert_invalid(&result, &Code::Corrupt);
}

#[test]
fn corruption_during_the_warm_up_is_not_forgotten() {
    let target = PlainServer::start(|peer, bytes| {
        let mut bytes = bytes.to_vec();
        if peer.received == 0 {
            bytes[0] ^= 1;
        }
        peer.send(&bytes)
    });
    let result = run(&Plan {
        warmup: Duration::from_millis(200),
        ..single(&target)
    });
    assert_eq!(result.messages.corrupt, 0);
    assert_invalid(&result, &Code::Corrupt);
}

#[test]
fn a_dropped_byte_shifts_everything_behind_it() {
    let target = PlainServer::start(|peer, bytes| {
        let skip = usize::from(peer.received == 0);
        peer.send(&bytes[skip..])
    });
    let result = run(&Plan {
        load: Load::Closed {
            pipeline: number(4),
        },
        timeout: Duration::from_millis(200),
        ..single(&target)
    });
    assert_invalid(&result, &Code::Corrupt);
    assert_eq!(result.client.first_corruption.unwrap().offset, 0);
}

#[test]
fn swapped_messages_are_corrupt_in_both_places() {
    // Echoes messages in pairs, the second first.
    let target = PlainServer::start(|peer, bytes| {
        bytes.chunks(128).all(|pair| {
            let (first, second) = pair.split_at(pair.len() / 2);
            peer.send(second) && peer.send(first)
        })
    });
    let result = run(&Plan {
        requests: NonZeroU64::new(2),
        load: Load::Closed {
            pipeline: number(2),
        },
        ..single(&target)
    });
    assert_eq!(result.messages.corrupt, 2);
    assert_invalid(&result, &Code::Corrupt);
}

#[test]
fn more_than_was_sent_is_noticed() {
    let target = PlainServer::start(|peer, bytes| {
        let twice = [bytes, bytes].concat();
        peer.send(&twice)
    });
    let result = run(&single(&target));
    assert!(result.messages.duplicated > 0);
    assert_invalid(&result, &Code::Corrupt);
}

#[test]
fn a_delay_is_in_every_latency() {
    const DELAY: Duration = Duration::from_millis(20);
    let target = PlainServer::start(|peer, bytes| {
        std::thread::park_timeout(DELAY);
        peer.send(bytes)
    });
    let result = run(&plan(server(&target)));
    // The histogram keeps three digits, rounding the smallest down.
    let least = DELAY.as_nanos() as u64 * 999 / 1000;
    assert!(result.latency_ns.response.unwrap().min() >= least);
    assert!(result.latency_ns.service.unwrap().min() >= least);
}

#[test]
fn resets_are_counted_and_the_run_goes_on() {
    let target = PlainServer::start(|peer, bytes| {
        if peer.received >= 640 {
            peer.reset();
            return false;
        }
        peer.send(bytes)
    });
    for load in [
        Load::Closed {
            pipeline: number(2),
        },
        constant(1000.0),
    ] {
        let result = run(&Plan {
            load,
            ..plan(server(&target))
        });
        assert!(result.connections.reset + result.connections.closed_by_peer > 4);
        assert!(result.connections.opened > 8);
        assert!(result.messages.lost > 0);
        assert!(codes(&result).contains(&&Code::Missing));
    }
}

#[test]
fn a_server_that_closes_early_costs_only_what_was_out() {
    let target = PlainServer::start(|peer, bytes| peer.send(bytes) && peer.received < 640);
    let result = run(&plan(server(&target)));
    assert!(result.connections.closed_by_peer > 4);
    assert_eq!(result.connections.reset, 0);
    assert_eq!(result.messages.corrupt, 0);
    assert!(result.messages.received > 40);
}

#[test]
fn a_server_that_closes_at_once_is_named() {
    let target = PlainServer::start_if(|_| false, |_, _| true);
    match try_run(&plan(server(&target))) {
        Err(RunError::ClosesAtOnce { target: named }) => assert_eq!(named, target.endpoint()),
        other => panic!("expected that the target closes at once, got {other:?}"),
    }
}

#[test]
fn one_thread_s_failure_ends_the_others() {
    let honest = PlainServer::echo();
    let closes = PlainServer::start_if(|_| false, |_, _| true);
    // Two threads. Each gets the connections of one target.
    let error = try_run(&Plan {
        threads: number(2),
        duration: Some(Duration::from_secs(3600)),
        ..plan(Target::Servers {
            targets: vec![honest.endpoint(), closes.endpoint()],
        })
    });
    assert!(matches!(error, Err(RunError::ClosesAtOnce { .. })));
}

#[test]
fn a_server_that_never_answers_times_messages_out() {
    let target = PlainServer::start(|_, _| true);
    let result = run(&Plan {
        timeout: Duration::from_millis(100),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.received, 0);
    assert!(result.messages.timed_out >= 4);
    assert_invalid(&result, &Code::NoData);
}

#[test]
fn what_is_out_at_the_end_is_unfinished() {
    // Answers the first message of each connection only.
    let target = PlainServer::start(|peer, bytes| peer.received > 0 || peer.send(bytes));
    let result = run(&Plan {
        timeout: Duration::from_millis(600),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.received, 4);
    assert_eq!(result.messages.unfinished, 4);
}

#[test]
fn a_server_slower_than_the_rate_makes_the_run_invalid() {
    // One message each five milliseconds and connection: 200/s, where 1000/s are offered.
    let target = PlainServer::start(|peer, bytes| {
        bytes.chunks(64).all(|message| {
            std::thread::park_timeout(Duration::from_millis(5));
            peer.send(message)
        })
    });
    let result = run(&Plan {
        load: constant(1000.0),
        timeout: Duration::from_millis(300),
        ..single(&target)
    });
    assert_invalid(&result, &Code::RateNotAchieved);
    assert!(result.rate.achieved < 250.0);
    assert_eq!(result.messages.sent + result.messages.unsent, 500);
}

#[test]
fn a_server_that_takes_nothing_leaves_messages_unsent_and_the_lag_is_its_own() {
    let gate = std::sync::Arc::new(crate::support::Gate::default());
    let target = {
        let gate = std::sync::Arc::clone(&gate);
        PlainServer::start(move |peer, bytes| {
            gate.pass();
            peer.send(bytes)
        })
    };
    let result = std::thread::scope(|scope| {
        scope.spawn(|| gate.close_for(Duration::from_secs(2)));
        run(&Plan {
            size: Sizes::Fixed(4 << 20),
            load: constant(200.0),
            timeout: Duration::from_millis(300),
            ..single(&target)
        })
    });
    assert!(result.messages.unsent > 50);
    assert_invalid(&result, &Code::Unsent);
    assert!(!codes(&result).contains(&&Code::SendLag));
}

#[test]
fn a_target_that_does_not_answer_a_connect_is_named_after_the_timeout() {
    // A listener whose queue is full drops further connects, as an unreachable host does.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any_port.into()).unwrap();
    listener.listen(0).unwrap();
    let target = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&target, Duration::from_millis(500))
    {
        queued.push(stream);
    }
    let error = try_run(&Plan {
        timeout: Duration::from_millis(300),
        ..plan(Target::Servers {
            targets: vec![Endpoint::Tcp(target.into())],
        })
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&target.to_string()) && text.contains("timed out"),
        "{text}"
    );
}

#[test]
fn a_target_that_refuses_is_named_with_the_reason() {
    let target = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let plan = plan(Target::Servers {
        targets: vec![Endpoint::Tcp(target.into())],
    });
    let error = try_run(&plan).unwrap_err();
    assert!(matches!(error, RunError::NoConnection { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&target.to_string()) && text.contains("refused"),
        "{text}"
    );
}

fn with_streams_to(background: &Endpoint, target: &PlainServer) -> Plan {
    Plan {
        background: Some(Background {
            streams: number(2),
            direction: Direction::Up,
            targets: vec![background.clone()],
        }),
        ..plan(server(target))
    }
}

#[test]
fn streams_beside_the_workload_that_can_t_connect_are_named() {
    let target = PlainServer::echo();
    let nobody = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Endpoint::Tcp(free.local_addr().unwrap().into())
    };
    match try_run(&with_streams_to(&nobody, &target)) {
        Err(RunError::NoConnection { target: named, .. }) => assert_eq!(named, nobody),
        other => panic!("expected that nobody listens, got {other:?}"),
    }
}

#[test]
fn streams_beside_the_workload_that_are_closed_at_once_are_named() {
    let target = PlainServer::echo();
    let closes = PlainServer::start_if(|_| false, |_, _| true);
    let plan = Plan {
        duration: Some(Duration::from_secs(3600)),
        ..with_streams_to(&closes.endpoint(), &target)
    };
    match try_run(&plan) {
        Err(RunError::ClosesAtOnce { target: named }) => assert_eq!(named, closes.endpoint()),
        other => panic!("expected that the target closes at once, got {other:?}"),
    }
}

#[test]
fn a_port_where_nobody_takes_datagrams_is_named() {
    let nobody = {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        Endpoint::Udp(free.local_addr().unwrap().into())
    };
    let error = try_run(&Plan {
        duration: Some(Duration::from_secs(3600)),
        ..plan(Target::Servers {
            targets: vec![nobody.clone()],
        })
    });
    match error {
        Err(RunError::Refused { target }) => assert_eq!(target, nobody),
        other => panic!("expected that nobody takes datagrams, got {other:?}"),
    }
}
