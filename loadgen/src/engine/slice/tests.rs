//! Slices add up to the recorded samples.

use super::*;
use proptest::prelude::*;

const DONE: Done = Done {
    intended: 1_000,
    write_began: 4_000,
    size: 64,
    counted: true,
};

fn sum_of<'a>(parts: impl IntoIterator<Item = &'a Slice<BucketCounts>>) -> Slice {
    let mut sum = Slice::new();
    for part in parts {
        sum += part;
    }
    sum
}

#[test]
fn response_and_service_time_begin_at_their_own_moments() {
    let mut slice = Slice::<BucketCounts>::new();
    slice.record_latency(&DONE, 9_000, true);
    let slice = sum_of([&slice]);
    assert_eq!(
        slice.response.max(),
        slice.response.highest_equivalent(8_000)
    );
    assert_eq!(slice.service.max(), slice.service.highest_equivalent(5_000));
}

#[test]
fn lag_is_ours_until_the_connection_holds_the_message() {
    let mut slice = Slice::<BucketCounts>::new();
    for held in [false, true] {
        let sent = Sent {
            intended: 1_000,
            held,
            counted: true,
        };
        slice.record_sent(sent, 3_000, true);
    }
    slice.record_held(1_000, 1_500);
    let slice = sum_of([&slice]);
    assert_eq!(slice.send_lag().len(), 2);
    assert_eq!(slice.send_lag().min(), 2_000);
    assert_eq!(slice.own_send_lag().len(), 2);
    assert_eq!(slice.own_send_lag().min(), 500);
}

#[test]
fn a_message_of_the_warm_up_counts_only_when_corrupt() {
    let mut slice = Slice::<BucketCounts>::new();
    slice.record_contents(false, Contents::Right);
    slice.record_contents(true, Contents::Unknown);
    assert!(slice.is_empty());
    slice.record_contents(false, Contents::Wrong);
    slice.record_contents(true, Contents::Wrong);
    slice.record_contents(true, Contents::Right);
    let counts = &slice.counts;
    let all = (counts.corrupt_in_warm_up, counts.corrupt, counts.verified);
    assert_eq!(all, (1, 1, 1));
}

#[test]
fn an_hour_and_more_is_an_hour() {
    let mut slice = Slice::<BucketCounts>::new();
    slice.record_latency(&DONE, u64::MAX, true);
    assert!(sum_of([&slice]).service.max() >= 3_600_000_000_000);
    slice.clear();
    assert!(slice.is_empty() && slice.service.is_empty());
}

proptest! {
    #[test]
    fn slices_add_up_to_what_one_slice_would_have_recorded(
        samples in prop::collection::vec((0_usize..3, 1_000_u64..10_000_000_000), 0..200),
    ) {
        let mut parts: [Slice<BucketCounts>; 3] = Default::default();
        let mut whole = Slice::<BucketCounts>::new();
        for (part, now) in samples {
            parts[part].record_latency(&DONE, now, true);
            parts[part].counts.received += 1;
            whole.record_latency(&DONE, now, true);
            whole.counts.received += 1;
        }
        let mut sum = sum_of(&parts);
        let whole = sum_of([&whole]);
        prop_assert_eq!(sum.counts, whole.counts);
        prop_assert_eq!(&sum.response, &whole.response);
        prop_assert_eq!(&sum.service, &whole.service);
        sum += &whole;
        prop_assert_eq!(sum.service.len(), 2 * whole.service.len());
    }
}
