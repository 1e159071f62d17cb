//! Admission: the access list, and limits of connections and of rates over all workers.
//!
//! [`Policy`] holds the configured limits and is immutable: every worker holds the current one, and
//! a reload hands out another. [`Admission`] holds the counts, shared by all workers; they survive
//! a reload.
//!
//! All limits hold exactly with any number of workers accepting at once. A refused connection takes
//! no permit and nothing of the accept rate.

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
use crate::memory::allocation::{OutOfMemory, try_reserve_map};
use crate::metrics::RefuseReason;
use crate::net::cidr::SourcePrefix;

/// The rules of admission, compiled from [`Limits`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    access: AccessList,
    accept_rate: Option<Rate>,
    accept_rate_per_ip: Option<Rate>,
    ipv6_prefix: u8,
    max_connections: usize,
    max_connections_per_ip: Option<NonZeroUsize>,
    udp_rate: Option<Rate>,
    udp_rate_per_source: Option<Rate>,
}

impl Policy {
    /// Compiles `limits`.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            access: AccessList::new(&limits.allow, &limits.deny),
            accept_rate: limits.accept_rate.map(Rate::per_second),
            accept_rate_per_ip: limits.accept_rate_per_ip.map(Rate::per_second),
            ipv6_prefix: limits.ipv6_prefix.clamp(1, 128),
            max_connections: limits.max_connections.map_or(usize::MAX, NonZeroUsize::get),
            max_connections_per_ip: limits.max_connections_per_ip,
            udp_rate: limits.udp_rate.map(Rate::per_second),
            udp_rate_per_source: limits.udp_rate_per_source.map(Rate::per_second),
        }
    }

    fn source(&self, address: IpAddr) -> SourcePrefix {
        SourcePrefix::new(address, self.ipv6_prefix)
    }
}

/// Counts of admitted connections and datagrams over all workers.
///
/// The total is one atomic. Connections per address are counted under one of 64 locks. A lock is
/// taken for one look-up, only at accept and at close, and only while a limit per address is set.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: AtomicUsize,
    accepts: Bucket,
    accepts_per_ip: LazySourceBuckets,
    per_ip: PerIp,
    datagrams: Bucket,
    datagrams_per_source: LazySourceBuckets,
}

/// Allocated when a rate per source is first needed: most servers never need the memory.
type LazySourceBuckets = OnceLock<SourceBuckets>;

/// The permit of an admitted connection, to be returned by [`Admission::release`].
#[derive(Debug, Default, Eq, PartialEq)]
#[must_use = "a permit that is not given back by `release` stays taken"]
pub(crate) struct Permit {
    /// The address that the connection counts for. It is kept here, because a reload may switch
    /// the limit per address on or off while the connection is open.
    counted: Option<SourcePrefix>,
}

