//! One measuring thread: an event loop that drives its flows by its schedule and records the
//! results.
//!
//! - `thread`: a thread's state and life: connect, wait for the common start, turn the loop until
//!   the last echo is back or timed out.
//! - `ramp`: the first connect of every flow.
//! - `event_loop`: one turn of the loop.
//! - `issue`: assigns due messages to flows.
//! - `reconnect`: ended connections and their successors.
//! - `housekeeping`: timeouts, the stop flag, TCP_INFO: work without strict timing.
//! - `tcp_sampler`: selects the connections for TCP_INFO samples.
//! - `final_report`: the results of every flow.
//!
//! The thread shares no data with others. At the end of each interval it hands its slice to the
//! coordinator and continues with an empty one.

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
