//! Replacement without loss: a running server passes its listening sockets to its successor over a
//! Unix socket, and drains once the successor serves.
//!
//! Meanwhile both processes hold the same sockets with the same queues of connections (SCM_RIGHTS,
//! unix(7)), so that no connection is refused or reset. If the successor fails before it has
//! reported that it serves, nothing has changed for the running server.
//!
//! The protocol, on a stream socket that is passed on too, so that its path always has a listener:
//! ```text
//! successor                                   running server
//!    connects
//!    hello, with the version             ──▶
//!                                        ◀──  offer: what it has, and the descriptors
//!    binds what it lacks
//!    taken: the endpoints that it wants  ──▶
//!                                        ◀──  granted, and it goes on serving
//!    starts its workers
//!    serving                             ──▶
//!                                        ◀──  released; it releases these, drains
//! ```
//! Instead of any of its answers the running server may say that it refuses, or that it is ending:
//! then the successor drops what it got and starts afresh. `machine` decides, `offer` and
//! `takeover` carry it out, `wire` has the form of the messages.
//!
//! Between `granted` and the last word neither side may shut the sockets down (a filter on the
//! listener, shutdown(2) of a Unix socket, removal of its file): a drain waits for that word.

pub(crate) mod inventory;
mod machine;
mod offer;
mod takeover;
mod wire;

pub use offer::{AdminSocket, Offer};
pub use takeover::{Answer, Claim, Confirmed, Takeover, TakeoverError};
