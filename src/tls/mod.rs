//! TLS 1.2 and 1.3, by rustls, on the streams of [`net`](crate::net).
//!
//! A [`Session`] is one connection's end, without its socket; with it, it is a [`TlsStream`], which is
//! a [`Stream`](crate::net::stream::Stream) like a plain socket: what drives one drives the other.
//! [`ServerTls`] is what a server shows to its clients, [`ClientTls`] what a client accepts of servers.
//! Nothing here opens a file or knows a setting.

mod agreed;
mod client;
mod failure;
mod negotiated;
mod pem;
mod queue;
mod refusal;
mod server;
mod session;
mod side;
mod steps;
mod stream;
mod subject;
#[cfg(test)]
mod tests;
mod trust;

pub use agreed::{Agreed, Version};
pub use client::{ClientTls, Connector, Identity, Trust};
pub use failure::Failure;
pub use negotiated::{AskedName, Negotiated};
pub use pem::{Part, TlsError};
pub use refusal::Refusal;
pub use server::ServerTls;
pub use session::{Buffers, ClientSession, OnEnd, Session};
pub use side::Side;
pub use stream::TlsStream;
