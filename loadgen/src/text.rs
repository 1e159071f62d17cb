//! The error of reading values that users write.

use std::fmt;

/// Why a text is not the value that it should be, as one line for the user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextError(String);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

impl From<String> for TextError {
    fn from(line: String) -> Self {
        Self(line)
    }
}

impl From<&str> for TextError {
    fn from(line: &str) -> Self {
        Self(line.to_owned())
    }
}
