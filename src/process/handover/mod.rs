//! Replacement without loss: a running server passes its listening sockets to its successor over a
//! Unix socket, and drains once the successor serves.
//!
//! Both processes hold the same sockets meanwhile, with the same queues of connections (SCM_RIGHTS,
//! unix(7)), so that none is refused or reset. If the successor fails before it has said which
//! endpoints it took, nothing has changed for the running server.
//!
//! The conversation, on a stream socket that is passed on too, so that its path never leads nowhere:
//! ```text
//! successor                                   running server
//!    connects                            ──▶
//!                                        ◀──  length and JSON: what it has, how many sockets each
//!                                        ◀──  one byte with up to 64 descriptors, repeated
//!    binds, starts its workers
//!    a line of JSON: the indices it took ──▶
//!                                        ◀──  a line: done, or no if it goes on serving
//!                                             releases these, drains
//! ```
//! From the descriptors on until that line, neither may close the sockets in its way (a filter on the
//! listener, a Unix socket shut down, its file removed): the one that is told to end meanwhile
//! leaves them to the other. A predecessor that ends without that line is gone, which is as good.

pub(crate) mod inventory;
mod offer;
mod takeover;
mod wire;

pub use offer::Offer;
pub use takeover::{Takeover, TakeoverError};
