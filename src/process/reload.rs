//! Applies changed limits, access lists and certificates while the server runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::{error, info, warn};

use super::certificates::{self, Certificates};
use super::systemd;
use crate::admin::SettingsStatus;
use crate::server::Handle;
use crate::settings::{Resolved, Settings};
use crate::tls::ServerTls;

/// Reads the settings again; an error is one line that names the mistake.
pub type Resolve = Box<dyn Fn() -> Result<Resolved, String> + Send>;

/// The settings in force.
#[derive(Clone, Debug)]
pub(super) struct SettingsInForce {
    settings: Arc<Mutex<Settings>>,
    last_reload: Arc<Mutex<LastReload>>,
}

#[derive(Clone, Copy, Debug)]
struct LastReload {
    is_good: bool,
    /// When settings were last put in force.
    applied_at: SystemTime,
}

impl SettingsInForce {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(Mutex::new(settings)),
            last_reload: Arc::new(Mutex::new(LastReload {
                is_good: true,
                applied_at: SystemTime::now(),
            })),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// What metrics tell of them.
    pub(super) fn status(&self) -> SettingsStatus {
        let LastReload {
            is_good,
            applied_at,
        } = *lock(&self.last_reload);
        let settings = self.lock();
        SettingsStatus {
            limits: settings.config.limits.clone(),
            backlog_memory: settings.config.backlog_memory,
            is_last_reload_good: is_good,
            applied_at,
        }
    }

    fn note_refusal(&self) {
        lock(&self.last_reload).is_good = false;
    }

    fn note_success(&self) {
        *lock(&self.last_reload) = LastReload {
            is_good: true,
            applied_at: SystemTime::now(),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the settings again and applies those that may change in a running server.
pub(super) struct Reloader {
    pub(super) handle: Handle,
    pub(super) resolve: Resolve,
    pub(super) certificates: Certificates,
    pub(super) in_force: SettingsInForce,
}

impl Reloader {
    /// Applies the current flags, environment, file and certificates, or nothing if any of them is wrong.
    pub(super) fn reload(&self) {
        if self.handle.is_draining() {
            info!("draining; did not reload");
            return;
        }
        systemd::reloading();
        let read = (self.resolve)().and_then(|resolved| {
            let tls = self.certificates.read(&resolved.settings)?;
            Ok((resolved, tls))
        });
        match read {
            Err(mistake) => {
                self.in_force.note_refusal();
                error!(%mistake, "did not reload; the old settings stay");
            }
            Ok((resolved, tls)) => self.apply(resolved, tls),
        }
        systemd::ready();
    }

    fn apply(&self, resolved: Resolved, tls: Option<ServerTls>) {
        let has_endpoints = resolved.has_endpoints();
        let mut settings = resolved.settings;
        let mut in_force = self.in_force.lock();
        if in_force.config.services.is_empty() && !has_endpoints {
            // Passed sockets still replace the default endpoint.
            settings.config.services.clear();
        }
        let needing_restart = settings.needing_restart(&in_force).join(", ");
        match tls {
            Some(tls) => {
                certificates::announce(&tls, &settings.tls);
                self.handle.set_limits_and_tls(&settings.config.limits, tls);
            }
            None => self.handle.set_limits(&settings.config.limits),
        }
        in_force.config.take_faults(&settings.config);
        self.handle.set_faults(&in_force.config.faults);
        in_force.config.limits = settings.config.limits;
        in_force.tls = settings.tls;
        drop(in_force);
        self.in_force.note_success();
        if !needing_restart.is_empty() {
            warn!(settings = needing_restart, "need a restart to take effect");
        }
        info!("reloaded the limits and access lists");
    }
}
