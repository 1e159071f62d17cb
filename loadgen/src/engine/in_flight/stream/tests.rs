//! Outcomes of a connection's messages, whatever happens to the connection.

use std::collections::VecDeque;

use super::*;
use proptest::prelude::*;

fn sent(messages: &mut StreamInFlight, count: u64, began: u64) -> Vec<u64> {
    let mut times = Vec::new();
    messages.wrote(count, began, |sent| times.push(sent.intended));
    times
}

fn received(messages: &mut StreamInFlight, count: u64) -> Vec<Done> {
    messages.received(count);
    std::iter::from_fn(|| messages.take_done()).collect()
}

#[test]
fn a_message_is_out_with_its_first_byte_and_done_with_its_last() {
    let mut messages = StreamInFlight::new(None);
    messages.push(5, 10, true, true);
    messages.push(6, 10, true, true);
    assert_eq!(messages.writable(), 20);
    assert_eq!(sent(&mut messages, 10, 100), [5]);
    assert_eq!(sent(&mut messages, 1, 101), [6]);
    assert!(sent(&mut messages, 9, 102).is_empty());
    assert_eq!(received(&mut messages, 9), []);
    let done = |intended, write_began| Done {
        intended,
        write_began,
        size: 10,
        counted: true,
    };
    assert_eq!(received(&mut messages, 1), [done(5, 100)]);
    assert_eq!(received(&mut messages, 4), []);
    assert_eq!(messages.bytes_out(), 6);
    assert_eq!(received(&mut messages, 6), [done(6, 101)]);
    assert_eq!(messages.bytes_out(), 0);
    assert_eq!(messages.len(), 0);
}

#[test]
fn depth_holds_messages_back() {
    let mut messages = StreamInFlight::new(Some(1));
    messages.push(1, 4, true, true);
    messages.push(2, 4, true, true);
    assert_eq!(messages.writable(), 4);
    let mut held = Vec::new();
    messages.wrote(4, 10, |sent| held.push(sent.held));
    assert_eq!(messages.writable(), 0);
    assert_eq!(received(&mut messages, 4).len(), 1);
    assert_eq!(messages.writable(), 4);
    messages.wrote(4, 20, |sent| held.push(sent.held));
    assert_eq!(held, [false, true]);
}

#[test]
fn messages_are_held_once_and_only_if_the_connection_makes_them_wait() {
    let mut messages = StreamInFlight::new(None);
    // A client that comes late queues several at once: that is not the connection's doing.
    assert!(!messages.push(1, 4, true, true));
    assert!(!messages.push(2, 4, true, true));
    messages.wrote(2, 10, |sent| assert!(!sent.held));
    let mut held = Vec::new();
    messages.hold(|intended| held.push(intended));
    messages.hold(|intended| held.push(intended));
    assert_eq!(held, [2]);
    assert!(messages.push(3, 4, false, true));
    messages.wrote(10, 20, |sent| assert!(sent.held));
}

#[test]
fn a_restart_gives_up_what_was_out_and_keeps_what_was_queued() {
    let mut messages = StreamInFlight::new(None);
    for (intended, counted) in [(1, false), (2, true), (3, true), (4, true)] {
        messages.push(intended, 4, true, counted);
    }
    messages.wrote(8, 100, |_| ());
    messages.wrote(4, 200, |_| ());
    let unanswered = messages.clone().restart(Restart::TimedOut(150));
    let expected = Unanswered {
        places: 3,
        timed_out: 1,
        lost: 0,
        abandoned: 1,
    };
    assert_eq!(unanswered, expected);
    let unanswered = messages.restart(Restart::Lost);
    let expected = Unanswered {
        places: 3,
        timed_out: 0,
        lost: 2,
        abandoned: 0,
    };
    assert_eq!(unanswered, expected);
    assert_eq!(
        (messages.left(), messages.writable()),
        (Left { out: 0, queued: 1 }, 4)
    );
    assert_eq!(sent(&mut messages, 4, 300), [4]);
    assert_eq!(messages.oldest_write(), Some(300));
}

proptest! {
    /// Whatever is pushed, written, received and restarted: each counted message has exactly one
    /// outcome, counted bytes are those of counted messages, and only bytes within the depth may be
    /// written.
    #[test]
    fn every_counted_message_ends_in_one_place(
        depth in prop::option::of(1_usize..4),
        warm_up in 0_u64..10,
        steps in prop::collection::vec((0_u8..4, 1_u64..20), 0..200),
    ) {
        let mut messages = StreamInFlight::new(depth);
        let mut sizes = VecDeque::new();
        let (mut pushed, mut counted, mut started, mut done, mut given_up) = (0, 0, 0, 0, 0);
        let (mut bytes_out, mut bytes_back, mut bytes_lost) = (0, 0, 0);
        let mut done_size = 0;
        // The position of the oldest message.
        let mut begin = 0;
        for (time, (step, amount)) in steps.into_iter().enumerate() {
            match step {
                0 => {
                    messages.push(pushed, amount as u32, true, pushed >= warm_up);
                    sizes.push_back(amount);
                    counted += u64::from(pushed >= warm_up);
                    pushed += 1;
                }
                1 => {
                    let count = amount.min(messages.writable());
                    bytes_out += messages.wrote(count, time as u64, |sent| {
                        started += u64::from(sent.counted);
                    });
                }
                2 => {
                    let count = amount.min(messages.bytes_out());
                    bytes_back += messages.received(count);
                    while let Some(message) = messages.take_done() {
                        done += u64::from(message.counted);
                        let size = sizes.pop_front().unwrap();
                        begin += size;
                        prop_assert_eq!(size, u64::from(message.size));
                        done_size += if message.counted { size } else { 0 };
                    }
                }
                _ if amount == 1 => {
                    let out = messages.left().out;
                    let restarted = messages.restart(Restart::TimedOut(time as u64 / 2));
                    prop_assert_eq!(restarted.timed_out + restarted.abandoned, out);
                    prop_assert_eq!(restarted.lost, 0);
                    given_up += out;
                    bytes_lost = bytes_out - bytes_back;
                    sizes.drain(..restarted.places);
                    begin = 0;
                }
                _ => {}
            }
            let left = messages.left();
            prop_assert!(depth.is_none_or(|depth| left.out <= depth as u64));
            prop_assert_eq!(counted, started + left.queued);
            prop_assert_eq!(started, done + left.out + given_up);
            prop_assert!(bytes_back + bytes_lost <= bytes_out);
            prop_assert!(done_size <= bytes_back);
            let within_depth: u64 = sizes.iter().take(depth.unwrap_or(usize::MAX)).sum();
            let written = messages.write_position() - begin;
            prop_assert_eq!(messages.writable(), within_depth - written);
            let whole = sizes.iter().scan(0, |end, size| {
                *end += size;
                Some(*end)
            });
            let whole = whole.take_while(|&end| end <= written).count();
            prop_assert_eq!(messages.written_whole(), whole);
        }
    }
}
