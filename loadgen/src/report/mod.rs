//! Results in the formats that people and programs read, a file for each.
//!
//! What is made at the end of a run is a pure function of the result. A result kind says what there is to
//! say ([`Report`]: `run`, `search`, `comparison`); [`text`], [`markdown`], [`html`] and [`csv`] give
//! it a form and don't know the kind. [`json`] and [`prometheus`] have the keys of the result itself.
//! [`hlog`] and [`ndjson`] are written during a run and are observers of it.

mod chart;
mod comparison;
pub mod csv;
mod document;
pub mod format;
pub mod hlog;
pub mod html;
pub mod json;
pub mod markdown;
pub mod ndjson;
mod options;
pub mod prometheus;
mod run;
mod scale;
mod search;
mod stream;
pub mod text;
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
    }
}
