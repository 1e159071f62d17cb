//! Who is served: the access list, and limits of connections and of rates over all workers.
//!
//! [`Policy`] is what the configuration asks for, a value that never changes: every worker holds
//! the current one, and a reload hands out another. [`Admission`] is what was counted so far,
//! shared by all workers, and survives a reload.
//!
//! All limits hold exactly, however many workers accept at once, and a connection that is refused
//! takes nothing: no permit, and nothing of the accept rate.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) mod access;
pub(crate) mod rate;

use access::AccessList;
use rate::{Bucket, Rate, SourceBuckets};

use crate::config::Limits;
use crate::metrics::RefuseReason;
use crate::net::cidr::SourcePrefix;

/// The rules of admission, compiled from [`Limits`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    access: AccessList,
    accept_rate: Option<Rate>,
    max_connections: usize,
    max_connections_per_ip: Option<NonZeroUsize>,
    udp_rate: Option<Rate>,
    udp_rate_per_source: Option<Rate>,
}

impl Policy {
    /// The rules that `limits` ask for.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            access: AccessList::new(&limits.allow, &limits.deny),
            accept_rate: limits.accept_rate.map(Rate::per_second),
            max_connections: limits.max_connections.map_or(usize::MAX, NonZeroUsize::get),
            max_connections_per_ip: limits.max_connections_per_ip,
            udp_rate: limits.udp_rate.map(Rate::per_second),
            udp_rate_per_source: limits.udp_rate_per_source.map(Rate::per_second),
        }
    }
}

/// What was admitted so far, counted over all workers.
///
/// The total is one atomic. Connections per address are counted under one of 64 locks, each taken
/// for a look-up, at accept and at close only, and only while a limit per address is set.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: AtomicUsize,
    accepts: Bucket,
    per_ip: PerIp,
    datagrams: Bucket,
    /// Made when a rate per source is first asked for: most servers never need the memory.
    datagrams_per_source: OnceLock<SourceBuckets>,
}

/// The place of an admitted connection, to be given back by [`Admission::release`].
#[derive(Debug, Default, Eq, PartialEq)]
#[must_use = "a place that is not given back by `release` stays taken"]
pub(crate) struct Permit {
    /// The address that the connection counts for. It is kept here, because a reload may switch
    /// the limit per address on or off while the connection is open.
    counted: Option<SourcePrefix>,
}

/// What becomes of datagrams that ask for an answer; the four add up to those asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct UdpAllowance {
    /// To be answered.
    pub granted: u32,
    /// Dropped, because the access list denies their source.
    pub denied: u32,
    /// Dropped, because their source is over its rate.
    pub over_source_rate: u32,
    /// Dropped, because all sources together are over the total rate.
    pub over_rate: u32,
}

impl Admission {
    /// Nothing admitted yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes a place for a connection from `peer`, to be given back by [`Admission::release`]. A peer
    /// without an address, as on a Unix socket, is subject to the accept rate and the total only.
    /// Connections that came in while no limit per address was set do not count for one set later.
    ///
    /// The time is asked for only if there is an accept rate.
    ///
    /// # Errors
    /// The first reason, in the order of [`RefuseReason::ALL`], to refuse the connection.
    pub(crate) fn acquire(
        &self,
        policy: &Policy,
        peer: Option<IpAddr>,
        now_ns: impl FnOnce() -> u64,
    ) -> Result<Permit, RefuseReason> {
        if peer.is_some_and(|peer| !policy.access.admits(peer)) {
            return Err(RefuseReason::Denied);
        }
        let accept_rate = policy.accept_rate.map(|rate| (rate, now_ns()));
        // Looked at first and taken last: what was taken from a bucket can't be given back without
        // a chance that it is granted twice.
        if accept_rate.is_some_and(|(rate, now_ns)| !self.accepts.would_grant(rate, now_ns)) {
            return Err(RefuseReason::AcceptRate);
        }
        let (Some(most), Some(peer)) = (policy.max_connections_per_ip, peer) else {
            self.acquire_total(policy, accept_rate)?;
            return Ok(Permit { counted: None });
        };
        let source = SourcePrefix::from(peer);
        let mut open = self.per_ip.lock(source);
        if open.get(&source).is_some_and(|&open| open >= most.get()) {
            // Both limits may be reached, and the total comes first.
            return Err(if self.open() >= policy.max_connections {
                RefuseReason::MaxConnections
            } else {
                RefuseReason::MaxConnectionsPerIp
            });
        }
        // Under the lock, so that the room found above is still there.
        self.acquire_total(policy, accept_rate)?;
        *open.entry(source).or_insert(0) += 1;
        Ok(Permit {
            counted: Some(source),
        })
    }

