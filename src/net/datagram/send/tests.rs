//! The sender against a scripted kernel.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A kernel that follows its script and then takes everything.
#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    /// Every datagram that it took or finally refused, in order.
    done: Vec<Vec<u8>>,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(usize),
    Fail(i32),
}

impl Transmit for Script {
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        let messages: Vec<_> = messages.take(MAX_MESSAGES).collect();
        let first = messages[0];
        match self.steps.pop_front().unwrap_or(Step::Take(MAX_MESSAGES)) {
            Step::Take(limit) => {
                let taken = messages.len().min(limit);
                for message in &messages[..taken] {
                    self.done.extend(datagrams(message));
                }
                Ok(taken)
            }
            Step::Fail(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                let goes_on = matches!(errno, libc::EAGAIN | libc::EINTR)
                    || first.is_aggregate() && is_refused_aggregate(&error);
                if !goes_on {
                    let refused = datagrams(&first);
                    self.refused += refused.len() as u64;
                    self.done.extend(refused);
                }
                Err(error)
            }
        }
    }
}

fn datagrams(message: &Message<'_>) -> Vec<Vec<u8>> {
    if message.payload.is_empty() {
        return vec![Vec::new()];
    }
    let parts = message.payload.chunks(message.segment_len);
    parts.map(<[u8]>::to_vec).collect()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..=MAX_MESSAGES).prop_map(Step::Take),
        prop::sample::select(vec![
            libc::EAGAIN,
            libc::EINTR,
            libc::EINVAL,
            libc::EMSGSIZE,
            libc::EIO,
            libc::EPERM,
            libc::ENETUNREACH,
        ])
        .prop_map(Step::Fail),
    ]
}

proptest! {
    #[test]
    fn every_datagram_is_sent_once_and_in_order_or_counted_as_failed(
        answers in prop::collection::vec((0_usize..200, 1_usize..50), 0..MAX_MESSAGES),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut number = 0_u32;
        let answers: Vec<(Vec<u8>, usize)> = answers
            .into_iter()
            .map(|(len, segment_len)| {
                // Every byte differs from its neighbours, so that a change of order shows.
                let payload = (0..len).map(|_| {
                    number += 1;
                    number as u8
                });
                (payload.collect(), segment_len)
            })
            .collect();
        let address = RawAddress::default();
        let message = |number: usize| Message {
            to: &address,
            from: None,
            payload: &answers[number].0,
            segment_len: answers[number].1,
        };
        let mut kernel = Script { steps: steps.into(), ..Script::default() };
        let mut counts = SendCounts::default();
        let mut cursor = Cursor::default();
        // Each EAGAIN of the script takes one more call.
        while cursor.send(answers.len(), message, &mut kernel, &mut counts) == Progress::Blocked {
            prop_assert!(cursor.next < answers.len());
        }
        let expected: Vec<_> = (0..answers.len()).flat_map(|i| datagrams(&message(i))).collect();
        let bytes = expected.iter().map(Vec::len).sum::<usize>() as u64;
        prop_assert_eq!(counts.failed_datagrams, kernel.refused);
        prop_assert_eq!(counts.sent_datagrams, expected.len() as u64 - kernel.refused);
        prop_assert!(counts.sent_bytes <= bytes);
        prop_assert!(kernel.refused > 0 || counts.sent_bytes == bytes);
        prop_assert_eq!(kernel.done, expected);
    }
}
