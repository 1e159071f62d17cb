//! The life of the process around its server: inherited sockets, announcements, shutdown.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::thread;

use tracing::{error, info};

use super::admin_port;
use super::certificates::{self, Certificates};
use super::failure::{Failure, FirstFailure};
use super::logging::Log;
use super::reload::{Reloader, Resolve, SettingsInForce};
use super::replacement::{self, Prepared};
use super::sandbox::{self, Files, Identity};
use super::{signals, systemd, warnings};
use crate::admin::Admin;
use crate::net::endpoint::{AdminAddress, Endpoint};
use crate::server::{Handle, Server};
use crate::settings::{Announce, Resolved, Settings};

/// Serves until a signal, or a successor, ends it.
///
/// # Errors
/// [`Failure`] names the step that failed.
pub fn serve(
    resolved: Resolved,
    certificates: Certificates,
    resolve: Resolve,
    log: &mut Log,
) -> Result<(), Failure> {
    let has_endpoints = resolved.has_endpoints();
    let missing_limits = warnings::missing_limits(&resolved);
    let mut files = Files::default();
    files.read.extend(resolved.file);
    let mut settings = resolved.settings;
    files.read.extend(certificates::files(&settings.tls));
    settings.config.tls = certificates.tls();
    let user = settings.user.as_ref().map(Identity::look_up).transpose();
    let user = user.map_err(Failure::User)?;
    let config = &mut settings.config;
    warnings::warn_of_limits(config);

    // Inherit sockets, and bind the missing ones.
    let passed = systemd::passed_sockets(config).map_err(Failure::Passed)?;
    if !passed.is_empty() && !has_endpoints {
        // Passed sockets replace the default endpoint.
        config.services.clear();
    }
    let Prepared {
        server,
        admin,
        role,
    } = replacement::prepare(&settings, &passed)?;
    drop(passed);
    if let Some(tls) = &settings.config.tls {
        certificates::announce(tls, &settings.tls);
    }
    warnings::warn_of_admin(admin.as_ref());
    warnings::warn_of_reflection(&settings.config.limits, server.endpoints());
    warnings::warn_of_missing_limits(&missing_limits, server.endpoints());

    // Give privileges up while there is one thread: all others inherit what it may do.
    files.sockets = socket_files(&server, admin.as_ref(), &settings);
    let confinement =
        sandbox::confine(user.as_ref(), settings.sandbox, &files).map_err(Failure::Confinement)?;

    // Start the threads beside the server.
    log.start_writing().map_err(Failure::Thread)?;
    let handle = server.handle();
    let in_force = SettingsInForce::new(settings);
    let announced = in_force.lock().announce;
    let announcement = Announcement::of(&server, admin.as_ref().map(Admin::address));
    let admin = Arc::new(admin_port::start(admin, &server, &in_force, &confinement)?);
    let failure = FirstFailure::default();
    let reloader = Reloader {
        handle: handle.clone(),
        resolve,
        certificates,
        in_force,
    };
    // Before any report of readiness, which may bring the first signal.
    let replacement = signals::handle_signals(handle.clone(), reloader)
        .and_then(|()| systemd::keep_watchdog(handle.clone()))
        .and_then(|()| announcement.make(announced, handle.clone(), failure.clone()))
        .and_then(|()| replacement::start(handle, role, Arc::clone(&admin), failure.clone()))
        .map_err(Failure::Thread)?;

    // Run. At the end the hand-over socket's file is removed and the last scrapes are answered.
    let total = server.run().map_err(Failure::Server);
    if replacement.join().is_err() {
        error!("the thread for replacements panicked");
    }
    drop(admin);
    let total = total?;
    failure.take().map_or(Ok(()), Err)?;
    info!(
        accepted = total.accepted,
        received_bytes = total.received_bytes,
        sent_bytes = total.sent_bytes,
        "stopped"
    );
    Ok(())
}

/// The files of Unix sockets, which are removed at the end.
fn socket_files(server: &Server, admin: Option<&Admin>, settings: &Settings) -> Vec<PathBuf> {
    let admin = admin.map(|admin| admin.address().as_endpoint());
    let endpoints = server.endpoints().iter().map(|(_, endpoint)| endpoint);
    let paths = endpoints
        .chain(&admin)
        .filter_map(|endpoint| match endpoint {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Udp(_) => None,
        });
    paths.chain(&settings.handover).cloned().collect()
}

/// What a started server tells: where it listens.
struct Announcement {
    endpoints: Vec<String>,
    admin: Option<String>,
    workers: usize,
}

impl Announcement {
    fn of(server: &Server, admin: Option<&AdminAddress>) -> Self {
        let endpoints = server.endpoints().iter();
        Self {
            endpoints: endpoints
                .map(|(service, endpoint)| format!("{service} {endpoint}"))
                .collect(),
            admin: admin.map(AdminAddress::url),
            workers: server.handle().workers().len(),
        }
    }

    /// One line in the log, and on stdout, if it is wanted there, the lines that scripts wait for.
    fn make(self, announce: Announce, handle: Handle, failure: FirstFailure) -> io::Result<()> {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            pid = process::id(),
            workers = self.workers,
            endpoints = self.endpoints.join(", "),
            admin = self.admin,
            "started"
        );
        match announce {
            Announce::Stdout => print(self.lines(), handle, failure),
            Announce::Off => Ok(()),
        }
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        for endpoint in &self.endpoints {
            lines += &format!("listening {endpoint}\n");
        }
        if let Some(url) = &self.admin {
            lines += &format!("listening admin {url}\n");
        }
        lines + "ready\n"
    }
}

/// Writes to stdout in a thread of its own, so that a stalled reader delays nothing. If stdout is
/// closed, no script waits; any other error would leave a script waiting, so it ends the server.
fn print(lines: String, handle: Handle, failure: FirstFailure) -> io::Result<()> {
    thread::Builder::new()
        .name("echod-announce".to_owned())
        .spawn(move || {
            let written = io::stdout().lock().write_all(lines.as_bytes());
            if let Err(error) = written
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                failure.note(Failure::Announce(error));
                handle.stop();
            }
        })?;
    Ok(())
}
