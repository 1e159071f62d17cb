//! A stored result in the forms that people and programs read. Each is a pure function of it.

pub mod json;
pub mod text;
