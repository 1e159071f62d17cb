use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::thread;

fn peer(number: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::new(10, 0, 0, number as u8).into())
}

fn limits(max_connections: usize, max_connections_per_ip: usize) -> Limits {
    Limits {
        max_connections: NonZeroUsize::new(max_connections),
        max_connections_per_ip: NonZeroUsize::new(max_connections_per_ip),
        ..Limits::default()
    }
}

fn timeless() -> u64 {
    unreachable!("nothing asks for the time")
}

#[track_caller]
fn assert_nothing_is_counted(admission: &Admission) {
    assert_eq!(admission.open(), 0);
    for stripe in &admission.per_ip.stripes {
        assert!(stripe.lock().unwrap().is_empty());
    }
}

/// Threads acquire and release permits as fast as they can, from this number of addresses, and then
/// keep some.
#[track_caller]
fn check_limits_under_a_storm(total: usize, per_ip: usize, addresses: usize) {
    const THREADS: usize = 8;
    const TURNS: usize = 2000;
    let policy = Policy::new(&limits(total, per_ip));
    let admission = Admission::new();
    let open: Vec<_> = (0..addresses).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(THREADS);
    let storm = |thread: usize| {
        barrier.wait();
        for turn in 0..TURNS {
            let address = (thread + turn) % addresses;
            if let Ok(permit) = admission.acquire(&policy, peer(address), timeless) {
                let now = open[address].fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now <= per_ip && admission.open() <= total);
                open[address].fetch_sub(1, Ordering::SeqCst);
                admission.release(permit);
            }
        }
        barrier.wait();
        let mut permits = Vec::new();
        for turn in 0..per_ip * addresses {
            let address = (thread + turn) % addresses;
            if let Ok(permit) = admission.acquire(&policy, peer(address), timeless) {
                open[address].fetch_add(1, Ordering::SeqCst);
                permits.push(permit);
            }
        }
        permits
    };
    let storm = &storm;
    let permits: Vec<Permit> = thread::scope(|scope| {
        let mut threads = Vec::with_capacity(THREADS);
        for thread in 0..THREADS {
            threads.push(scope.spawn(move || storm(thread)));
        }
        let permits = threads.into_iter().map(|thread| thread.join().unwrap());
        permits.flatten().collect()
    });
    assert_eq!(permits.len(), total.min(per_ip * addresses));
    assert_eq!(admission.open(), permits.len());
    assert!(
        open.iter()
            .all(|open| open.load(Ordering::SeqCst) <= per_ip)
    );
    permits
        .into_iter()
        .for_each(|permit| admission.release(permit));
    assert_nothing_is_counted(&admission);
}

#[test]
fn both_limits_hold_exactly_under_a_storm_from_many_threads() {
    // First only the total is reached, then only the limits per address, then both.
    check_limits_under_a_storm(10, 3, 6);
    check_limits_under_a_storm(10, 3, 2);
    check_limits_under_a_storm(12, 3, 4);
}

