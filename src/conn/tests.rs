//! `Conn` against scripted streams: every sequence of short reads, short writes, blocking,
//! interruption, end and reset that a socket could produce, and some that none would.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::memory::Budget;
use crate::memory::allocation::faults;
use crate::net::pipe::{Pipe, SplicePipe};
use crate::service::Service;

/// What the next call on the stream does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Move at most this number of bytes.
    Move(usize),
    Block,
    Interrupt,
    LackMemory,
    Fail(io::ErrorKind),
}

/// A peer that sends `input` and then ends its stream. Calls behave as scripted; after the script,
/// reads and writes move all they can.
#[derive(Debug)]
struct Scripted {
    input: Vec<u8>,
    sent: usize,
    reads: VecDeque<Step>,
    writes: VecDeque<Step>,
    output: Vec<u8>,
    shut_down: bool,
    /// Closing it will reset it.
    is_reset: bool,
    /// Bytes that were peeked and not read yet.
    peeked: usize,
    read_calls: usize,
    /// Whether the peer ends its stream after the input or stays silent.
    ends: bool,
    /// Whether the kernel owes an event for reading: something arrives after the last call.
    read_edge: bool,
    /// Whether the kernel owes an event for writing: the last write found no room.
    write_edge: bool,
    /// Whether the last event for reading reported a hang-up. Then all unread input, or all up to
    /// the next block, was there when it was raised: a short read earns no further event.
    hangup: bool,
    urgent: bool,
    /// Whether it can be relayed through a pipe.
    is_spliceable: bool,
}

impl Scripted {
    fn new(input: impl Into<Vec<u8>>) -> Self {
        Self {
            input: input.into(),
            sent: 0,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            output: Vec::new(),
            shut_down: false,
            is_reset: false,
            peeked: 0,
            read_calls: 0,
            ends: true,
            read_edge: true,
            write_edge: false,
            hangup: false,
            urgent: false,
            is_spliceable: false,
        }
    }

    fn next(steps: &mut VecDeque<Step>) -> io::Result<usize> {
        match steps.pop_front() {
            None => Ok(usize::MAX),
            Some(Step::Move(count)) => Ok(count),
            Some(Step::Block) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Step::Interrupt) => Err(io::ErrorKind::Interrupted.into()),
            // ENOBUFS, as send(2) reports it.
            Some(Step::LackMemory) => Err(io::Error::from_raw_os_error(105)),
            Some(Step::Fail(kind)) => Err(kind.into()),
        }
    }
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_calls += 1;
        if self.peeked > 0 {
            let count = self.peeked.min(buffer.len());
            buffer[..count].copy_from_slice(&self.input[self.sent..][..count]);
            self.sent += count;
            self.peeked = 0;
            self.read_edge |= count < buffer.len() && !self.hangup && !self.urgent;
            return Ok(count);
        }
        let most = Self::next(&mut self.reads).inspect_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                self.read_edge = true;
                self.urgent = false;
            }
        })?;
        let rest = &self.input[self.sent..];
        if rest.is_empty() && !self.ends {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(buffer.len()).min(most);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.sent += count;
        self.read_edge |= count < buffer.len() && !self.hangup && !self.urgent;
        Ok(count)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.shut_down, "wrote after shutting down");
        let count = Self::next(&mut self.writes)
            .inspect_err(|error| {
                self.write_edge |= error.kind() == io::ErrorKind::WouldBlock;
            })?
            .min(bytes.len());
        self.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Scripted {
    type Pipe = SplicePipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shut_down = true;
        Ok(())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        self.is_reset = true;
        Ok(())
    }

    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.peeked = 0;
        let (sent, read_calls) = (self.sent, self.read_calls);
        let peeked = self.read(buffer);
        (self.sent, self.read_calls) = (sent, read_calls);
        // What is peeked can be read.
        self.peeked = *peeked.as_ref().unwrap_or(&0);
        peeked
    }

    fn drained_by_short_read(&self) -> bool {
        true
    }

    fn is_spliceable(&self) -> bool {
        self.is_spliceable
    }

    fn is_drained(&mut self) -> bool {
        let is_blocked = matches!(self.reads.front(), Some(Step::Block));
        if is_blocked {
            self.reads.pop_front();
        }
        let is_drained = is_blocked || self.sent == self.input.len();
        self.read_edge |= is_drained && !self.hangup && !self.urgent;
        is_drained
    }

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        SplicePipe::new()
    }

    /// Blocks like a read, but only a read that blocks earns an event: the pipe may have been full.
    fn fill(&mut self, pipe: &mut SplicePipe, max: usize) -> io::Result<usize> {
        let most = Self::next(&mut self.reads)?.min(max);
        let rest = &self.input[self.sent..];
        if rest.is_empty() && !self.ends {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = pipe.write(&rest[..rest.len().min(most)])?;
        self.sent += count;
        Ok(count)
    }

    fn pour(&mut self, pipe: &mut SplicePipe) -> io::Result<usize> {
        let mut bytes = vec![0; pipe.held()];
        let most = Self::next(&mut self.writes).inspect_err(|error| {
            self.write_edge |= error.kind() == io::ErrorKind::WouldBlock;
        })?;
        let count = pipe.read(&mut bytes[..pipe.held().min(most)])?;
        self.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

/// A worker's scratch with a buffer of this size.
fn scratch(size: usize) -> Scratch<SplicePipe> {
    Scratch::new(size)
}

fn pump(conn: &mut Conn<Scripted>, readiness: Readiness, metrics: &WorkerMetrics) -> Next {
    conn.note(readiness);
    conn.pump(&mut scratch(16), metrics)
}

/// Pumps until the result is not `Yield`.
fn pump_on(conn: &mut Conn<Scripted>, readiness: Readiness, metrics: &WorkerMetrics) -> Next {
    let mut next = pump(conn, readiness, metrics);
    while next == Next::Yield {
        next = pump(conn, Readiness::NONE, metrics);
    }
    next
}

#[test]
fn one_short_read_is_one_read_and_one_write() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new(*b"hello"), Service::Echo);
    conn.stream.ends = false;
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Wait);
    assert_eq!(conn.stream.output, b"hello");
    assert_eq!(conn.stream.read_calls, 1, "no read to learn of EAGAIN");
    assert_eq!(metrics.received_bytes.value(), 5);
    assert_eq!(metrics.sent_bytes.value(), 5);
}

