//! A run in the forms that people and programs read. Those that are made at its end are pure
//! functions of its result; those that are written while it goes on are observers of it.

pub mod csv;
mod format;
pub mod hlog;
pub mod html;
pub mod json;
pub mod markdown;
pub mod ndjson;
pub mod prometheus;
mod stream;
pub mod text;
mod words;

pub use stream::StreamError;
