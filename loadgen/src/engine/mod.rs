//! The measuring engine: threads that send and receive, and record what they see.
//!
//! In layers, each of which uses only those below it:
//!
//! - `worker`: one measuring thread and its event loop.
//! - `workload`: what a flow does with its connection, one file each.
//! - `context`: what the flows of a thread share: `recorder`, where everything is recorded; `source`,
//!   where messages come from; `clock`, the window and its intervals; `cpu`, what the thread uses.
//! - `task`: what a thread is told, and what it reports.
//! - `connection`: a socket to the server: made, read, written, closed, and made again.
//! - [`schedule`]: when messages are due. It alone tells an open loop from a closed one. Pure.
//! - [`in_flight`]: the messages of a connection that are queued or out. Pure.
//! - [`payload`], [`chargen`]: what messages contain, so that every wrong byte shows. Pure.
//! - [`slice`](mod@slice), [`histogram`], [`tcp`]: the counts, latencies and TCP samples of an interval,
//!   which add up exactly. `interval`: how a run is divided in time. Pure.
//! - `hiccups`: how long this host failed to run a thread that asked to run.
//! - `sys`: what only a client asks of the kernel.

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
pub(crate) mod recorder;
pub(crate) mod schedule;
pub(crate) mod slice;
pub(crate) mod source;
pub(crate) mod sys;
pub(crate) mod task;
pub(crate) mod tcp;
pub(crate) mod worker;
pub(crate) mod workload;