#[test]
fn a_hangup_reported_once_makes_every_later_read_go_to_the_end() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new(*b"last"), Service::Echo);
    conn.stream.reads.push_back(Step::Block);
    let hangup = Readiness::READABLE | Readiness::HANGUP;
    assert_eq!(pump(&mut conn, hangup, &metrics), Next::Wait);
    // The report sticks: without the flag on this event, a short read must still not count as
    // drained.
    assert_eq!(
        pump(&mut conn, Readiness::READABLE, &metrics),
        Next::Close(CloseReason::Finished)
    );
    assert_eq!(conn.stream.output, b"last");
}

#[test]
fn an_urgent_mark_makes_reads_go_on_until_they_block() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new(*b"abcXdef"), Service::Echo);
    conn.stream.ends = false;
    conn.stream.reads = [Step::Move(3), Step::Move(1)].into();
    let urgent = Readiness::READABLE | Readiness::URGENT;
    assert_eq!(pump_on(&mut conn, urgent, &metrics), Next::Wait);
    assert_eq!(conn.stream.output, b"abcXdef");
    assert!(
        !conn.ready.intersects(Readiness::URGENT),
        "cleared by the read that blocked"
    );
}

#[test]
fn nothing_is_read_while_output_waits() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new([7; 64]), Service::Echo);
    conn.stream.writes = [Step::Move(3), Step::Block].into();
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Wait);
    assert_eq!((conn.stream.sent, conn.backlog_len()), (16, 13));
    assert_eq!(metrics.backlog_bytes.value(), 13);
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Wait);
    assert_eq!(conn.stream.sent, 16);
    // The event reports only room to write; the input was readable all along.
    assert_eq!(
        pump_on(&mut conn, Readiness::WRITABLE, &metrics),
        Next::Close(CloseReason::Finished)
    );
    assert_eq!(metrics.backlog_bytes.value(), 0);
    assert_eq!(conn.stream.output, [7; 64]);
}

