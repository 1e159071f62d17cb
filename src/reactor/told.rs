//! Which refusals are told in the log: of each reason one, and then none for a while, so that a
//! flood of connections is no flood of lines.

/// The time after a line in which further events of its reason are only counted.
const QUIET_MS: u64 = 10_000;

/// What one worker has told and left out, for each of `N` reasons.
#[derive(Debug)]
pub(super) struct Told<const N: usize> {
    reasons: [Reason; N],
}

#[derive(Clone, Copy, Debug, Default)]
struct Reason {
    told_at_ms: Option<u64>,
    left_out: u64,
}

impl<const N: usize> Default for Told<N> {
    fn default() -> Self {
        Self {
            reasons: [Reason::default(); N],
        }
    }
}

impl<const N: usize> Told<N> {
    /// Whether to tell an event: `Some` with the number of earlier ones that were left out.
    pub(super) fn note(&mut self, reason: usize, now_ms: u64) -> Option<u64> {
        let Reason {
            told_at_ms,
            left_out,
        } = &mut self.reasons[reason];
        if told_at_ms.is_some_and(|at| now_ms.saturating_sub(at) < QUIET_MS) {
            *left_out += 1;
            return None;
        }
        *told_at_ms = Some(now_ms);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_with_its_number_and_each_reason_has_its_own() {
        let mut told = Told::<2>::default();
        assert_eq!(told.note(0, 5), Some(0));
        for now_ms in [5, 6, 5 + QUIET_MS - 1] {
            assert_eq!(told.note(0, now_ms), None);
        }
        assert_eq!(told.note(1, 7), Some(0));
        assert_eq!(told.note(0, 5 + QUIET_MS), Some(3));
        assert_eq!(told.note(0, 6 + QUIET_MS), None);
    }
}
