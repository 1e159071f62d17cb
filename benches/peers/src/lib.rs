//! echod and loadgen beside minimal peers, measured side by side on this machine.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- compare
//! ```
//!
//! Two builds of echod, or of loadgen, are compared in the same way:
//!
//! ```sh
//! peers compare --prebuilt -r 15 -w echo,churn,udp,stream --echod old=OLD/echod --echod new=NEW/echod
//! peers clients --prebuilt -r 15 -c 50,1000 --loadgen old=OLD/loadgen --loadgen new=NEW/loadgen
//! ```
//!
//! # Layout
//! - `servers/`: the peers, one small program for each runtime, written as its documentation would
//!   write it. This library holds what they share.
//! - `src/main.rs`: the driver `peers`, with a file for each command (`compare`, `clients`, `scaling`);
//!   `peer.rs` (the list of servers), `server.rs` (one of them as a process), `process.rs` (what the
//!   kernel reports of it), `counts.rs` (strace and callgrind), `report.rs` (rounds, ratios, tables).
//! - `src/client/`: the load. It shares no code with loadgen, so a fault of one shows in the other.
//!
//! # Method
//! - In each round every server has one turn: A B C, then C B A, and so on, so that neither drift nor
//!   the order favours one of them. A turn starts the server afresh on one processor, with the client on
//!   another, opens the connections, proves each with an echo, warms up, and measures. No other server
//!   runs meanwhile. The layout of the server's memory, which can cost or gain some percent, is drawn
//!   anew in each turn.
//! - Throughput, latencies and the processor times of both sides are of one and the same window.
//! - A ratio is that of two turns of one round. The table has the median and the quartiles of the
//!   rounds' ratios. What slows a whole round down cancels.
//! - Processor time is what the scheduler accounts to the process with all its threads, living and
//!   ended, and to its children, in nanoseconds (clock_getcpuclockid(3)), not in ticks.
//! - Every byte that comes back is compared. A wrong byte, one too many, a missing one, a lost datagram
//!   or a connection that ends fails the turn, which is then reported and counts nowhere.
//! - Counts are differences of two runs, a short and a long one, so that starting and ending cancel.
//!   `clients` measures processor time in this way too.
//!
//! # What is the same for all
//! The processor, the load, loopback, the system's congestion control and buffers, TCP_NODELAY, and
//! optimisation: fat LTO and one codegen unit, as echod is built (`cc -O3` for libuv). This package's
//! servers have a read buffer of 64 KiB, one for each connection where a runtime wants it so and one
//! for the thread otherwise, and use no option that the runtime's documentation would not tell a
//! beginner. The bare loops make no call that is not needed: they inherit TCP_NODELAY from the
//! listener and never read to be told EAGAIN. echod runs with its defaults: limits, timeouts, metrics, logs.
//!
//! # Known biases
//! - **Cost depends on load.** In a closed loop a server that is quicker than the client sleeps more often,
//!   and a wake-up costs. `server busy` and `client busy` tell who waited for whom; processor times are
//!   best compared between rows where the server was equally busy. Counts are taken of a server that
//!   is slowed down by being watched, and so saturated.
//! - **Some of the kernel's work is nobody's.** What an interrupt does is not accounted to a process where
//!   the kernel accounts for it apart (CONFIG_IRQ_TIME_ACCOUNTING), and over loopback each side's send
//!   does some of the other's receiving. It is the same for every server.
//! - **One processor** suits servers of one thread. tokio's multi-threaded runtime starts a single worker
//!   there; what it is made for is not measured here.
//! - **io_uring** does its work where it is asked to, so its user-space instructions leave out little, but
//!   its system calls say less than they do for epoll: one call submits and completes many operations.
//! - **Memory per idle connection** is that of the process, by the pages that were touched, without the
//!   kernel's share. A runtime that reads into a buffer of each connection holds one page of
//!   it after an echo of 64 B; smol's wants initialised memory, most of which the C library's calloc(3)
//!   writes to. A smaller buffer than this package's 64 KiB would cost less.
//! - **Other work of this host** ends up in the figures. A server that was ready and had no processor is
//!   pointed out under the table.
//! - echod's authors wrote this package. The peers are short so that everyone can read whether they are
//!   fair.

use std::env;
use std::io::{self, Write as _};
use std::process;

pub mod bare;

/// Every server reads into buffers of this size.
pub const BUFFER_LEN: usize = 64 * 1024;

/// The most events that one wait returns.
pub const MAX_EVENTS: usize = 1024;

/// Connections that the kernel completes before they are accepted; it lowers this to its own limit.
pub const BACKLOG: i32 = 4096;

/// Prints the line that the driver waits for: the server listens at this port of 127.0.0.1.
pub fn announce(scheme: &str, port: u16) {
    let mut stdout = io::stdout().lock();
    // Without a reader there is no reason to fail: the server ends with the driver.
    let _ = writeln!(stdout, "listening {scheme}://127.0.0.1:{port}").and_then(|()| stdout.flush());
}

/// The variant of the server that the command line names; exits with 2 if it is none of these.
pub fn variant(variants: &[&'static str]) -> &'static str {
    let given = env::args().nth(1).unwrap_or_default();
    let known = variants.iter().find(|variant| **variant == given);
    known.copied().unwrap_or_else(|| {
        eprintln!("error: expected one of {}", variants.join(", "));
        process::exit(2)
    })
}

/// Raises the soft limit of descriptors to the hard one and returns it.
///
/// # Errors
/// That of setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(u64::MAX))
}
