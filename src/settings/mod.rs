//! Settings as text: flags, environment, a TOML file and defaults, in this order of precedence, one
//! [table](KEYS) for all of them.
//!
//! Everything that a source says is checked, also where a stronger source overrides it, so that a
//! mistake in a file does not wait for the day on which a flag is left out. Every error names its
//! place and its key in one line. Nothing here opens a file, reads the process's environment or
//! resolves a name: callers hand the text in.

mod file;
mod key;
mod keys;
mod parse;
mod resolve;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub use key::{Change, FILE_VARIABLE, Group, Key, Kind, PREFIX};
pub use keys::KEYS;
pub use resolve::Resolved;
pub use source::SettingsError;
pub use values::{LogFormat, LogLevel, Settings};
