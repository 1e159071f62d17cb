//! Settings as text: flags, environment, a TOML file and defaults, in this order of precedence, one
//! [table](KEYS) for all of them.
//!
//! Every value is checked, even if a stronger source overrides it, so that a mistake in a file does
//! not stay hidden until a flag is removed. Every error names its origin and its key in one line.
//! Nothing here opens a file, reads the process's environment or resolves a name: the caller passes
//! the text.

mod file;
mod key;
mod keys;
mod nearest;
mod parse;
mod resolve;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub use key::{Audience, Change, FILE_VARIABLE, Group, Key, Kind, PREFIX};
pub use keys::KEYS;
pub use resolve::Resolved;
pub use source::SettingsError;
pub use values::{Announce, LogFormat, LogLevel, SandboxMode, Settings, TlsFiles, UserName};
