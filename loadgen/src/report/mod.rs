//! A run in the forms that people and programs read. Those that are made at its end are pure
//! functions of its result; those that are written while it goes on are observers of it.

pub mod csv;
pub mod hlog;
pub mod json;
pub mod ndjson;
pub mod prometheus;
mod stream;
pub mod text;

pub use stream::StreamError;