/// The verdict on a number of datagrams; the four counts add up to that number.
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
    /// No connections and full buckets.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes a permit for a connection from `peer`, to be returned by [`Admission::release`]. A
    /// peer without an address, as on a Unix socket, is subject to the accept rate and the total
    /// only. Connections accepted while no limit per address was set do not count towards a later
    /// limit.
    ///
    /// The time is read only if there is an accept rate. A connection that finds a limit reached
    /// because another worker reached it meanwhile may take one event of its address's rate.
    ///
    /// # Errors
    /// The first reason to refuse the connection, in the order of [`RefuseReason::ALL`].
    pub(crate) fn acquire(
        &self,
        policy: &Policy,
        peer: Option<IpAddr>,
        now_ns: impl FnOnce() -> u64,
    ) -> Result<Permit, RefuseReason> {
        if peer.is_some_and(|peer| !policy.access.admits(peer)) {
            return Err(RefuseReason::Denied);
        }
        let source = peer.map(|peer| policy.source(peer));
        let rates = self.accept_rates(policy, source, now_ns);
        rates.check()?;
        let (Some(max), Some(source)) = (policy.max_connections_per_ip, source) else {
            self.acquire_total(policy, &rates)?;
            return Ok(Permit { counted: None });
        };
        let mut open = self.per_ip.lock(source);
        if open.get(&source).is_some_and(|&open| open >= max.get()) {
            // Both limits may be reached, and the total comes first.
            return Err(if self.open() >= policy.max_connections {
                RefuseReason::MaxConnections
            } else {
                RefuseReason::MaxConnectionsPerIp
            });
        }
        let entries = open.len() + 1;
        try_reserve_map(&mut open, entries).map_err(|OutOfMemory| RefuseReason::Resources)?;
        // Under the lock, so that the room found above is still there.
        self.acquire_total(policy, &rates)?;
        *open.entry(source).or_insert(0) += 1;
        Ok(Permit {
            counted: Some(source),
        })
    }

    /// Checks and counts the client of a connection that was admitted without an address, because a
    /// proxy tells it later.
    ///
    /// # Errors
    /// The first reason not to serve the client; the permit stays as it was.
    pub(crate) fn identify(
        &self,
        policy: &Policy,
        permit: &mut Permit,
        client: IpAddr,
        now_ns: impl FnOnce() -> u64,
    ) -> Result<(), RefuseReason> {
        if !policy.access.admits(client) {
            return Err(RefuseReason::Denied);
        }
        let source = policy.source(client);
        let mut rates = self.accept_rates(policy, Some(source), now_ns);
        // The connection took its part when it was accepted.
        rates.total = None;
        rates.check()?;
        let Some(max) = policy.max_connections_per_ip else {
            return rates.take();
        };
        let mut open = self.per_ip.lock(source);
        if open.get(&source).is_some_and(|&open| open >= max.get()) {
            return Err(RefuseReason::MaxConnectionsPerIp);
        }
        let entries = open.len() + 1;
        try_reserve_map(&mut open, entries).map_err(|OutOfMemory| RefuseReason::Resources)?;
        rates.take()?;
        *open.entry(source).or_insert(0) += 1;
        permit.counted = Some(source);
        Ok(())
    }

    /// Returns a permit taken by [`Admission::acquire`].
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

    /// How many of `datagrams`, all from `source`, may be answered. The time is read only if there
    /// is a rate.
    ///
    /// A datagram that the total rate drops is charged to its source nevertheless: a bucket can't
    /// return tokens exactly, and at the total limit the busy sources should lose most.
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
                .take(rate, policy.source(source), now_ns, datagrams),
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

    fn acquire_total(&self, policy: &Policy, rates: &AcceptRates<'_>) -> Result<(), RefuseReason> {
        // Relaxed: only the count is shared, and it publishes nothing else.
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < policy.max_connections).then_some(open + 1)
            })
            .map_err(|_| RefuseReason::MaxConnections)?;
        // Another worker may have taken the last token since the check. A connection that meanwhile
        // found the total reached would have been refused for the rate.
        rates.take().inspect_err(|_| self.release_total())
    }

    /// The accept rates that apply to a connection from `source`.
    fn accept_rates(
        &self,
        policy: &Policy,
        source: Option<SourcePrefix>,
        now_ns: impl FnOnce() -> u64,
    ) -> AcceptRates<'_> {
        let per_ip = policy.accept_rate_per_ip.zip(source);
        AcceptRates {
            now_ns: match (policy.accept_rate, per_ip) {
                (None, None) => 0,
                _ => now_ns(),
            },
            total: policy.accept_rate.map(|rate| (rate, &self.accepts)),
            per_ip: per_ip.map(|(rate, source)| {
                let buckets = self.accepts_per_ip.get_or_init(SourceBuckets::new);
                (rate, source, buckets)
            }),
        }
    }

    fn release_total(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "left more often than entered");
    }
}

/// The accept rates that apply to one connection. They are checked first and taken last: a token
/// returned to a bucket might be granted twice.
#[derive(Debug)]
struct AcceptRates<'a> {
    now_ns: u64,
    total: Option<(Rate, &'a Bucket)>,
    per_ip: Option<(Rate, SourcePrefix, &'a SourceBuckets)>,
}

impl AcceptRates<'_> {
    fn check(&self) -> Result<(), RefuseReason> {
        match (self.total, self.per_ip) {
            (Some((rate, bucket)), _) if !bucket.would_grant(rate, self.now_ns) => {
                Err(RefuseReason::AcceptRate)
            }
            (_, Some((rate, source, buckets)))
                if !buckets.would_grant(rate, source, self.now_ns) =>
            {
                Err(RefuseReason::AcceptRatePerIp)
            }
            _ => Ok(()),
        }
    }

    /// Takes one event of each rate. The total comes last, so that it is never charged for a
    /// connection that is refused.
    fn take(&self) -> Result<(), RefuseReason> {
        if let Some((rate, source, buckets)) = self.per_ip
            && buckets.take(rate, source, self.now_ns, 1) == 0
        {
            return Err(RefuseReason::AcceptRatePerIp);
        }
        if let Some((rate, bucket)) = self.total
            && bucket.take(rate, self.now_ns, 1) == 0
        {
            return Err(RefuseReason::AcceptRate);
        }
        Ok(())
    }
}

/// Locks that the addresses are distributed over, so that workers rarely contend for one.
const STRIPES: usize = 64;

/// Open connections of each address. An address without any has no entry, so that there are never
/// more entries than connections.
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
mod tests;