#[test]
fn the_accept_rate_holds_exactly_under_a_storm_and_refusals_keep_no_permit() {
    const THREADS: usize = 8;
    const BURST: usize = 100;
    let policy = Policy::new(&Limits {
        accept_rate: Some(BURST as f64),
        ..limits(1000, 1000)
    });
    let admission = Admission::new();
    let barrier = Barrier::new(THREADS);
    let admitted: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (admission, policy, barrier) = (&admission, &policy, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let enter = |_: &usize| admission.acquire(policy, peer(thread), || 5).is_ok();
                    (0..BURST).filter(enter).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(admitted, BURST);
    assert_eq!(admission.open(), BURST);
}

#[test]
fn the_first_reason_is_the_one_that_is_given() {
    let mut limits = Limits {
        accept_rate: Some(2.0),
        deny: vec!["10.0.0.9".parse().unwrap()],
        ..limits(2, 1)
    };
    let policy = Policy::new(&limits);
    let admission = Admission::new();
    let enter = |policy, number, now_ns| admission.acquire(policy, peer(number), || now_ns);
    let first = enter(&policy, 1, 0).unwrap();
    assert_eq!(enter(&policy, 1, 0), Err(RefuseReason::MaxConnectionsPerIp));
    let second = enter(&policy, 2, 0).unwrap();
    // The rate is used up, the total reached, and so is the limit of the address.
    assert_eq!(enter(&policy, 9, 0), Err(RefuseReason::Denied));
    assert_eq!(enter(&policy, 1, 0), Err(RefuseReason::AcceptRate));
    let later_ns = 1_000_000_000;
    assert_eq!(
        enter(&policy, 1, later_ns),
        Err(RefuseReason::MaxConnections)
    );
    admission.release(second);
    // No refusal since then took a token of the rate.
    limits.max_connections_per_ip = None;
    let policy = Policy::new(&limits);
    let third = enter(&policy, 3, later_ns).unwrap();
    admission.release(third);
    let fourth = enter(&policy, 3, later_ns).unwrap();
    assert_eq!(enter(&policy, 3, later_ns), Err(RefuseReason::AcceptRate));
    admission.release(fourth);
    admission.release(first);
    assert_nothing_is_counted(&admission);
}

#[test]
fn a_peer_without_an_address_counts_for_the_total_and_the_rate_alone() {
    let policy = Policy::new(&Limits {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        accept_rate: Some(3.0),
        ..limits(2, 1)
    });
    let admission = Admission::new();
    let permits = [(); 2].map(|()| admission.acquire(&policy, None, || 0).unwrap());
    assert_eq!(
        admission.acquire(&policy, None, || 0),
        Err(RefuseReason::MaxConnections)
    );
    permits
        .into_iter()
        .for_each(|permit| admission.release(permit));
    let _permit = admission.acquire(&policy, None, || 0).unwrap();
    assert_eq!(
        admission.acquire(&policy, None, || 0),
        Err(RefuseReason::AcceptRate)
    );
}

#[test]
fn an_ipv6_network_is_one_address() {
    let policy = Policy::new(&limits(9, 1));
    let admission = Admission::new();
    let enter = |text: &str| admission.acquire(&policy, Some(text.parse().unwrap()), timeless);
    let _permit = enter("2001:db8::1").unwrap();
    assert_eq!(enter("2001:db8::2"), Err(RefuseReason::MaxConnectionsPerIp));
    let _permit = enter("2001:db8:0:1::1").unwrap();
    let _permit = enter("10.0.0.1").unwrap();
    assert_eq!(
        enter("::ffff:10.0.0.1"),
        Err(RefuseReason::MaxConnectionsPerIp)
    );
}

#[test]
fn an_ipv6_network_has_the_length_of_the_policy() {
    let policy = |ipv6_prefix| {
        Policy::new(&Limits {
            ipv6_prefix,
            ..limits(9, 1)
        })
    };
    let admission = Admission::new();
    let enter = |policy: &Policy, text: &str| {
        admission.acquire(policy, Some(text.parse().unwrap()), timeless)
    };
    let [site, address] = [48, 128].map(policy);
    let first = enter(&site, "2001:db8::1").unwrap();
    let refused = Err(RefuseReason::MaxConnectionsPerIp);
    assert_eq!(enter(&site, "2001:db8:0:ffff::1"), refused);
    let second = enter(&address, "2001:db8::1").unwrap();
    let third = enter(&address, "2001:db8::2").unwrap();
    assert_eq!(enter(&address, "2001:db8::2"), refused);
    // A permit counts for the source that it was taken for, whatever the policy is now.
    for permit in [first, second, third] {
        admission.release(permit);
    }
    assert_nothing_is_counted(&admission);
}

#[test]
fn each_address_has_an_accept_rate_and_its_refusals_take_nothing_of_the_total() {
    let policy = Policy::new(&Limits {
        accept_rate: Some(5.0),
        accept_rate_per_ip: Some(2.0),
        max_connections_per_ip: NonZeroUsize::new(9),
        ..Limits::default()
    });
    let admission = Admission::new();
    let outcomes = [1, 1, 1, 1, 2, 2, 2, 3, 4].map(|number| {
        let permit = admission.acquire(&policy, peer(number), || 0);
        permit.map(|permit| admission.release(permit)).err()
    });
    let (over_own, over_all) = (
        Some(RefuseReason::AcceptRatePerIp),
        Some(RefuseReason::AcceptRate),
    );
    assert_eq!(
        outcomes,
        [
            None, None, over_own, over_own, None, None, over_own, None, over_all
        ]
    );
    // A Unix socket's peer has no address.
    let policy = Policy::new(&Limits {
        accept_rate_per_ip: Some(1.0),
        ..Limits::default()
    });
    for _ in 0..3 {
        let permit = admission.acquire(&policy, None, timeless).unwrap();
        admission.release(permit);
    }
    assert_nothing_is_counted(&admission);
}

#[test]
fn the_accept_rate_of_an_address_holds_exactly_under_a_storm() {
    const THREADS: usize = 8;
    const BURST: usize = 100;
    let policy = Policy::new(&Limits {
        accept_rate_per_ip: Some(BURST as f64),
        ..Limits::default()
    });
    let admission = Admission::new();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for turn in 0..3 * BURST {
                    // Those that are admitted stay.
                    let _ = admission.acquire(&policy, peer(turn % 3), || 5);
                }
            });
        }
    });
    assert_eq!(admission.open(), 3 * BURST);
}

