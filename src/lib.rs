//! Echomark's server: echo, discard and chargen on every core, as a library. The program `echod` is a
//! thin wrapper around it.
//!
//! # The map, in reading order
//! - `server`, `listen`: bind or inherit sockets, assign them to workers, run and join the workers;
//!   [`Handle`] controls them.
//! - `process`: the program around a server: log, signals, service manager, replacement, sandbox.
//! - `reactor`: the event loop of one worker and its phases. It owns the epoll instance, the table of
//!   connections, the timers and the worker's listeners.
//! - `conn`: one connection and `Conn::pump`, the one function that moves its bytes, generic over the
//!   stream; the read buffer and the pipe that a worker lends to each connection in turn.
//! - `udp`: one UDP socket of a worker, which answers in batches, and the guard against loops and
//!   floods.
//! - `timer`, `timeouts`, `spin`, `admission`, `memory`, [`metrics`]: the parts of the above. They use
//!   no socket and no clock.
//! - `admin`: metrics, readiness and `/info` over HTTP, on a thread of its own.
//! - `faults`: what goes wrong at an endpoint on order, and the decisions about each message.
//! - `config`, `error`, `service`: the configuration, the errors and the services of a server.
//! - `settings`: the configuration as text: flags, environment and file. Only the program uses it.
//! - [`tls`]: a TLS session, and with a socket a stream that `conn` drives like a plain one.
//! - [`net`]: endpoints, units, socket options, affinity, and `net::sys`, the only module with raw
//!   system calls.
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
//!   admin::Running        ── a thread that answers HTTP from a Handle
//! ```
//! With a listener per worker (SO_REUSEPORT), the kernel distributes the connections, by a hash or by
//! the CPU on which they come in. With one listener, worker 0 accepts and hands each connection to the
//! worker with the fewest. A connection stays with its worker.
//!
//! The invariants of the server are in ARCHITECTURE.md.
//!
//! # Features
//! `program`, on by default: the program `echod`, with `process`, `admin` and `settings`. The
//! library does without them and their dependencies: `default-features = false`.

// What only the parts behind the feature use is no dead code where they are compiled.
#![cfg_attr(not(feature = "program"), allow(dead_code, unused_imports))]

#[cfg(feature = "program")]
mod admin;
mod admission;
mod config;
mod conn;
mod error;
mod faults;
#[doc(hidden)]
pub mod internal;
mod listen;
mod memory;
pub mod metrics;
pub mod net;
#[cfg(feature = "program")]
mod process;
mod proxy_protocol;
mod reactor;
mod server;
mod service;
#[cfg(feature = "program")]
mod settings;
mod spin;
mod timeouts;
mod timer;
pub mod tls;
mod udp;

pub use config::{Balance, Config, Limits, ProxyProtocol, Spin};
pub use error::Error;
pub use faults::{Distribution, Faults, FaultsError, Ratio, Stall};
pub use server::{Handle, Server};
pub use service::{Service, ServiceError};
