//! Echomark's server: echo, discard and chargen on every core, as a library. The program `echod` is a
//! thin wrapper around it.
//!
//! # The map, in reading order
//! - `server`, `listen`: endpoints become sockets, workers start and are joined; [`Handle`] steers them.
//! - `process`: the program around a server: log, signals, service manager, replacement without loss.
//! - `reactor`: the event loop of one worker and its phases. Owns the epoll instance, the table of
//!   connections, the timers and this worker's listeners.
//! - `conn`: one connection and `Conn::pump`, the one function that moves bytes, generic over its
//!   stream; what a worker lends to each connection in turn, a buffer and a pipe.
//! - `udp`: one UDP socket of a worker, which answers in batches, and the guard that keeps it
//!   harmless.
//! - `timer`, `timeouts`, `spin`, `admission`, [`metrics`]: what the above are made of. None of them
//!   knows a socket or reads a clock.
//! - `admin`: metrics, readiness and more over HTTP, on a thread of its own.
//! - `config`, `error`, `service`: what a server is told, why it fails, what it offers.
//! - `settings`: the same configuration as text: flags, environment and file. The server itself does
//!   not use it.
//! - [`net`]: endpoints, units, socket options, affinity, and `net::sys`, the one door to the kernel's
//!   raw calls.
//!
//! # Threads
//! ```text
//!   caller's thread                 worker 0                worker 1            ...
//!   Server::bind ──── listeners ──▶ Reactor                 Reactor
//!   Server::run  ──── spawns ─────▶ ┌─▶ wait ◀── epoll      ┌─▶ wait ◀── epoll
//!        │                          │   dispatch ─▶ pump    │   dispatch ─▶ pump
//!        │                          │   resume_yielded      │   ...
//!        │                          │   remove_closed       │
//!        │                          │   reload              │
//!        │                          │   accept              │
//!        │                          │   expire              │
//!        │                          │   apply_requests      │
//!        │                          │   remove_closed       │
//!        │ joins                    └── wake_receivers      └── wake_receivers
//!   Handle::{drain, stop, set_limits} ── atomics and an eventfd to every worker
//!   Handle::metrics       ── reads every worker's counters
//!   admin::Running        ── a thread that answers HTTP with what a Handle reads
//! ```
//! The kernel spreads connections over the workers' listeners (SO_REUSEPORT), by a hash or by the CPU
//! they come in on, or worker 0 accepts and gives each to the worker with the fewest; from then on a
//! connection stays with its worker.
//!
//! # Invariants
//! 1. The data plane takes no lock and never blocks; workers share atomics alone. Only counting
//!    connections per address, if that is asked for, takes a short lock at accept and at close.
//! 2. A connection is registered once, edge-triggered, for everything, and never again.
//! 3. What is read goes out at once from the worker's one buffer. Only what the socket did not take
//!    is kept, and nothing is read while it is: an idle connection holds no buffer, and a peer that
//!    never reads costs one buffer at the most. A stream that keeps large reads full goes through the
//!    worker's one pipe instead, uncopied; what the socket leaves in it is copied out at once.
//! 4. A short read of a TCP socket means "drained" unless a hang-up or urgent data was reported.
//! 5. All that a client sent before its half-close comes back.
//! 6. A connection that could go on forever yields, so that it can't starve the others.
//! 7. Connections are removed after the batch of events, and accepting comes after that.
//! 8. An error of accept(2) neither ends the loop nor spins.
//! 9. Every loop and queue has a bound.
//! 10. Nothing is allocated per echo, and the clock is read at most once in a turn of the loop.

mod admin;
mod admission;
mod config;
mod conn;
mod error;
#[doc(hidden)]
pub mod internal;
mod listen;
pub mod metrics;
pub mod net;
mod process;
mod reactor;
mod server;
mod service;
mod settings;
mod spin;
mod timeouts;
mod timer;
mod udp;

pub use config::{Balance, Config, Limits, Spin};
pub use error::Error;
pub use server::{Handle, Server};
pub use service::Service;
