//! Where the messages of a connection end up, whatever happens to it.

use super::*;
use proptest::prelude::*;

fn sent(messages: &mut Messages, count: u64, began: u64) -> Vec<u64> {
    let mut times = Vec::new();
    messages.wrote(count, began, |sent| times.push(sent.intended));
    times
}

#[test]
fn a_message_is_out_with_its_first_byte_and_done_with_its_last() {
    let mut messages = Messages::new(None);
    messages.push(5, 10, true, true);
    messages.push(6, 10, true, true);
    assert_eq!(messages.writable(), 20);
    assert_eq!(sent(&mut messages, 10, 100), [5]);
    assert_eq!(sent(&mut messages, 1, 101), [6]);
    assert!(sent(&mut messages, 9, 102).is_empty());
    assert_eq!(messages.missing(), 10);
    assert_eq!(messages.received(9, true), None);
    assert_eq!(
        messages.received(1, true),
        Some(Done {
            intended: 5,
            write_began: 100,
            intact: true,
            counted: true
        })
    );
    assert_eq!(messages.received(4, false), None);
    let done = messages.received(6, true).unwrap();
    assert_eq!((done.write_began, done.intact), (101, false));
    assert_eq!(messages.missing(), 0);
    assert!(messages.is_empty());
}

#[test]
fn depth_holds_messages_back() {
    let mut messages = Messages::new(Some(1));
    messages.push(1, 4, true, true);
    messages.push(2, 4, true, true);
    assert_eq!(messages.writable(), 4);
    let mut held = Vec::new();
    messages.wrote(4, 10, |sent| held.push(sent.held));
    assert_eq!(messages.writable(), 0);
    messages.received(4, true).unwrap();
    assert_eq!(messages.writable(), 4);
    messages.wrote(4, 20, |sent| held.push(sent.held));
    assert_eq!(held, [false, true]);
}

#[test]
fn messages_are_held_once_and_only_if_the_connection_makes_them_wait() {
    let mut messages = Messages::new(None);
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
    let mut messages = Messages::new(None);
    for (intended, counted) in [(1, false), (2, true), (3, true), (4, true)] {
        messages.push(intended, 4, true, counted);
    }
    messages.wrote(8, 100, |_| ());
    messages.wrote(4, 200, |_| ());
    let abandoned = messages.restart(150);
    assert_eq!(
        abandoned,
        Abandoned {
            places: 3,
            timed_out: 1,
            lost: 1
        }
    );
    assert_eq!(
        (messages.left(), messages.writable()),
        (Left { out: 0, queued: 1 }, 4)
    );
    assert_eq!(sent(&mut messages, 4, 300), [4]);
    assert_eq!(messages.oldest_write(), Some(300));
}

/// What a turn comes to, step by step.
fn turn_in_steps(messages: &mut Messages, now: u64, size: u32) -> u64 {
    let done = messages.received(messages.sole(), true).unwrap();
    assert!(done.intact && done.counted);
    assert!(!messages.push(now, size, true, true));
    let counted = messages.wrote(size.into(), now, |sent| {
        assert_eq!((sent.intended, sent.held, sent.counted), (now, false, true));
    });
    assert_eq!(counted, u64::from(size));
    now - done.write_began
}

proptest! {
    /// Whatever went before, and whenever a message is alone and out.
    #[test]
    fn a_turn_is_the_same_in_one_step_and_in_many(
        depth in prop::option::of(1_usize..4),
        warm_up in 0_u64..4,
        steps in prop::collection::vec((0_u8..5, 1_u64..20), 0..100),
    ) {
        let mut messages = Messages::new(depth);
        let mut pushed = 0;
        for (time, (step, amount)) in steps.into_iter().enumerate() {
            let now = time as u64;
            match step {
                0 => {
                    messages.push(now, amount as u32, true, pushed >= warm_up);
                    pushed += 1;
                }
                1 => {
                    let count = amount.min(messages.writable());
                    messages.wrote(count, now, |_| ());
                }
                2 => {
                    let count = amount.min(messages.in_flight()).min(messages.missing());
                    messages.received(count, amount != 7);
                }
                3 if amount == 1 => {
                    messages.restart(0);
                }
                _ => {}
            }
            if messages.sole() > 0 {
                let only = Left { out: 1, queued: 0 };
                prop_assert_eq!((messages.len(), messages.left()), (1, only));
                prop_assert_eq!(messages.sole(), messages.in_flight());
                prop_assert_eq!(messages.sole(), messages.missing());
                prop_assert_eq!(messages.writable(), 0);
            }
            if messages.sole() > 0 && step == 4 {
                let mut stepwise = messages.clone();
                let took = turn_in_steps(&mut stepwise, now, amount as u32);
                prop_assert_eq!(messages.turn_sole(now, amount as u32), took);
                prop_assert_eq!(&messages, &stepwise);
            }
        }
    }

    /// Whatever is pushed, written, received and restarted: each counted message ends in
    /// exactly one place, bytes that count are those of counted messages, and what may be
    /// written is what lies within the depth.
    #[test]
    fn the_books_balance(
        depth in prop::option::of(1_usize..4),
        warm_up in 0_u64..10,
        steps in prop::collection::vec((0_u8..4, 1_u64..20), 0..200),
    ) {
        let mut messages = Messages::new(depth);
        let mut sizes = VecDeque::new();
        let (mut pushed, mut counted, mut started, mut done, mut given_up) = (0, 0, 0, 0, 0);
        let (mut bytes_out, mut bytes_back, mut bytes_lost) = (0, 0, 0);
        let mut done_size = 0;
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
                    let count = amount.min(messages.in_flight()).min(messages.missing());
                    bytes_back += messages.counted_bytes(count);
                    if let Some(message) = messages.received(count, true) {
                        done += u64::from(message.counted);
                        let size = sizes.pop_front().unwrap();
                        done_size += if message.counted { size } else { 0 };
                    }
                }
                _ if amount == 1 => {
                    let out = messages.left().out;
                    let abandoned = messages.restart(time as u64 / 2);
                    prop_assert_eq!(abandoned.lost + abandoned.timed_out, out);
                    given_up += out;
                    bytes_lost = bytes_out - bytes_back;
                    sizes.drain(..abandoned.places);
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
            let behind_the_oldest = messages.write_position() - messages.oldest_begin;
            prop_assert_eq!(messages.writable(), within_depth - behind_the_oldest);
        }
    }
}
