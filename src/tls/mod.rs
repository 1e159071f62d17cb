//! TLS 1.2 and 1.3, by rustls, on the streams of [`net`](crate::net).
//!
//! A [`Session`] is one connection's end, without its socket; with it, it is a [`TlsStream`], which is
//! a [`Stream`](crate::net::stream::Stream) like a plain socket: what drives one drives the other.
//! [`ServerTls`] is what a server shows to its clients. Nothing here opens a file or knows a setting.

mod failure;
mod negotiated;
mod queue;
mod server;
mod session;
mod side;
mod steps;
mod stream;
mod subject;
#[cfg(test)]
mod tests;

pub use failure::Failure;
pub use negotiated::{AskedName, Negotiated};
pub use server::{Part, ServerTls, TlsError};
pub use session::{Buffers, OnEnd, Session};
pub use side::Side;
pub use stream::TlsStream;
