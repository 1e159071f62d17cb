//! How large messages are: all alike, or drawn from a distribution.

use std::fmt;
use std::str::FromStr;

use echomark::net::units;
use rand_xoshiro::rand_core::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::TextError;

/// Maximum size of a message: several of larger ones on many connections would not fit into memory.
pub const MAX_MESSAGE: u32 = 64 << 20;
/// Minimum size of a datagram: its sequence number.
pub const MIN_DATAGRAM: u32 = size_of::<u64>() as u32;
/// Maximum number of sizes in a mix.
const MAX_PARTS: usize = 64;

/// The sizes of a run's messages, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// `64`: all alike.
    Fixed(u32),
    /// `uniform:64-1500`: each size from the first to the last is as likely.
    Uniform {
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// `mix:64=90,1500=10`: some sizes, each with its weight.
    Mix(Vec<Part>),
}

/// One size of a mix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// In bytes.
    pub size: u32,
    /// How often it is drawn, beside the other weights.
    pub weight: u32,
}

impl Sizes {
    /// The size of all messages, if they are alike.
    pub fn fixed(&self) -> Option<u32> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Uniform { .. } | Self::Mix(_) => None,
        }
    }

    /// Draws the size of one message.
    #[inline]
    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Fixed(size) => *size,
            _ => self.draw_at_random(rng),
        }
    }

    fn draw_at_random(&self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { least, most } => least + below(rng, u64::from(most - least) + 1) as u32,
            Self::Mix(parts) => {
                let total: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
                let mut at = below(rng, total);
                for part in parts {
                    match at.checked_sub(u64::from(part.weight)) {
                        Some(rest) => at = rest,
                        None => return part.size,
                    }
                }
                self.most()
            }
        }
    }

    /// The smallest size that is drawn.
    pub fn least(&self) -> u32 {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { least, .. } => *least,
            Self::Mix(parts) => parts.iter().map(|part| part.size).min().unwrap_or(1),
        }
    }

    /// The largest size that is drawn.
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { most, .. } => *most,
            Self::Mix(parts) => parts.iter().map(|part| part.size).max().unwrap_or(1),
        }
    }
}

/// A uniform number below `bound`: a multiplication instead of a division, with a bias below 2^-32
/// for any bound here (Lemire, "Fast random integer generation in an interval", ACM TOMACS 2019).
fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

impl FromStr for Sizes {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(range) = text.strip_prefix("uniform:") {
            let (least, most) = range
                .split_once('-')
                .ok_or("write the smallest and the largest size, as in uniform:64-1500")?;
            let (least, most) = (size(least)?, size(most)?);
            if least > most {
                let problem = format!("{least} is more than {most}; the smallest comes first");
                return Err(problem.into());
            }
            return Ok(Self::Uniform { least, most });
        }
        if let Some(parts) = text.strip_prefix("mix:") {
            let parts: Vec<Part> = parts.split(',').map(part).collect::<Result<_, _>>()?;
            if parts.len() > MAX_PARTS {
                return Err(format!("a mix has at most {MAX_PARTS} sizes").into());
            }
            return Ok(Self::Mix(parts));
        }
        Ok(size(text).map(Self::Fixed)?)
    }
}

fn part(text: &str) -> Result<Part, String> {
    let (bytes, weight) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` has no weight; write sizes with weights, as in mix:64=90,1500=10")
    })?;
    match weight.trim().parse() {
        Ok(0) | Err(_) => Err(format!(
            "`{weight}` is not a weight; write a whole number above 0"
        )),
        Ok(weight) => Ok(Part {
            size: size(bytes)?,
            weight,
        }),
    }
}

fn size(text: &str) -> Result<u32, String> {
    match units::parse_size(text.trim()).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1".to_owned()),
        bytes => match u32::try_from(bytes) {
            Ok(bytes) if bytes <= MAX_MESSAGE => Ok(bytes),
            _ => Err(format!(
                "must be at most {}",
                units::format_size(MAX_MESSAGE.into())
            )),
        },
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{}", units::format_size((*size).into())),
            Self::Uniform { least, most } => write!(f, "uniform:{least}-{most}"),
            Self::Mix(parts) => {
                for (index, Part { size, weight }) in parts.iter().enumerate() {
                    let before = if index == 0 { "mix:" } else { "," };
                    write!(f, "{before}{size}={weight}")?;
                }
                Ok(())
            }
        }
    }
}

/// A number where all are alike, else the text that a user would write.
impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => serializer.serialize_u32(*size),
            Self::Uniform { .. } | Self::Mix(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(size) => Ok(Self::Fixed(size)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn draws(text: &str) -> Vec<u32> {
        let sizes: Sizes = text.parse().unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        (0..100_000).map(|_| sizes.draw(&mut rng)).collect()
    }

    fn share(draws: &[u32], size: u32) -> f64 {
        draws.iter().filter(|&&drawn| drawn == size).count() as f64 / draws.len() as f64
    }

    #[test]
    fn sizes_are_drawn_as_often_as_they_should() {
        assert!(draws("64").iter().all(|&size| size == 64));
        let mix = draws("mix:64=90,1500=10");
        assert!((share(&mix, 64) - 0.9).abs() < 0.005);
        assert!((share(&mix, 1500) - 0.1).abs() < 0.005);
        let uniform = draws("uniform:10-14");
        for size in 10..=14 {
            assert!((share(&uniform, size) - 0.2).abs() < 0.006, "{size}");
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_what_would_do() {
        for (text, part) in [
            ("0", "at least 1"),
            ("65MiB", "at most 64MiB"),
            ("uniform:64", "uniform:64-1500"),
            ("uniform:9-8", "smallest comes first"),
            ("mix:64", "mix:64=90,1500=10"),
            ("mix:64=0", "whole number above 0"),
            ("mix:", "no weight"),
            ("gauss:1", "gauss"),
        ] {
            let error = text.parse::<Sizes>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_distribution_reads_back_and_draws_within_its_bounds(
            bounds in prop::collection::vec((1_u32..100_000, 1_u32..1000), 1..10),
            kind in 0..3,
            seed in any::<u64>(),
        ) {
            let (a, b) = (bounds[0].0, bounds[bounds.len() - 1].0);
            let sizes = match kind {
                0 => Sizes::Fixed(a),
                1 => Sizes::Uniform { least: a.min(b), most: a.max(b) },
                _ => Sizes::Mix(
                    bounds.iter().map(|&(size, weight)| Part { size, weight }).collect(),
                ),
            };
            prop_assert_eq!(&sizes.to_string().parse::<Sizes>().unwrap(), &sizes);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let drawn = sizes.draw(&mut rng);
            prop_assert!((sizes.least()..=sizes.most()).contains(&drawn));
        }
    }
}
