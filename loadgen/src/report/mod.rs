//! Output formats of results, for people and programs, a file for each.
//!
//! Reports after a run are pure functions of the result. A result kind makes the contents
//! ([`Report`]: `run`, `search`, `comparison`, `imported`, `side_by_side`, `watch`). [`text`], [`markdown`], [`html`] and [`csv`]
//! render them, whatever the kind. [`json`] and [`prometheus`] use the keys of the result itself.
//! [`hlog`] and [`ndjson`] are written during a run, as its observers.

mod chart;
mod comparison;
pub mod csv;
mod document;
pub mod format;
pub mod hlog;
pub mod html;
mod imported;
pub mod json;
pub mod markdown;
pub mod ndjson;
mod options;
pub mod prometheus;
mod run;
mod scale;
mod search;
mod side_by_side;
mod stream;
pub mod text;
mod watch;
pub mod words;

pub use document::{Document, Medium, Records, Report};
pub use stream::StreamError;

use crate::result::Stored;

/// The report of a stored result, whatever its kind.
pub fn of(stored: &Stored) -> &dyn Report {
    match stored {
        Stored::Run(result) => result.as_ref(),
        Stored::Search(result) => result.as_ref(),
        Stored::Comparison(result) => result.as_ref(),
        Stored::Imported(result) => result.as_ref(),
        Stored::SideBySide(result) => result.as_ref(),
        Stored::Watch(result) => result.as_ref(),
    }
}
