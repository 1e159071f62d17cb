//! The limits in force and the outcome of the last reload, as metrics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exposition::{Family, Samples, Value};
use crate::config::Limits;
use crate::metrics::Kind;

/// The settings in force, as far as metrics tell them.
#[derive(Clone, Debug)]
pub struct SettingsStatus {
    /// The limits in force.
    pub limits: Limits,
    /// The most memory for backlogs, in bytes; `None` is unlimited.
    pub backlog_memory: Option<u64>,
    /// Whether the last reload succeeded; true before the first.
    pub is_last_reload_good: bool,
    /// When settings were last put in force: at the start, or by a reload.
    pub applied_at: SystemTime,
}

impl Default for SettingsStatus {
    /// No limit, put in force at the Unix epoch.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            backlog_memory: None,
            is_last_reload_good: true,
            applied_at: UNIX_EPOCH,
        }
    }
}

/// The metrics of these settings. A limit that is off is infinite.
pub(super) fn families(status: &SettingsStatus) -> Vec<Family> {
    let limits = &status.limits;
    let count = |limit: Option<std::num::NonZeroUsize>| limit.map(|it| it.get() as f64);
    let seconds = |limit: Option<Duration>| limit.map(|it| it.as_secs_f64());
    let of_limits: [(&str, &str, Option<f64>); 11] = [
        (
            "echod_limit_connections",
            "Connections that may be open at a time.",
            count(limits.max_connections),
        ),
        (
            "echod_limit_connections_per_ip",
            "Connections that may be open at a time from one source.",
            count(limits.max_connections_per_ip),
        ),
        (
            "echod_limit_accepts_per_second",
            "Connections that may be served anew per second.",
            limits.accept_rate,
        ),
        (
            "echod_limit_accepts_per_ip_per_second",
            "Connections that may be served anew per second from one source.",
            limits.accept_rate_per_ip,
        ),
        (
            "echod_limit_idle_seconds",
            "Time without a byte after which a connection is closed.",
            seconds(limits.idle_timeout),
        ),
        (
            "echod_limit_stall_seconds",
            "Time in which a connection has to move the bytes of echod_limit_stall_bytes.",
            seconds(limits.stall_timeout),
        ),
        (
            "echod_limit_stall_bytes",
            "Bytes that a connection has to move within the stall timeout.",
            Some(limits.stall_bytes as f64),
        ),
        (
            "echod_limit_lifetime_seconds",
            "Time after which a connection is closed, busy or not.",
            seconds(limits.lifetime),
        ),
        (
            "echod_limit_datagrams_per_second",
            "Datagrams that may be answered per second.",
            limits.udp_rate,
        ),
        (
            "echod_limit_datagrams_per_source_per_second",
            "Datagrams that may be answered per second to one source.",
            limits.udp_rate_per_source,
        ),
        (
            "echod_limit_backlog_bytes",
            "Memory for what peers have sent and do not read back.",
            status.backlog_memory.map(|it| it as f64),
        ),
    ];
    let limits = of_limits.map(|(name, help, limit)| {
        let limit = limit.unwrap_or(f64::INFINITY);
        gauge(name, help, Value::Real(limit))
    });
    let applied_at = status.applied_at.duration_since(UNIX_EPOCH);
    let applied_at = applied_at.unwrap_or_default().as_secs_f64();
    let mut families = Vec::from(limits);
    families.extend([
        gauge(
            "echod_last_reload_successful",
            "1 if the last reload of the settings succeeded or there was none, 0 if it was refused.",
            Value::Integer(status.is_last_reload_good.into()),
        ),
        gauge(
            "echod_last_reload_success_timestamp_seconds",
            "When settings were last put in force, at the start or by a reload, in Unix time.",
            Value::Real(applied_at),
        ),
    ]);
    families
}

fn gauge(name: &'static str, help: &'static str, value: Value) -> Family {
    Family {
        name,
        help,
        kind: Kind::Gauge,
        samples: Samples::One(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::exposition::{json, text};
    use std::num::NonZeroUsize;

    #[test]
    fn a_limit_that_is_off_is_infinite() {
        let status = SettingsStatus {
            limits: Limits {
                max_connections: NonZeroUsize::new(7),
                idle_timeout: Some(Duration::from_millis(1500)),
                ..Limits::default()
            },
            is_last_reload_good: false,
            applied_at: UNIX_EPOCH + Duration::from_millis(2_250),
            ..SettingsStatus::default()
        };
        let families = families(&status);
        let text = text(&families);
        for line in [
            "echod_limit_connections 7",
            "echod_limit_connections_per_ip +Inf",
            "echod_limit_idle_seconds 1.5",
            "echod_limit_stall_bytes 1024",
            "echod_limit_datagrams_per_source_per_second 1000",
            "echod_last_reload_successful 0",
            "echod_last_reload_success_timestamp_seconds 2.25",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        let json = json(&families);
        assert_eq!(json["limit_connections"], 7.0);
        assert!(json["limit_lifetime_seconds"].is_null());
    }
}