#[test]
fn a_permit_is_small() {
    assert_eq!(size_of::<Permit>(), 8);
}

#[test]
fn datagrams_are_limited_by_list_source_and_total() {
    let policy = Policy::new(&Limits {
        deny: vec!["10.0.0.9".parse().unwrap()],
        udp_rate: Some(15.0),
        udp_rate_per_source: Some(10.0),
        ..Limits::default()
    });
    let admission = Admission::new();
    let none = UdpAllowance::default();
    for (number, datagrams, allowance) in [
        (9, 3, UdpAllowance { denied: 3, ..none }),
        (1, 4, UdpAllowance { granted: 4, ..none }),
        (
            1,
            8,
            UdpAllowance {
                granted: 6,
                over_source_rate: 2,
                ..none
            },
        ),
        (
            2,
            12,
            UdpAllowance {
                granted: 5,
                over_source_rate: 2,
                over_rate: 5,
                ..none
            },
        ),
        // Charged to its source although the total dropped it.
        (
            2,
            1,
            UdpAllowance {
                over_source_rate: 1,
                ..none
            },
        ),
        (
            3,
            1,
            UdpAllowance {
                over_rate: 1,
                ..none
            },
        ),
    ] {
        let source = peer(number).unwrap();
        assert_eq!(
            admission.udp_allowance(&policy, source, || 0, datagrams),
            allowance
        );
    }
}

#[test]
fn without_a_rate_per_source_there_is_no_table() {
    let admission = Admission::new();
    let policy = Policy::new(&Limits {
        udp_rate_per_source: None,
        ..Limits::default()
    });
    let allowance = admission.udp_allowance(&policy, peer(1).unwrap(), || 0, u32::MAX);
    assert_eq!(allowance.granted, u32::MAX);
    assert!(admission.datagrams_per_source.get().is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Enter(usize),
    Leave(usize),
    Reload(usize, usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize).prop_map(Step::Enter),
        4 => any::<usize>().prop_map(Step::Leave),
        // Zero is no limit.
        1 => (0..8usize, 0..4usize).prop_map(|(total, per_ip)| Step::Reload(total, per_ip)),
    ]
}

proptest! {
    #[test]
    fn counting_survives_reloads(steps in vec(steps(), 1..200)) {
        let admission = Admission::new();
        let (mut total, mut per_ip) = (0, 0);
        let mut policy = Policy::new(&limits(total, per_ip));
        // Open connections: the address, if it was counted, and the permit.
        let mut open: Vec<(Option<usize>, Permit)> = Vec::new();
        for step in steps {
            match step {
                Step::Enter(number) => {
                    let same = open.iter().filter(|(counted, _)| *counted == Some(number));
                    let expected = if total > 0 && open.len() >= total {
                        Err(RefuseReason::MaxConnections)
                    } else if per_ip > 0 && same.count() >= per_ip {
                        Err(RefuseReason::MaxConnectionsPerIp)
                    } else {
                        Ok(())
                    };
                    let entered = admission.acquire(&policy, peer(number), timeless);
                    prop_assert_eq!(entered.as_ref().map(|_| ()).map_err(|r| *r), expected);
                    if let Ok(permit) = entered {
                        open.push(((per_ip > 0).then_some(number), permit));
                    }
                }
                Step::Leave(index) if !open.is_empty() => {
                    admission.release(open.swap_remove(index % open.len()).1);
                }
                Step::Leave(_) => {}
                Step::Reload(new_total, new_per_ip) => {
                    (total, per_ip) = (new_total, new_per_ip);
                    policy = Policy::new(&limits(total, per_ip));
                }
            }
            prop_assert_eq!(admission.open(), open.len());
        }
        for (_, permit) in open {
            admission.release(permit);
        }
        assert_nothing_is_counted(&admission);
    }
}
