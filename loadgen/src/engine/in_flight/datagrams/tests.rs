//! Outcomes of datagrams: each counted one has exactly one.

use super::*;
use proptest::prelude::*;

/// A second echo that comes so late that nothing is known of the first.
const FORGOTTEN: Arrival = Arrival::Duplicate {
    counted: false,
    size: None,
};

/// Queues and sends `count` datagrams, one each nanosecond.
fn send(datagrams: &mut DatagramsInFlight, count: u64) {
    for time in 0..count {
        datagrams.push(time, 64, true, true);
        datagrams.sent(time).unwrap();
    }
}

#[test]
fn arrivals_are_told_apart() {
    let mut datagrams = DatagramsInFlight::new(None);
    send(&mut datagrams, 4);
    let echo = |intended, reordered| Arrival::Echo {
        done: Done {
            intended,
            write_began: intended,
            size: 64,
            counted: true,
        },
        reordered,
    };
    let (twice, late) = (
        Arrival::Duplicate {
            counted: true,
            size: Some(64),
        },
        Arrival::Late {
            counted: true,
            size: 64,
        },
    );
    assert_eq!(datagrams.received(1), echo(1, false));
    assert_eq!(datagrams.received(0), echo(0, true));
    assert_eq!(datagrams.received(1), twice);
    assert_eq!(datagrams.received(4), Arrival::Stray);
    let unanswered = datagrams.expire(2);
    assert_eq!((unanswered.places, unanswered.lost), (1, 1));
    assert_eq!(datagrams.received(2), late);
    assert_eq!(datagrams.received(2), twice);
    assert_eq!(datagrams.received(3), echo(3, false));
    assert!(datagrams.is_empty());
    assert_eq!(datagrams.oldest_write(), None);
}

#[test]
fn depth_counts_what_is_out_wherever_it_is_in_the_order() {
    let mut datagrams = DatagramsInFlight::new(Some(2));
    for time in 0..3 {
        let held = datagrams.push(time, 64, true, true);
        assert_eq!(held, time == 2);
    }
    datagrams.sent(10).unwrap();
    datagrams.sent(11).unwrap();
    assert_eq!(datagrams.next(), None);
    datagrams.received(1);
    assert_eq!(datagrams.next().unwrap().sequence, 2);
    assert!(datagrams.sent(12).unwrap().held);
    assert_eq!(datagrams.oldest_write(), Some(10));
}

#[test]
fn the_memory_of_what_is_settled_is_bounded() {
    let mut datagrams = DatagramsInFlight::new(None);
    for sequence in 0..10 * HISTORY as u64 {
        datagrams.push(sequence, 64, true, true);
        datagrams.sent(sequence).unwrap();
        datagrams.received(sequence);
    }
    assert!(datagrams.slots.len() <= HISTORY + 1);
    assert_eq!(datagrams.received(0), FORGOTTEN);
}

#[test]
fn one_that_was_given_up_is_late_however_many_were_settled_since() {
    let mut datagrams = DatagramsInFlight::new(None);
    let count = 3 * (HISTORY + GIVEN_UP) as u64;
    // Every second one is lost.
    for sequence in 0..count {
        datagrams.push(sequence, 64, true, true);
        datagrams.sent(sequence).unwrap();
        if sequence % 2 == 0 {
            datagrams.received(sequence);
        }
    }
    assert_eq!(datagrams.expire(count).lost, count / 2);
    let late = Arrival::Late {
        counted: true,
        size: 64,
    };
    let duplicate = FORGOTTEN;
    let newest = count - 1;
    assert_eq!(datagrams.received(newest), late);
    let remembered = newest - (HISTORY + GIVEN_UP) as u64;
    assert_eq!(datagrams.received(remembered), late);
    assert_eq!(datagrams.received(remembered), duplicate);
    assert_eq!(datagrams.received(remembered - 1), duplicate);
    // The memory of them is bounded too.
    assert!(datagrams.given_up.len() <= GIVEN_UP);
    assert_eq!(datagrams.received(1), duplicate);
}

#[test]
fn only_the_first_wrong_copy_of_a_message_that_came_in_time_counts() {
    let mut datagrams = DatagramsInFlight::new(None);
    send(&mut datagrams, 3);
    datagrams.received(0);
    assert!(datagrams.note_wrong(0));
    assert!(!datagrams.note_wrong(0), "it is counted already");
    datagrams.expire(1);
    datagrams.received(1);
    assert!(!datagrams.note_wrong(1), "it was lost");
    assert!(!datagrams.note_wrong(2), "it is out");
    assert!(!datagrams.note_wrong(3), "it was not sent");
    let remembered: Vec<u64> = datagrams.remembered().map(|next| next.sequence).collect();
    assert_eq!(remembered, [0, 1, 2]);
}

proptest! {
    /// Whatever is sent, echoed, duplicated, reordered and given up, each counted datagram has
    /// exactly one outcome.
    #[test]
    fn every_counted_datagram_ends_in_one_place(
        depth in prop::option::of(1_usize..8),
        warm_up in 0_u64..10,
        steps in prop::collection::vec((0_u8..5, any::<prop::sample::Index>()), 0..300),
    ) {
        let mut datagrams = DatagramsInFlight::new(depth);
        let (mut pushed, mut counted, mut sent, mut done, mut lost) = (0, 0, 0, 0, 0);
        let mut numbers = 0_usize;
        for (time, (step, index)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    datagrams.push(pushed, 64, true, pushed >= warm_up);
                    counted += u64::from(pushed >= warm_up);
                    pushed += 1;
                }
                2 if datagrams.next().is_some() => {
                    sent += u64::from(datagrams.sent(time as u64).unwrap().counted);
                    numbers += 1;
                }
                3 if numbers > 0 => {
                    if let Arrival::Echo { done: message, .. } =
                        datagrams.received(index.index(numbers) as u64)
                    {
                        done += u64::from(message.counted);
                    }
                }
                4 if time % 7 == 0 => lost += datagrams.expire(time as u64 / 2).lost,
                _ => {}
            }
            let left = datagrams.left();
            prop_assert!(depth.is_none_or(|depth| left.out <= depth as u64));
            prop_assert_eq!(counted, sent + left.queued);
            prop_assert_eq!(sent, done + lost + left.out);
            let is_out = datagrams.slots.iter().find(|slot| slot.state == State::Out);
            prop_assert_eq!(datagrams.oldest_write(), is_out.map(|slot| slot.began));
        }
    }
}
