//! A profile as text: `5k`, `1k..10k`, `1k@10s,0@5s,2k..5k@20s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use echomark::net::units;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::error::{MAX_PIECES, Problem, ProfileError, check_rate};
use super::rate::{Piece, Profile};

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let texts: Vec<_> = text.split(',').map(str::trim).collect();
        if texts.len() > MAX_PIECES {
            return Err(ProfileError::of_the_whole(Problem::TooManyPieces));
        }
        let fail = |index: usize, problem| ProfileError {
            piece: (texts.len() > 1).then(|| (index + 1, texts[index].to_owned())),
            problem,
        };
        let mut pieces = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            pieces.push(parse_piece(text).map_err(|problem| fail(index, problem))?);
        }
        let without_length = pieces.iter().position(|piece| piece.length.is_none());
        if let Some(index) = without_length
            && pieces.iter().any(|piece| piece.length.is_some())
        {
            return Err(fail(index, Problem::LengthMissing));
        }
        Self::new(pieces)
    }
}

fn parse_piece(text: &str) -> Result<Piece, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    let (rates, length) = match text.split_once('@') {
        Some((rates, length)) => (rates, Some(length)),
        None => (text, None),
    };
    let length = length
        .map(|length| match units::parse_duration(length) {
            Ok(Duration::ZERO) => Err(Problem::NoLength),
            length => length.map_err(Problem::Unit),
        })
        .transpose()?;
    let (from, to) = match rates.split_once("..") {
        Some((from, to)) => match (parse_rate(from)?, parse_rate(to)?) {
            (0.0, 0.0) => return Err(Problem::RampOfNothing),
            ends => ends,
        },
        None => {
            let rate = parse_rate(rates)?;
            (rate, rate)
        }
    };
    Ok(Piece { from, to, length })
}

/// Reads a rate that may be 0.
fn parse_rate(text: &str) -> Result<f64, Problem> {
    match units::parse_rate(text).map_err(Problem::Unit)? {
        0.0 => Ok(0.0),
        rate => check_rate(rate),
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write_rate(piece.from, f)?;
            if piece.to != piece.from {
                f.write_str("..")?;
                write_rate(piece.to, f)?;
            }
            if let Some(length) = piece.length {
                write!(f, "@{}", units::format_duration(length))?;
            }
        }
        Ok(())
    }
}

/// Writes a rate exactly, with the largest suffix that divides it.
fn write_rate(rate: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let suffixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match suffixes.iter().find(|(scale, _)| rate % scale == 0.0) {
        Some((scale, suffix)) if rate > 0.0 => write!(f, "{}{suffix}", rate / scale),
        _ => write!(f, "{rate}"),
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.constant_rate() {
            Some(rate) => serializer.serialize_f64(rate),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Profile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate per second, as a number or a text such as 1k..10k")
    }

    fn visit_f64<E: serde::de::Error>(self, rate: f64) -> Result<Profile, E> {
        Profile::constant(rate).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, rate: u64) -> Result<Profile, E> {
        self.visit_f64(rate as f64)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Profile, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::MAX_RATE;
    use proptest::prelude::*;

    fn profile(text: &str) -> Profile {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_error_names_the_piece_and_the_way_out() {
        for (text, parts) in [
            ("", &["no rate", "1k..10k"][..]),
            ("1k,,2k", &["piece 2, ``", "no rate"]),
            ("1k@1s,abc@5s", &["piece 2, `abc@5s`: `abc`", "10k"]),
            ("1k..2x,3k", &["piece 1, `1k..2x`: `2x`", "unit"]),
            ("1k@1s,2k@", &["piece 2, `2k@`", "duration"]),
            ("1k@1s,2k@5", &["piece 2, `2k@5`: `5`", "10s"]),
            ("1k@0s", &["longer than 0"]),
            ("1k@1s,2k,3k@1s", &["piece 2, `2k`", "length", "1k@10s"]),
            ("1k,0..0", &["piece 2, `0..0`", "more than 0", "pause"]),
            ("2G", &["at most 1G"]),
            ("1k,1k..1.1G", &["piece 2, `1k..1.1G`", "at most 1G"]),
            ("0", &["more than 0"]),
            ("0@1s,0@2s", &["more than 0"]),
            ("1k..2k..3k", &["`2k..3k`"]),
            ("-1k", &["`-1k`"]),
            (&"1,".repeat(2000), &["at most 1000"]),
        ] {
            let error = text.parse::<Profile>().unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{text}: {part:?} is not in {error}");
            }
        }
        for rate in [0.0, -1.0, f64::NAN, 2e9] {
            assert!(Profile::constant(rate).is_err(), "{rate}");
        }
    }

    #[test]
    fn a_constant_is_stored_as_a_number_and_all_else_as_text() {
        for (text, json) in [
            ("5k", "5000.0"),
            ("0.5", "0.5"),
            ("5k@10s", r#""5k@10s""#),
            ("1000 .. 1.5k, 2M", r#""1k..1500,2M""#),
        ] {
            let profile = profile(text);
            assert_eq!(serde_json::to_string(&profile).unwrap(), json);
            assert_eq!(serde_json::from_str::<Profile>(json).unwrap(), profile);
        }
        assert_eq!(
            serde_json::from_str::<Profile>("5000").unwrap(),
            profile("5k")
        );
        for json in ["0", "-1", "true", r#""1k.."#, r#""""#] {
            assert!(serde_json::from_str::<Profile>(json).is_err(), "{json}");
        }
    }

    fn any_rate() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(0.0),
            f64::MIN_POSITIVE..=MAX_RATE,
            (0_u32..=1_000_000).prop_map(f64::from),
            (0_u32..=1000).prop_map(|thousands| f64::from(thousands) * 1e6),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            pieces in prop::collection::vec((any_rate(), any_rate(), 1..1_u64 << 53), 1..6),
            is_timed in any::<bool>(),
        ) {
            let pieces = pieces
                .into_iter()
                .map(|(from, to, length)| Piece {
                    from,
                    to,
                    length: is_timed.then(|| Duration::from_nanos(length)),
                })
                .collect();
            if let Ok(profile) = Profile::new(pieces) {
                let text = profile.to_string();
                prop_assert_eq!(text.parse(), Ok(profile.clone()), "{}", text);
                let json = serde_json::to_string(&profile).unwrap();
                prop_assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9kMG.,@s \\PC]{0,16}") {
            if let Ok(profile) = text.parse::<Profile>() {
                prop_assert_eq!(profile.to_string().parse(), Ok(profile));
            }
        }
    }
}