#[test]
fn a_large_read_follows_only_one_that_was_written_whole() {
    let metrics = WorkerMetrics::default();
    let mut scratch = scratch(200_000);
    let mut conn = Conn::new(Scripted::new(vec![1; 1_000_000]), Service::Echo);
    conn.note(Readiness::READABLE);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(conn.stream.sent, (64 << 10) + 200_000);
    conn.stream.writes = [Step::Move(100), Step::Move(1 << 20)].into();
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(conn.stream.sent, 3 * (64 << 10) + 200_000);
}

/// A peer that fills the first read, after one turn of its connection.
fn bulk(input: usize, writes: &[Step]) -> (Conn<Scripted>, Scratch<SplicePipe>, WorkerMetrics) {
    let mut stream = Scripted::new(vec![1; input]);
    stream.is_spliceable = true;
    stream.writes = writes.iter().copied().collect();
    let mut conn = Conn::new(stream, Service::Echo);
    conn.note(Readiness::READABLE);
    (
        conn,
        Scratch::with_first_read(Arc::new(Budget::new(None)), 100, 10),
        WorkerMetrics::default(),
    )
}

#[test]
fn much_that_is_taken_at_once_is_relayed() {
    let (mut conn, mut scratch, metrics) = bulk(1000, &[]);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(
        conn.stream.output.len(),
        10 + 100,
        "a first read, then a relay"
    );
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(conn.stream.output.len(), 10 + 200, "at once the next time");
    assert_eq!(conn.stream.read_calls, 1);
    // Little input arrives: the next turn begins with a read again.
    conn.stream.reads = [Step::Move(5), Step::Block].into();
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
    conn.note(Readiness::READABLE);
    conn.stream.reads = [Step::Move(3)].into();
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
    assert_eq!((conn.stream.output.len(), conn.stream.read_calls), (218, 2));
}

#[test]
fn the_rest_of_a_relay_is_kept_and_the_next_read_is_small() {
    let (mut conn, mut scratch, metrics) =
        bulk(1000, &[Step::Move(10), Step::Move(30), Step::Block]);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!((conn.stream.output.len(), conn.backlog_len()), (40, 70));
    assert_eq!(metrics.short_writes.value(), 1);
    conn.note(Readiness::WRITABLE);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!((conn.stream.output.len(), conn.backlog_len()), (120, 0));
}

#[test]
fn a_relay_that_fails_leaves_the_pipe_empty_for_others() {
    let (mut conn, mut scratch, metrics) = bulk(
        1000,
        &[Step::Move(10), Step::Fail(io::ErrorKind::PermissionDenied)],
    );
    let next = conn.pump(&mut scratch, &metrics);
    assert_eq!(next, Next::Close(CloseReason::Error));
    let (mut other, _, _) = bulk(1000, &[]);
    other.stream.input.fill(2);
    assert_eq!(other.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(other.stream.output, [2; 110]);
}

#[test]
fn a_message_as_large_as_the_first_read_needs_no_other() {
    let (mut conn, mut scratch, metrics) = bulk(10, &[]);
    conn.stream.ends = false;
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
    assert_eq!((conn.stream.output.len(), conn.stream.read_calls), (10, 1));
}

#[test]
fn a_greedy_peer_yields_after_its_budget() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new(vec![1; 1000]), Service::Echo);
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Yield);
    assert_eq!(conn.stream.output.len(), 16 * 2);
}

#[test]
fn lingering_discards_input_until_the_peer_ends() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new([9; 3]), Service::Echo);
    conn.stream.ends = false;
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Wait);
    let next = conn.linger(CloseReason::IdleTimeout, &mut scratch(16), &metrics);
    assert_eq!(next, Next::Wait);
    assert!(conn.stream.shut_down);
    assert_eq!(conn.lingering(), Some(CloseReason::IdleTimeout));
    // What crossed the end is discarded.
    conn.stream.input.extend([9; 40]);
    conn.stream.ends = true;
    assert_eq!(
        pump_on(
            &mut conn,
            Readiness::READABLE | Readiness::WRITABLE | Readiness::HANGUP,
            &metrics
        ),
        Next::Close(CloseReason::IdleTimeout)
    );
    assert!(!conn.stream.is_reset);
    assert_eq!(conn.stream.output.len(), 3);
}

