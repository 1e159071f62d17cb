//! Whatever a server sends, each datagram ends in one place, and what it sends as a stream is compared
//! without a panic wherever it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::internal::{Arrival, DatagramsInFlight, Pattern, Payload, sequence_of};

fuzz_target!(|bytes: &[u8]| {
    let mut pattern = Pattern::Unknown;
    let (head, tail) = bytes.split_at(bytes.len() / 3);
    pattern.first_difference(0, head);
    pattern.first_difference(head.len() as u64, tail);

    let payload = Payload::new(1);
    let mut stream = payload.stream(0, 0);
    let mut datagrams = DatagramsInFlight::new(None);
    let (mut sent, mut done, mut lost) = (0, 0, 0);
    for (time, answer) in bytes.chunks(9).enumerate() {
        datagrams.push(time as u64, 64, true, true);
        sent += u64::from(datagrams.sent(time as u64).is_some());
        let Some(number) = sequence_of(answer) else {
            continue;
        };
        // Mostly near what was sent, and now and then anything.
        let sequence = if number % 4 == 0 {
            number
        } else {
            number % (sent + 1)
        };
        let difference = payload.datagram_difference(&mut stream, sequence, answer);
        assert!(difference.is_none_or(|index| index <= answer.len()));
        payload.is_content_of(&mut stream, sequence, answer);
        if let Arrival::Echo { .. } = datagrams.received(sequence) {
            done += 1;
        }
        if number % 16 == 1 {
            lost += datagrams.expire(time as u64 / 2).lost;
        }
        assert_eq!(sent, done + lost + datagrams.left().out);
    }
});