    /// Gives back a place taken by [`Admission::acquire`].
    pub(crate) fn release(&self, permit: Permit) {
        if let Some(source) = permit.counted {
            self.per_ip.release(source);
        }
        self.release_total();
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many of `datagrams`, all from `source`, may be answered. The time is asked for only if
    /// there is a rate.
    ///
    /// What the total rate drops was charged to its source nevertheless: a bucket can't take back
    /// exactly, and it is the busy sources that should feel it when the total is reached.
    pub(crate) fn udp_allowance(
        &self,
        policy: &Policy,
        source: IpAddr,
        now_ns: impl FnOnce() -> u64,
        datagrams: u32,
    ) -> UdpAllowance {
        if !policy.access.admits(source) {
            return UdpAllowance {
                denied: datagrams,
                ..UdpAllowance::default()
            };
        }
        if policy.udp_rate_per_source.is_none() && policy.udp_rate.is_none() {
            return UdpAllowance {
                granted: datagrams,
                ..UdpAllowance::default()
            };
        }
        let now_ns = now_ns();
        let of_source = match policy.udp_rate_per_source {
            Some(rate) => self
                .datagrams_per_source
                .get_or_init(SourceBuckets::new)
                .take(rate, source.into(), now_ns, datagrams),
            None => datagrams,
        };
        let granted = match policy.udp_rate {
            Some(rate) => self.datagrams.take(rate, now_ns, of_source),
            None => of_source,
        };
        UdpAllowance {
            granted,
            denied: 0,
            over_source_rate: datagrams - of_source,
            over_rate: of_source - granted,
        }
    }

    fn acquire_total(
        &self,
        policy: &Policy,
        accept_rate: Option<(Rate, u64)>,
    ) -> Result<(), RefuseReason> {
        // Relaxed: the count itself is all that is shared, nothing is published through it.
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < policy.max_connections).then_some(open + 1)
            })
            .map_err(|_| RefuseReason::MaxConnections)?;
        if let Some((rate, now_ns)) = accept_rate
            && self.accepts.take(rate, now_ns, 1) == 0
        {
            // Another worker took the last of the rate since it was looked at, so whoever found no
            // place in this moment would have been refused for the rate.
            self.release_total();
            return Err(RefuseReason::AcceptRate);
        }
        Ok(())
    }

    fn release_total(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "left more often than entered");
    }
}

/// Locks over which the addresses are hand_off, so that workers seldom meet at one.
const STRIPES: usize = 64;

/// Connections open for each address. One with none has no entry, so that there are never more
/// entries than connections.
#[derive(Debug)]
struct PerIp {
    key: RandomState,
    stripes: [Mutex<HashMap<SourcePrefix, usize>>; STRIPES],
}

impl Default for PerIp {
    fn default() -> Self {
        Self {
            key: RandomState::new(),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl PerIp {
    fn lock(&self, source: SourcePrefix) -> MutexGuard<'_, HashMap<SourcePrefix, usize>> {
        let stripe = self.key.hash_one(source) as usize % STRIPES;
        // No step under the lock leaves the map half changed, even if it panicked.
        self.stripes[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, source: SourcePrefix) {
        let mut open = self.lock(source);
        match open.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(open.remove(&source)),
            None => debug_assert!(false, "left more often than entered"),
        }
    }
}

#[cfg(test)]
mod tests {
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

    /// Threads that come and go as fast as they can, from as many addresses, and then come to stay.
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
        // The total is reached first, then the limits of all addresses, then both at once.
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
                        let enter =
                            |_: &usize| admission.acquire(policy, peer(thread), || 5).is_ok();
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
        // Neither of the refusals since cost anything of the rate.
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
    fn a_place_is_small() {
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
        let policy = Policy::new(&Limits::default());
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
            // What is open: the address, if it was counted, and the permit.
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
}
