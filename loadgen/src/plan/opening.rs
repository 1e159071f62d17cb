//! What connections exchange before their first message.

use std::fmt;
use std::str::FromStr;

use echomark::net::cidr::Cidr;
use serde::{Deserialize, Serialize};

use super::as_strings;

/// What connections exchange before their first message; nothing by default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Opening {
    /// The version of the PROXY header that each connection begins with; null for none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// The clients that the headers name, in turn; empty for the connection's own address.
    #[serde(with = "as_strings")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub proxy_sources: Vec<Cidr>,
    /// Whether the server greets each connection with a line, which says who it is.
    pub greeting: bool,
    /// The shares of the connections that servers should have; empty if any will do.
    pub expected_shares: Vec<ExpectedShare>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The share of the connections that a server should have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExpectedShare {
    /// The server's name in its greeting.
    pub id: String,
    /// From 0 to 1.
    pub share: f64,
}

impl Opening {
    /// Whether connections begin with their first message.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for ExpectedShare {
    type Err = ShareError;

    /// `ID=70%` or `ID=0.7`. An ID may have an equals sign in it.
    fn from_str(text: &str) -> Result<Self, ShareError> {
        let fail = || ShareError(text.to_owned());
        let (id, share) = text.rsplit_once('=').ok_or_else(fail)?;
        let (number, scale) = match share.strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (share, 1.0),
        };
        let share = number.parse::<f64>().map_err(|_| fail())? / scale;
        if id.is_empty() || !(0.0..=1.0).contains(&share) {
            return Err(fail());
        }
        Ok(Self {
            id: id.to_owned(),
            share,
        })
    }
}

/// A text that is not an expected share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShareError(String);

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not ID=SHARE, such as blue=70% or blue=0.7",
            self.0
        )
    }
}

impl std::error::Error for ShareError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        for (text, id, share) in [
            ("a=70%", "a", 0.7),
            ("a=b=0.25", "a=b", 0.25),
            ("a=0", "a", 0.0),
        ] {
            let expected = ExpectedShare {
                id: id.to_owned(),
                share,
            };
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "a", "=1", "a=", "a=101%", "a=-1", "a=x", "a=NaN"] {
            assert!(text.parse::<ExpectedShare>().is_err(), "{text}");
        }
    }
}
