//! Presets of a goal's terms.

use std::str::FromStr;
use std::time::Duration;

use crate::result::search::Terms;
use crate::text::TextError;

/// A consistent set of terms.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// Trials of one second. The objectives must hold in half of the time.
    #[default]
    Quick,
    /// Trials of five seconds and a higher precision.
    Thorough,
    /// One trial of a minute decides, as RFC 2544, section 24, requires. Nothing is repeated, so
    /// chance is not excluded.
    Rfc2544,
}

impl Preset {
    /// The terms of the preset.
    pub fn terms(self) -> Terms {
        let terms = |initial_ms, final_ms, sum_ms, exceed_ratio, precision| Terms {
            initial_trial: Duration::from_millis(initial_ms),
            final_trial: Duration::from_millis(final_ms),
            duration_sum: Duration::from_millis(sum_ms),
            exceed_ratio,
            precision,
        };
        match self {
            Self::Quick => terms(500, 1_000, 5_000, 0.5, 0.05),
            Self::Thorough => terms(1_000, 5_000, 25_000, 0.5, 0.02),
            Self::Rfc2544 => terms(1_000, 60_000, 60_000, 0.0, 0.01),
        }
    }
}

impl Terms {
    /// Checks the terms for contradictions.
    ///
    /// # Errors
    /// One line for the user.
    pub fn check(&self) -> Result<(), String> {
        if self.initial_trial.is_zero() || self.initial_trial > self.final_trial {
            Err("the first trials must not be longer than the last ones, nor empty".to_owned())
        } else if self.final_trial > self.duration_sum {
            Err("the duration sum must hold one of the last trials at least".to_owned())
        } else if !(self.exceed_ratio >= 0.0 && self.exceed_ratio < 1.0) {
            Err("the exceed ratio must be at least 0 and below 100%".to_owned())
        } else if !(self.precision > 0.0 && self.precision < 1.0) {
            Err("the precision must lie between 0 and 100%".to_owned())
        } else {
            Ok(())
        }
    }
}

impl FromStr for Preset {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "quick" => Ok(Self::Quick),
            "thorough" => Ok(Self::Thorough),
            "rfc2544" => Ok(Self::Rfc2544),
            _ => Err("must be quick, thorough or rfc2544".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_do_not_contradict_themselves() {
        for text in ["quick", "thorough", "rfc2544"] {
            let terms = text.parse::<Preset>().expect("exists").terms();
            assert_eq!(terms.check(), Ok(()), "{text}");
        }
        let quick = Preset::Quick.terms();
        let is_refused = |terms: Terms| terms.check().is_err();
        assert!(is_refused(Terms {
            precision: 0.0,
            ..quick
        }));
        assert!(is_refused(Terms {
            exceed_ratio: 1.0,
            ..quick
        }));
        assert!(is_refused(Terms {
            duration_sum: Duration::from_millis(1),
            ..quick
        }));
        assert!(is_refused(Terms {
            initial_trial: Duration::from_secs(9),
            ..quick
        }));
    }
}
