//! echod and loadgen beside minimal peers, side by side on the machine of whoever asks.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- compare
//! ```
//!
//! # The map, in reading order
//! - `servers/`: the peers, one small program for each runtime, as its documentation would write it.
//! - [`load`]: what is put on them: one thread, epoll, a closed loop; the same for all.
//! - [`peer`], [`artifacts`], [`server`]: who takes part, where the programs come from, and one of them
//!   as a running process.
//! - [`compare`]: rounds and turns; [`counts`]: what strace and callgrind count; [`matrix`]: all
//!   workloads and shapes.
//! - [`clients`]: loadgen beside a minimal client. [`scaling`]: echod with more workers.
//! - [`result`](mod@result), [`stats`], [`report`]: what was measured, medians and ratios, the tables.
//! - [`procfs`], [`sys`], [`scratch`]: what the kernel tells and is told; files for a while.
//!
//! # Method
//! - In each round every server has one turn, A B C, A B C. A turn starts the server afresh on one
//!   processor, with the load on another, opens the connections, proves each with an echo, warms up,
//!   and measures. No other server runs meanwhile, and where the server's memory lies, which can cost
//!   or gain some percent, is drawn anew in each turn.
//! - Throughput, latencies and both sides' processor times are of one and the same window.
//! - A ratio is that of two turns of one round; the table has the median of the rounds. So what slows a
//!   whole round down cancels.
//! - Processor time is what the scheduler accounts to the process with all its threads, living and
//!   ended, and to its children, in nanoseconds (clock_getcpuclockid(3)), not in ticks.
//! - Every byte that comes back is compared. A wrong one, one too many, one missing, a lost datagram or
//!   a connection that ends fails the turn, which is then reported and counts nowhere.
//! - Counts are differences of two runs, so that starting and ending cancel; see [`counts`].
//!
//! # What is the same for all
//! The processor, the load, loopback, the system's congestion control and buffers, TCP_NODELAY, and
//! optimisation: fat LTO and one codegen unit, as echod is built (`cc -O3` for libuv). This package's
//! servers have a read buffer of 64 KiB, one for each connection where a runtime wants it so and one
//! for the thread otherwise, and use no option that the runtime's documentation would not tell a
//! beginner. The bare loops do without every call that is not needed: they inherit TCP_NODELAY from the
//! listener and never read to be told EAGAIN. echod runs with its defaults: limits, timeouts, metrics, logs.
//!
//! # Known biases
//! - **Cost depends on load.** In a closed loop a server that is quicker than the load sleeps more often,
//!   and a wake-up costs. `server busy` and `load busy` tell who waited for whom; processor times are
//!   best compared between rows where the server was equally busy. Counts are taken of a server that
//!   is slowed down by being watched, and so saturated.
//! - **Some of the kernel's work is nobody's.** What an interrupt does is not accounted to a process where
//!   the kernel accounts for it apart (CONFIG_IRQ_TIME_ACCOUNTING), and over loopback each side's send
//!   does some of the other's receiving. It is the same for every server.
//! - **One processor** suits servers of one thread. tokio's multi-threaded runtime starts a single worker
//!   there; what it is made for is not measured here.
//! - **io_uring** does its work where it is asked to, so its user-space instructions leave out little, but
//!   its system calls say less than they do for epoll: one call submits and completes many operations.
//! - **Memory per idle connection** is that of the process, by the pages that were touched, and the
//!   kernel's share is not in it. A runtime that reads into a buffer of each connection holds one page of
//!   it after an echo of 64 B; smol's wants initialised memory, most of which the C library's calloc(3)
//!   writes to. Who minds would take a smaller buffer than this package's 64 KiB.
//! - **This host's other work** ends up in the figures. A server that was ready and had no processor is
//!   pointed out under the table.
//! - echod's authors wrote this package. The peers are short so that everybody can read whether they are
//!   fair.

pub mod artifacts;
pub mod clients;
pub mod compare;
pub mod counts;
pub mod load;
pub mod matrix;
pub mod peer;
pub mod procfs;
pub mod report;
pub mod result;
pub mod scaling;
pub mod scratch;
pub mod server;
pub mod stats;
pub mod sys;
use std::io::Write as _;

/// Says on stdout where a TCP server listens, which is what the driver waits for.
pub fn announce(port: u16) {
    say(&format!("listening tcp://127.0.0.1:{port}"));
}

/// Says on stdout where a UDP server receives.
pub fn announce_udp(port: u16) {
    say(&format!("listening udp://127.0.0.1:{port}"));
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // A driver that has gone is no reason to fail: the server will be ended with it.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The one word on the command line of a server that has several forms; ends the program with 2 where
/// it is not one of these.
pub fn word(words: &[&'static str]) -> &'static str {
    let given = std::env::args().nth(1).unwrap_or_default();
    words
        .iter()
        .find(|w| **w == given)
        .copied()
        .unwrap_or_else(|| {
            eprintln!("error: expected one of {}", words.join(", "));
            std::process::exit(2)
        })
}
