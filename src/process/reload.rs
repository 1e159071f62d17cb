//! Applies changed limits and access lists while the server runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{error, info, warn};

use super::systemd;
use crate::server::Handle;
use crate::settings::{Resolved, Settings};

/// Reads the settings again; an error is one line that names the mistake.
pub type Resolve = Box<dyn Fn() -> Result<Resolved, String> + Send>;

/// The settings in force.
#[derive(Clone, Debug)]
pub(super) struct SettingsInForce(Arc<Mutex<Settings>>);

impl SettingsInForce {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(settings)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the settings again and applies those that may change in a running server.
pub(super) struct Reloader {
    pub(super) handle: Handle,
    pub(super) resolve: Resolve,
    pub(super) in_force: SettingsInForce,
}

impl Reloader {
    /// Applies the current flags, environment and file, or nothing if any of them is wrong.
    pub(super) fn reload(&self) {
        if self.handle.is_draining() {
            info!("draining; did not reload");
            return;
        }
        systemd::reloading();
        match (self.resolve)() {
            Err(mistake) => error!(%mistake, "did not reload; the old settings stay"),
            Ok(resolved) => self.apply(resolved),
        }
        systemd::ready();
    }

    fn apply(&self, resolved: Resolved) {
        let has_endpoints = resolved.has_endpoints();
        let mut settings = resolved.settings;
        let mut in_force = self.in_force.lock();
        if in_force.config.services.is_empty() && !has_endpoints {
            // Passed sockets still replace the default endpoint.
            settings.config.services.clear();
        }
        let needing_restart = settings.needing_restart(&in_force).join(", ");
        self.handle.set_limits(&settings.config.limits);
        in_force.config.limits = settings.config.limits;
        drop(in_force);
        if !needing_restart.is_empty() {
            warn!(settings = needing_restart, "need a restart to take effect");
        }
        info!("reloaded the limits and access lists");
    }
}
