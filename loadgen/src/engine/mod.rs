//! The measuring engine: threads that send and receive messages, and record the results.
//!
//! The modules form layers. Each uses only layers below it:
//!
//! - `worker`: one measuring thread and its event loop.
//! - `workload`: what a flow does with its connection, one file for each workload.
//! - `context`: the state shared by a thread's flows: `recorder`; `source` of messages; `clock`,
//!   with the window and its intervals; `cpu`, the thread's CPU time.
//! - `task`: what a thread is given, and its reports.
//! - `connection`: a socket to the server: connect, read, write, close, reconnect.
//! - [`schedule`]: when messages are due, in open and closed loops. Pure.
//! - [`in_flight`]: the queued and outstanding messages of a connection. Pure.
//! - [`payload`], [`chargen`]: the contents of messages, so that every wrong byte shows. Pure.
//! - [`slice`](mod@slice), [`histogram`], [`tcp`]: counts, latencies and TCP samples of an
//!   interval. They add up exactly. `interval`: the division of a run's time. Pure.
//! - `backends`: the servers behind the targets, by their greetings.
//! - `hiccups`: scheduling delays of this host.
//! - `sys`: system calls that only a client needs.

pub(crate) mod backends;
pub(crate) mod chargen;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod cpu;
pub(crate) mod hiccups;
pub(crate) mod histogram;
pub(crate) mod in_flight;
pub(crate) mod interval;
pub(crate) mod payload;
pub(crate) mod priority;
pub(crate) mod recorder;
pub(crate) mod schedule;
pub(crate) mod slice;
pub(crate) mod source;
pub(crate) mod sys;
pub(crate) mod task;
pub(crate) mod tcp;
pub(crate) mod worker;
pub(crate) mod workload;
