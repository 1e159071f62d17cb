//! Faults as text: `NAME=VALUE` joined by `&`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::{Distribution, Faults, Ratio, Stall};
use crate::net::units::{format_duration, parse_count, parse_duration};

/// The longest delay, and the longest computing. A worker does nothing else while it computes.
const MAX_DELAY: Duration = Duration::from_secs(3600);
const MAX_WORK: Duration = Duration::from_secs(1);
/// The most times of a mix.
const MAX_TIMES: usize = 64;

/// Options that could not be read: which one, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FaultsError {
    option: String,
    problem: String,
}

impl fmt::Display for FaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, problem } = self;
        write!(f, "`{option}` is not an option of an endpoint: {problem}")
    }
}

impl std::error::Error for FaultsError {}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::default();
        for option in text.split('&') {
            faults.set(option).map_err(|problem| FaultsError {
                option: option.to_owned(),
                problem,
            })?;
        }
        Ok(faults)
    }
}

impl Faults {
    fn set(&mut self, option: &str) -> Result<(), String> {
        const NAMES: &str = "delay, work, drop, duplicate, reorder, corrupt, reset, close-after, \
                             stall and seed";
        let Some((name, value)) = option.split_once('=') else {
            return Err(format!("write NAME=VALUE; there are {NAMES}"));
        };
        match name {
            "delay" => once(&mut self.delay, distribution(value, MAX_DELAY)),
            "work" => once(&mut self.work, distribution(value, MAX_WORK)),
            "drop" => once(&mut self.drop, ratio(value)),
            "duplicate" => once(&mut self.duplicate, ratio(value)),
            "reorder" => once(&mut self.reorder, ratio(value)),
            "corrupt" => once(&mut self.corrupt, ratio(value)),
            "reset" => once(&mut self.reset, ratio(value)),
            "close-after" => once(&mut self.close_after, messages(value)),
            "stall" => once(&mut self.stall, stall(value)),
            "seed" => once(&mut self.seed, seed(value)),
            _ => Err(format!("there are {NAMES}")),
        }
    }
}

fn once<T>(field: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    match field.replace(value?) {
        None => Ok(()),
        Some(_) => Err("it is given twice".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// `5ms`, `uniform:1ms-5ms`, `exp:1ms`, `normal:5ms,1ms` or `mix:1ms=90,20ms=10`.
fn distribution(text: &str, max: Duration) -> Result<Distribution, String> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, rest),
        None => ("", text),
    };
    let pair = |separator, form: &str| {
        let pair = rest.split_once(separator);
        pair.ok_or_else(|| format!("write for example {form}"))
    };
    let distribution = match kind {
        "" => Distribution::Constant(duration(rest)?),
        "uniform" => {
            let (min, max) = pair('-', "uniform:1ms-5ms")?;
            let (min, max) = (duration(min)?, duration(max)?);
            if min > max {
                return Err("the shorter time comes first".to_owned());
            }
            Distribution::Uniform { min, max }
        }
        "exp" => Distribution::Exponential {
            mean: duration(rest)?,
        },
        "normal" => {
            let (mean, deviation) = pair(',', "normal:5ms,1ms")?;
            Distribution::Normal {
                mean: duration(mean)?,
                deviation: duration(deviation)?,
            }
        }
        "mix" => Distribution::Mix(mix(rest)?),
        _ => {
            return Err(
                "a time is 5ms, uniform:1ms-5ms, exp:1ms, normal:5ms,1ms or mix:1ms=90,20ms=10"
                    .to_owned(),
            );
        }
    };
    if distribution.scale().is_zero() {
        return Err("it must be longer than 0".to_owned());
    }
    if distribution.scale() > max {
        return Err(format!("at most {}", format_duration(max)));
    }
    Ok(distribution)
}

fn mix(text: &str) -> Result<Vec<(Duration, f64)>, String> {
    let times = text.split(',').map(|part| {
        let form = || "write each time with its weight, for example mix:1ms=90,20ms=10".to_owned();
        let (time, weight) = part.split_once('=').ok_or_else(form)?;
        let weight = decimal(weight).filter(|it| *it > 0.0 && *it <= 1e9);
        let weight = weight.ok_or("a weight is a number above 0, at most 1000000000")?;
        Ok((duration(time)?, weight))
    });
    let times = times.collect::<Result<Vec<_>, String>>()?;
    if times.len() > MAX_TIMES {
        return Err(format!("at most {MAX_TIMES} times"));
    }
    Ok(times)
}

/// A number in digits, perhaps with a fraction.
fn decimal(text: &str) -> Option<f64> {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_number = match text.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(text),
    };
    is_number.then(|| text.parse().ok()).flatten()
}

/// `0.1%` or `0.001`.
fn ratio(text: &str) -> Result<Ratio, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => decimal(percent).map(|it| it / 100.0),
        None => decimal(text),
    };
    let ratio = share.and_then(Ratio::new);
    ratio.ok_or_else(|| "a ratio is above 0 and at most 1, such as 0.1% or 0.001".to_owned())
}

fn messages(text: &str) -> Result<NonZeroU64, String> {
    let count = parse_count(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(count).ok_or_else(|| "at least 1 message".to_owned())
}

/// `200ms/10s`.
fn stall(text: &str) -> Result<Stall, String> {
    let (length, period) = text
        .split_once('/')
        .ok_or_else(|| "write LENGTH/PERIOD, for example 200ms/10s".to_owned())?;
    Stall::new(duration(length)?, duration(period)?)
        .ok_or_else(|| "the length is above 0, and the period longer".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let seed = text.parse().ok().filter(|_| is_number);
    seed.ok_or_else(|| "a seed is a whole number below 2^64".to_owned())
}

impl fmt::Display for Faults {
    /// The options as they are read, in a fixed order; nothing if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut option = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(
                f,
                "{}{name}={value}",
                std::mem::replace(&mut separator, "&")
            ),
            None => Ok(()),
        };
        option("delay", shown(&self.delay))?;
        option("work", shown(&self.work))?;
        option("drop", shown(&self.drop))?;
        option("duplicate", shown(&self.duplicate))?;
        option("reorder", shown(&self.reorder))?;
        option("corrupt", shown(&self.corrupt))?;
        option("reset", shown(&self.reset))?;
        option("close-after", shown(&self.close_after))?;
        option("stall", shown(&self.stall))?;
        option("seed", shown(&self.seed))
    }
}

fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
    value.as_ref().map(|it| it as &dyn fmt::Display)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [length, period] = [self.length, self.period].map(format_duration);
        write!(f, "{length}/{period}")
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| format_duration(*time);
        match self {
            Self::Constant(it) => f.write_str(&time(it)),
            Self::Uniform { min, max } => write!(f, "uniform:{}-{}", time(min), time(max)),
            Self::Exponential { mean } => write!(f, "exp:{}", time(mean)),
            Self::Normal { mean, deviation } => {
                write!(f, "normal:{},{}", time(mean), time(deviation))
            }
            Self::Mix(times) => {
                f.write_str("mix:")?;
                let mut separator = "";
                for (it, weight) in times {
                    write!(f, "{separator}{}={weight}", time(it))?;
                    separator = ",";
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_read_and_print_the_same() {
        for text in [
            "delay=5ms",
            "delay=uniform:1ms-5ms&work=20us",
            "delay=exp:1ms&drop=0.001",
            "delay=normal:5ms,1ms&duplicate=0.5&reorder=1",
            "delay=mix:1ms=90,20ms=10&corrupt=0.01&reset=0.25&close-after=100",
            "delay=mix:0=99.5,1s=0.5",
            "stall=200ms/10s&seed=18446744073709551615",
        ] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        let other: Faults = "drop=0.1%&delay=1000us&close-after=1k".parse().unwrap();
        assert_eq!(other.to_string(), "delay=1ms&drop=0.001&close-after=1000");
        assert!(Faults::default().is_none() && !other.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "write NAME=VALUE"),
            ("delay", "write NAME=VALUE"),
            ("lag=5ms", "there are delay, work"),
            ("delay=5", "unit"),
            ("delay=0", "longer than 0"),
            ("delay=2h", "at most 1h"),
            ("work=2s", "at most 1s"),
            ("delay=exp:", "not a duration"),
            ("delay=uniform:5ms", "uniform:1ms-5ms"),
            ("delay=uniform:5ms-1ms", "shorter time comes first"),
            ("delay=normal:5ms", "normal:5ms,1ms"),
            ("delay=pareto:5ms", "a time is 5ms"),
            ("delay=mix:5ms", "mix:1ms=90,20ms=10"),
            ("delay=mix:5ms=0", "a weight is"),
            ("delay=mix:5ms=-1", "a weight is"),
            ("drop=0", "above 0 and at most 1"),
            ("drop=101%", "above 0 and at most 1"),
            ("drop=1e-3", "above 0 and at most 1"),
            ("drop=.5", "above 0 and at most 1"),
            ("close-after=0", "at least 1"),
            ("stall=1s", "LENGTH/PERIOD"),
            ("stall=1s/1s", "the period longer"),
            ("seed=-1", "whole number"),
            ("seed=+1", "whole number"),
            ("drop=1%&drop=2%", "given twice"),
        ] {
            let error = text.parse::<Faults>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    fn times() -> impl Strategy<Value = Duration> {
        (1_u64..1_000_000_000).prop_map(Duration::from_nanos)
    }

    fn distributions() -> impl Strategy<Value = Distribution> {
        prop_oneof![
            times().prop_map(Distribution::Constant),
            (times(), times()).prop_map(|(a, b)| Distribution::Uniform {
                min: a.min(b),
                max: a.max(b)
            }),
            times().prop_map(|mean| Distribution::Exponential { mean }),
            (times(), times())
                .prop_map(|(mean, deviation)| Distribution::Normal { mean, deviation }),
            prop::collection::vec((times(), 0.001_f64..1e6), 1..9).prop_map(Distribution::Mix),
        ]
    }

    prop_compose! {
        fn any_faults()(
            delay in prop::option::of(distributions()),
            work in prop::option::of(distributions()),
            ratios in prop::array::uniform5(prop::option::of(1e-9_f64..=1.0)),
            close_after in prop::option::of(any::<NonZeroU64>()),
            stall in prop::option::of((times(), times())),
            seed in prop::option::of(any::<u64>()),
        ) -> Faults {
            let [drop, duplicate, reorder, corrupt, reset] =
                ratios.map(|it| it.and_then(Ratio::new));
            // A count is exact below 2^53.
            let close_after =
                close_after.and_then(|it| NonZeroU64::new(it.get() % (1 << 53)));
            let stall = stall.and_then(|(length, more)| Stall::new(length, length + more));
            Faults { delay, work, drop, duplicate, reorder, corrupt, reset, close_after, stall, seed }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(faults in any_faults()) {
            let printed = faults.to_string();
            if printed.is_empty() {
                prop_assert_eq!(faults, Faults::default());
            } else {
                prop_assert_eq!(printed.parse(), Ok(faults));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(
            text in "((delay|work|drop|stall|seed|close-after)=(exp:|mix:|normal:|uniform:)?)?\\PC{0,20}",
        ) {
            if let Ok(faults) = text.parse::<Faults>() {
                prop_assert_eq!(faults.to_string().parse::<Faults>(), Ok(faults));
            }
        }
    }
}