/// A connection that we end with a backlog, or with input that was not read yet.
#[test]
fn what_is_cut_off_ends_in_a_reset_and_not_in_an_end() {
    for writes in [vec![Step::Move(3), Step::Block], vec![]] {
        let metrics = WorkerMetrics::default();
        let mut scratch = scratch(16);
        let mut conn = Conn::new(Scripted::new([9; 40]), Service::Echo);
        conn.stream.writes = writes.into();
        conn.note(Readiness::READABLE);
        conn.pump(&mut scratch, &metrics);
        let echoed = conn.stream.output.len();
        let next = conn.linger(CloseReason::Stalled, &mut scratch, &metrics);
        assert_eq!(
            (next, conn.lingering()),
            (Next::Wait, Some(CloseReason::Stalled))
        );
        assert_eq!(metrics.backlog_bytes.value(), 0);
        conn.note(Readiness::READABLE | Readiness::WRITABLE);
        assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
        conn.close();
        let stream = &conn.stream;
        assert!(stream.is_reset && !stream.shut_down);
        assert_eq!(stream.output.len(), echoed, "nothing more is echoed");
    }
}

#[test]
fn a_discard_cuts_nothing_off() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new([9; 40]), Service::Discard);
    conn.linger(CloseReason::Lifetime, &mut scratch(16), &metrics);
    assert!(conn.stream.shut_down);
}

#[test]
fn a_connection_that_is_closed_with_a_backlog_is_reset() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new([9; 10]), Service::Echo);
    conn.stream.writes = [Step::Move(3), Step::Block].into();
    assert_eq!(pump(&mut conn, Readiness::READABLE, &metrics), Next::Wait);
    conn.close();
    assert!(conn.stream.is_reset);
}

#[test]
fn without_memory_for_a_backlog_input_stays_in_the_kernel() {
    let metrics = WorkerMetrics::default();
    let mut scratch = Scratch::with_first_read(Arc::new(Budget::new(Some(0))), 100, 10);
    let mut conn = Conn::new(Scripted::new([9; 12]), Service::Echo);
    conn.stream.ends = false;
    conn.stream.writes = [Step::Move(3), Step::Block].into();
    conn.note(Readiness::READABLE);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Yield);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
    assert_eq!((conn.stream.sent, conn.stream.output.len()), (3, 3));
    // Room for it is reported.
    conn.note(Readiness::WRITABLE);
    assert_eq!(conn.pump(&mut scratch, &metrics), Next::Wait);
    assert_eq!((conn.stream.sent, conn.stream.output.len()), (12, 12));
    assert_eq!(metrics.backlog_bytes.value(), 0);
    assert_eq!(metrics.short_writes.value(), 2);
    assert!(metrics.peeked_reads.value() >= 3);
}

#[test]
fn a_closed_connection_does_nothing_more() {
    let metrics = WorkerMetrics::default();
    let mut conn = Conn::new(Scripted::new(*b"late"), Service::Echo);
    conn.close();
    assert!(!conn.stream.is_reset, "nothing was cut off");
    assert_eq!(
        pump(
            &mut conn,
            Readiness::READABLE | Readiness::WRITABLE | Readiness::HANGUP,
            &metrics
        ),
        Next::Wait
    );
    assert_eq!(conn.stream.read_calls, 0);
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..40).prop_map(Step::Move),
        2 => Just(Step::Block),
        1 => Just(Step::Interrupt),
        1 => Just(Step::LackMemory),
    ]
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..60)
}

