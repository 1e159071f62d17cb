//! The server's side of a run, from its admin port.

use echomark::net::units::format_duration_ns;

use super::counts::above_zero;
use crate::report::document::{Fact, Medium, Section, Table};
use crate::report::format::{grouped, known, number, percent};
use crate::result::ServerResult;

/// Maximum of workers shown.
const MAX_WORKERS: usize = 64;

/// Adds the server's counters. Longer than other functions, because it lists all of them.
pub(super) fn describe(server: &ServerResult, section: &mut Section) {
    section.facts(
        "server",
        vec![
            Fact::new(
                "CPU per message",
                known(server.cpu_ns_per_message.map(format_duration_ns)),
            )
            .noted("of the server's workers"),
            Fact::new(
                "CPUs busy",
                known(server.cpu_ratio.map(|busy| format!("{busy:.2}"))),
            )
            .noted(format!("of {} workers", grouped(server.workers as u64))),
            Fact::new(
                "events per wake-up",
                known(server.events_per_turn.map(|events| format!("{events:.2}"))),
            )
            .noted("of the event loop"),
            Fact::new(
                "worker balance",
                known(server.balance_jain.map(|jain| format!("{jain:.3}"))),
            )
            .noted("Jain's index: 1 if all workers had as much"),
        ],
    );
    let is_page = section.is_for(Medium::Page);
    if let Some(window) = server.window.as_ref().filter(|_| !is_page) {
        section.facts(
            "",
            above_zero([
                ("full batches", window.loop_full_batches),
                ("short writes", window.short_writes),
                ("accept errors", window.accept_errors),
                ("dropped datagrams", window.datagrams_dropped),
                ("dropped by its kernel", window.datagrams_dropped_by_kernel),
                ("refused", server.accounts.server_refused),
            ]),
        );
    }
    if is_page {
        counters(server, section);
    }
    let agree = if server.accounts.agree {
        "agree"
    } else {
        "differ"
    };
    section.line(
        "",
        format!(
            "counters of client and server {agree}: {} bytes received, {} sent",
            grouped(server.accounts.server_received_bytes),
            grouped(server.accounts.server_sent_bytes)
        ),
    );
    section.line(
        "",
        format!(
            "echod {} at {}, {} workers, connections balanced by {}",
            server.version, server.admin, server.workers, server.balance
        ),
    );
    if is_page && server.per_worker.len() > 1 {
        workers(server, section);
    }
}

fn counters(server: &ServerResult, section: &mut Section) {
    let accounts = &server.accounts;
    let rows = [
        (
            "bytes to the server",
            accounts.client_sent_bytes,
            accounts.server_received_bytes,
        ),
        (
            "bytes from the server",
            accounts.client_received_bytes,
            accounts.server_sent_bytes,
        ),
        (
            "connections",
            accounts.client_opened,
            accounts.server_accepted,
        ),
    ];
    section.table(Table::new(
        ["over the whole run", "client", "server"],
        rows.map(|(name, client, server)| [name.to_owned(), grouped(client), grouped(server)]),
    ));
    if let Some(window) = &server.window {
        let rows = [
            ("loop iterations", window.loop_iterations),
            ("events", window.loop_events),
            ("full batches of events", window.loop_full_batches),
            ("short writes", window.short_writes),
            ("backlog bytes at the end", window.backlog_bytes),
            ("connections accepted", window.connections_accepted),
            ("connections refused", window.connections_refused),
            ("accept errors", window.accept_errors),
            ("datagrams dropped", window.datagrams_dropped),
            (
                "datagrams dropped by its kernel",
                window.datagrams_dropped_by_kernel,
            ),
        ];
        section.table(Table::new(
            ["in the window", ""],
            rows.map(|(name, count)| [name.to_owned(), grouped(count)]),
        ));
    }
}

fn workers(server: &ServerResult, section: &mut Section) {
    let seconds = server.window.map(|window| window.duration_s);
    let seconds = seconds.filter(|&seconds| seconds > 0.0);
    let rows = server.per_worker.iter().take(MAX_WORKERS).enumerate();
    section.table(Table::new(
        [
            "worker",
            "connections",
            "iterations",
            "events",
            "CPU time",
            "busy",
        ],
        rows.map(|(index, worker)| {
            [
                index.to_string(),
                grouped(worker.connections_accepted),
                grouped(worker.loop_iterations),
                grouped(worker.loop_events),
                format!("{} s", number(worker.cpu_s)),
                known(seconds.map(|seconds| percent(worker.cpu_s / seconds))),
            ]
        }),
    ));
}
