//! Replacement without loss: a running server passes its listening sockets to its successor over a
//! Unix socket, and drains once the successor serves.
//!
//! Meanwhile both processes hold the same sockets with the same queues of connections (SCM_RIGHTS,
//! unix(7)), so that no connection is refused or reset. If the successor fails before it has
//! reported the endpoints that it took, nothing has changed for the running server.
//!
//! The protocol, on a stream socket that is passed on too, so that its path always has a listener:
//! ```text
//! successor                                   running server
//!    connects                            ──▶
//!                                        ◀──  length and JSON: what it has, how many sockets each
//!                                        ◀──  one byte with up to 64 descriptors, repeated
//!    binds, starts its workers
//!    a line of JSON: the indices it took ──▶
//!                                        ◀──  a line: done, or no if it keeps serving
//!                                             releases these, drains
//! ```
//! Between the descriptors and that line, neither side may shut the sockets down (a filter on the
//! listener, shutdown(2) of a Unix socket, removal of its file): a side that is told to end
//! meanwhile only closes its descriptors. A predecessor that ends without that line counts as done.

pub(crate) mod inventory;
mod offer;
mod protocol;
mod takeover;

pub use offer::Offer;
pub use takeover::{Takeover, TakeoverError};
