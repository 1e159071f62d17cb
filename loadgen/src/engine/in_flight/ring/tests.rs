//! An element is found by its number, however often the ring grew and wrapped around.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_element_keeps_its_number(steps in prop::collection::vec((0_usize..8, 0_usize..8), 0..50)) {
        let mut ring = Ring::new();
        let (mut first, mut end) = (0, 0);
        for (pushed, removed) in steps {
            for _ in 0..pushed {
                ring.push(end);
                end += 1;
            }
            first = end.min(first + removed);
            ring.remove_before(first);
            prop_assert_eq!((ring.first(), ring.end()), (first, end));
            for number in first..end {
                prop_assert_eq!(ring[number], number);
            }
        }
    }
}
