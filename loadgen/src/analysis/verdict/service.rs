//! Whether the target served every connection, and whether it echoes at all.

use super::Evidence;
use crate::analysis::service::Instead;
use crate::plan::{Direction, Plan, Workload};
use crate::result::{Code, Reason};

/// Above this share of connects without a free port, this host was the limit.
const MAX_OUT_OF_PORTS: f64 = 0.01;

/// Adds the reasons. What the server did comes before what follows from it.
pub(super) fn judge(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    if let Some(instead) = &evidence.service.instead {
        reasons.push(Reason::invalid(
            Code::NoEcho,
            no_echo(instead, evidence.plan),
        ));
    }
    let service = evidence.service;
    if service.unserved > 0 {
        let failed = evidence.counts.failed;
        let connects = if failed > 0 {
            format!("; {failed} connects failed{}", with_error(evidence))
        } else {
            String::new()
        };
        reasons.push(Reason::invalid(
            Code::NotServed,
            format!(
                "{} of {} connections were not served, or not to the end: {}{connects}",
                service.unserved, service.connections, service.cause
            ),
        ));
    }
    connections(evidence, reasons);
}

/// What a target that does not echo did, and what to do.
fn no_echo(instead: &Instead, plan: &Plan) -> String {
    if plan.direction() == Some(Direction::Down) {
        return "the target sent nothing; --direction down needs a chargen server".to_owned();
    }
    if instead.bytes.is_empty() {
        return format!(
            "{} bytes were sent, and nothing came back: the target is no echo server, or answers after \
             more than two fifths of --timeout; use another port, or for a discard server --workload \
             stream --direction up",
            instead.bytes_out
        );
    }
    let way_out = match instead.bytes.as_slice() {
        [b'H', b'T', b'T', b'P', b'/', ..] | [b'<', b'!', b'D', b'O', ..] => {
            "this is an HTTP server; use an echo server's port"
        }
        [b'S', b'S', b'H', b'-', ..] => "this is an SSH server; use an echo server's port",
        [0x15, 0x03, ..] => "this is a TLS server; measure it as tls://HOST:PORT",
        [b' ', b'!', b'"', b'#', ..] => {
            "this is a chargen server; use --workload stream --direction down"
        }
        _ => "the target is no echo server; use another port",
    };
    format!(
        "{} bytes were sent, and instead of them came \"{}\": {way_out}",
        instead.bytes_out,
        instead.bytes.escape_ascii()
    )
}

/// The commonest error of the failed connects, in parentheses.
fn with_error(evidence: &Evidence<'_>) -> String {
    match &evidence.service.connect_error {
        Some(error) => format!(" ({error})"),
        None => String::new(),
    }
}

/// Whether all connections were established and stayed open.
fn connections(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let counts = evidence.counts;
    if counts.out_of_ports > 0 {
        let attempts = counts.opened + counts.failed;
        let text = format!(
            "{} of {attempts} connects found no free port on this host; use more source addresses \
             (--source) or close with a reset (--close reset)",
            counts.out_of_ports
        );
        let is_limit = counts.out_of_ports as f64 > MAX_OUT_OF_PORTS * attempts as f64;
        reasons.push(if is_limit {
            Reason::invalid(Code::OutOfPorts, text)
        } else {
            Reason::suspect(Code::OutOfPorts, text)
        });
    }
    let failed = counts.failed - counts.out_of_ports;
    if failed > 0 {
        reasons.push(Reason::suspect(
            Code::ConnectionsFailed,
            format!("{failed} connects failed{}", with_error(evidence)),
        ));
    }
    if counts.unclosed > 0 {
        reasons.push(Reason::suspect(
            Code::Unclosed,
            format!(
                "the server did not close {} connections within the timeout",
                counts.unclosed
            ),
        ));
    }
    let wanted = evidence.plan.own_connections() as u64;
    if evidence.plan.workload == Workload::Idle && evidence.held < wanted {
        reasons.push(Reason::suspect(
            Code::NotHeld,
            format!(
                "{} of {wanted} connections were open at the end: the others failed or were closed by \
                 the server",
                evidence.held
            ),
        ));
    }
}
