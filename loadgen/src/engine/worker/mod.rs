//! One measuring thread: an event loop that drives its flows at its schedule and records what happens.
//!
//! - `thread`: what a thread has, and its life: connect everything, wait for the common start, turn the
//!   loop until the last echo is back or had its time.
//! - `ramp`: every connection is made once.
//! - `event_loop`: one turn of the loop.
//! - `issue`: messages that are due get a flow.
//! - `reconnect`: connections that end, and those that follow them.
//! - `housekeeping`: timeouts, the stop flag, TCP_INFO: what needs no precision.
//! - `tcp_sampler`: which connections TCP is asked about.
//! - `final_report`: what every flow had.
//!
//! The thread shares nothing with the others. Every now and then it hands what it recorded to the
//! coordinator and goes on with an empty slice.

mod bench;
mod event_loop;
mod final_report;
mod housekeeping;
mod issue;
mod key_queue;
mod ramp;
mod reconnect;
mod tcp_sampler;
mod thread;

pub use bench::Bench;
pub(crate) use thread::Worker;