/// Pumps until the connection closes, with exactly the events that a kernel would raise, and checks
/// what must hold after every step. The scripts are finite, so the rounds are bounded.
fn drive(
    conn: &mut Conn<Scripted>,
    (buffer_len, first): (usize, usize),
    memory: Option<u64>,
    flags: &[(bool, bool)],
) -> Result<CloseReason, TestCaseError> {
    let metrics = WorkerMetrics::default();
    let budget = Arc::new(Budget::new(memory));
    let mut scratch = Scratch::with_first_read(Arc::clone(&budget), buffer_len, first);
    let mut flags = flags.iter().copied().cycle();
    let mut next = Next::Wait;
    for _ in 0..10_000 {
        let readable = std::mem::take(&mut conn.stream.read_edge);
        let writable = std::mem::take(&mut conn.stream.write_edge);
        if readable || writable {
            let (hangup, urgent) = flags.next().unwrap_or_default();
            conn.stream.hangup |= hangup;
            conn.stream.urgent |= urgent;
            let when = |holds: bool, what: Readiness| if holds { what } else { Readiness::NONE };
            conn.note(
                when(readable || hangup || urgent, Readiness::READABLE)
                    | when(writable || hangup, Readiness::WRITABLE)
                    | when(hangup, Readiness::HANGUP)
                    | when(urgent, Readiness::URGENT),
            );
        } else {
            prop_assert_ne!(next, Next::Wait, "waits for an event that never comes");
        }
        next = conn.pump(&mut scratch, &metrics);
        let (read, written) = (conn.stream.sent, conn.stream.output.len());
        prop_assert_eq!(&conn.stream.output[..], &conn.stream.input[..written]);
        prop_assert!(conn.backlog_len() <= buffer_len);
        prop_assert_eq!(metrics.backlog_bytes.value(), conn.backlog_len() as u64);
        prop_assert_eq!(metrics.received_bytes.value(), read as u64);
        prop_assert_eq!(metrics.sent_bytes.value(), written as u64);
        match next {
            Next::Close(reason) => {
                conn.drop_backlog(&mut scratch.memory, &metrics);
                prop_assert_eq!(metrics.backlog_bytes.value(), 0);
                drop(scratch);
                prop_assert_eq!(Some(budget.free() as u64), memory.or(Some(u64::MAX)));
                return Ok(reason);
            }
            Next::Header => unreachable!("no header is waited for"),
            Next::Wait | Next::Yield | Next::Retry => {
                prop_assert_eq!(written + conn.backlog_len(), read);
            }
        }
    }
    Err(TestCaseError::fail("never closed"))
}

proptest! {
    #[test]
    fn after_a_clean_end_everything_came_back(
        input in prop::collection::vec(any::<u8>(), 0..600),
        reads in script(),
        writes in script(),
        buffer_len in 1_usize..64,
        first in 1_usize..64,
        is_spliceable in any::<bool>(),
        memory in prop::option::of(0_u64..600),
        failing_allocations in prop::option::of(any::<u64>()),
        flags in prop::collection::vec(any::<(bool, bool)>(), 1..8),
    ) {
        let mut stream = Scripted::new(input.clone());
        stream.is_spliceable = is_spliceable;
        stream.reads = reads.into();
        stream.writes = writes.into();
        let mut conn = Conn::new(stream, Service::Echo);
        if let Some(seed) = failing_allocations {
            faults::begin(seed);
        }
        let reason = drive(&mut conn, (buffer_len, first), memory, &flags);
        faults::end();
        let reason = reason?;
        prop_assert_eq!(reason, CloseReason::Finished);
        prop_assert_eq!(&conn.stream.output, &input);
    }

    #[test]
    fn after_a_reset_at_any_point_a_prefix_came_back(
        input in prop::collection::vec(any::<u8>(), 0..600),
        mut reads in script(),
        mut writes in script(),
        reset_reads in any::<bool>(),
        buffer_len in 1_usize..64,
        first in 1_usize..64,
        is_spliceable in any::<bool>(),
        memory in prop::option::of(0_u64..600),
        kind in prop_oneof![
            Just(io::ErrorKind::ConnectionReset),
            Just(io::ErrorKind::BrokenPipe),
            Just(io::ErrorKind::PermissionDenied),
        ],
    ) {
        if reset_reads { &mut reads } else { &mut writes }.push(Step::Fail(kind));
        let mut stream = Scripted::new(input.clone());
        stream.is_spliceable = is_spliceable;
        stream.reads = reads.into();
        stream.writes = writes.into();
        let mut conn = Conn::new(stream, Service::Echo);
        let reason = drive(&mut conn, (buffer_len, first), memory, &[(false, false)])?;
        let failed = conn.stream.reads.is_empty() && reset_reads
            || conn.stream.writes.is_empty() && !reset_reads;
        match reason {
            CloseReason::Finished => prop_assert_eq!(&conn.stream.output, &input),
            _ => prop_assert!(failed),
        }
    }
}
