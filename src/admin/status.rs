//! The pages of a running server, collected from its [`Handle`] at the moment of the request.
//! Nothing here makes a worker wait.

use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::host::HostNames;
use super::http::{Pages, Readiness};
use super::metrics::{self, Arrived, Report, Worker};
use super::settings::{self, SettingsStatus};
use super::{exposition, process};
use crate::config::Balance;
use crate::metrics::LOG_DROPPED_LINES;
use crate::net::endpoint::Endpoint;
use crate::server::{EndpointCounts, Handle};
use crate::service::Service;

/// Facts about a server that its handle does not provide.
pub struct About {
    /// The services and their endpoints as bound.
    pub endpoints: Vec<(Service, Endpoint)>,
    /// The configured distribution of connections over the workers.
    pub balance: Balance,
    /// The distribution in effect at each endpoint.
    pub balances: Vec<Balance>,
    /// Returns the configuration in force. Called for each `/info`, because a reload may change it.
    pub configuration: Box<dyn Fn() -> Value + Send>,
    /// Returns what metrics tell of the settings in force. Called for each scrape.
    pub settings: Box<dyn Fn() -> SettingsStatus + Send>,
    /// What confines the process, as JSON.
    pub sandbox: Value,
    /// The host names that a request may give.
    pub hosts: HostNames,
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About")
            .field("endpoints", &self.endpoints)
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}

/// The pages about the server behind a [`Handle`].
#[derive(Debug)]
pub struct Status {
    handle: Handle,
    about: About,
    kernel: String,
    started_at: SystemTime,
    started: Instant,
    process_start: Option<Duration>,
}

impl Status {
    /// Measures the server's uptime from now.
    pub fn new(handle: Handle, about: About) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            handle,
            about,
            kernel: kernel.trim_end().to_owned(),
            started_at: SystemTime::now(),
            started: Instant::now(),
            process_start: process::start_time(),
        }
    }

    fn endpoint_counts(&self) -> Vec<(String, EndpointCounts)> {
        let endpoints = self.about.endpoints.iter();
        let counts = endpoints.zip(self.handle.endpoint_counts());
        counts
            .filter_map(|((_, endpoint), counts)| Some((endpoint.to_string(), counts?)))
            .collect()
    }

    fn arrivals(&self) -> Vec<Arrived> {
        let endpoints = self.about.endpoints.iter();
        let arrived = endpoints.zip(self.handle.arrivals());
        arrived
            .map(|((service, endpoint), count)| Arrived {
                service: *service,
                endpoint: endpoint.clone(),
                count,
            })
            .collect()
    }

    fn report(&self) -> Report {
        let workers = self.handle.workers().into_iter();
        let workers = workers.zip(self.handle.cpu_times());
        Report {
            version: env!("CARGO_PKG_VERSION"),
            readiness: self.readiness(),
            workers: workers
                .map(|(counters, cpu_time)| Worker { counters, cpu_time })
                .collect(),
            arrivals: self.arrivals(),
            endpoints: self.endpoint_counts(),
            log_dropped_lines: LOG_DROPPED_LINES.load(Ordering::Relaxed),
            settings: settings::families(&(self.about.settings)()),
            process: process::families(self.process_start),
        }
    }
}

impl Pages for Status {
    fn metrics(&self) -> String {
        exposition::text(&metrics::families(&self.report()))
    }

    fn info(&self) -> String {
        let report = self.report();
        let endpoints = self.about.endpoints.iter().zip(&self.about.balances);
        let endpoints = endpoints.zip(self.handle.faults());
        let endpoints = endpoints.map(|(((service, endpoint), balance), faults)| {
            json!({
                "service": service.to_string(),
                "endpoint": endpoint.to_string(),
                "balance": balance.name(),
                "faults": faults.map(|it| it.to_string()),
            })
        });
        let info = json!({
            "version": report.version,
            "kernel": self.kernel,
            "pid": std::process::id(),
            "started_at": humantime::format_rfc3339_millis(self.started_at).to_string(),
            "uptime_s": self.started.elapsed().as_secs_f64(),
            "draining": report.readiness == Readiness::Draining,
            "balance": self.about.balance.name(),
            "workers": report.workers.len(),
            "per_worker": report.workers.iter().map(metrics::worker_json).collect::<Value>(),
            "endpoints": endpoints.collect::<Value>(),
            "configuration": (self.about.configuration)(),
            "sandbox": self.about.sandbox,
            "counters": exposition::json(&metrics::families(&report)),
        });
        format!("{info:#}\n")
    }

    fn readiness(&self) -> Readiness {
        if self.handle.is_draining() {
            Readiness::Draining
        } else {
            Readiness::Ready
        }
    }

    fn is_known_host(&self, host: &str) -> bool {
        self.about.hosts.contain(host)
    }
}
