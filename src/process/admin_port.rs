//! The admin port of the program: bound before the server, run beside it, passed to a successor.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::failure::Failure;
use super::handover::{AdminSocket, Takeover};
use super::reload::SettingsInForce;
use super::sandbox::Confinement;
use crate::admin::{self, About, Admin, AdminError, End, HostNames, Status};
use crate::error::Error;
use crate::net::endpoint::AdminAddress;
use crate::net::unix::SocketFile;
use crate::server::Server;
use crate::settings::{Audience, Settings};

/// A running admin port, if there is one. Dropping it answers the clients that have connected.
pub(super) struct AdminPort {
    running: Option<admin::Running>,
    /// For a successor; `None` once given up.
    listener: Mutex<Option<OwnedFd>>,
    /// The file of a Unix socket, unless another server has it.
    file: Mutex<Option<SocketFile>>,
}

/// Binds the admin port, if one is configured, or takes over the predecessor's.
pub(super) fn bind(
    settings: &Settings,
    takeover: Option<&mut Takeover>,
) -> Result<Option<Admin>, Failure> {
    let Some(address) = &settings.admin else {
        return Ok(None);
    };
    let passed = takeover.and_then(|takeover| takeover.admin.take());
    let admin = match passed.map(Admin::adopt).transpose() {
        Ok(Some(admin)) if is_meant(address, admin.address()) => Ok(admin),
        Ok(_) => Admin::bind(address, settings.config.unix_mode),
        // The predecessor was told to end just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Admin::bind(address, settings.config.unix_mode)
        }
        Err(source) => Err(AdminError {
            address: address.clone(),
            source,
        }),
    };
    admin.map(Some).map_err(Failure::Admin)
}

/// Starts to answer on the admin port.
pub(super) fn start(
    admin: Option<Admin>,
    server: &Server,
    in_force: &SettingsInForce,
    confinement: &Confinement,
) -> Result<AdminPort, Failure> {
    let Some(admin) = admin else {
        return Ok(AdminPort {
            running: None,
            listener: Mutex::default(),
            file: Mutex::default(),
        });
    };
    let (balance, hosts) = {
        let settings = in_force.lock();
        (settings.config.balance, host_names(&settings))
    };
    let (in_force, metered) = (in_force.clone(), in_force.clone());
    let audience = audience(admin.address());
    let status = Status::new(
        server.handle(),
        About {
            endpoints: server.endpoints().to_vec(),
            balance,
            balances: server.balances().to_vec(),
            configuration: Box::new(move || in_force.lock().to_json(audience)),
            settings: Box::new(move || metered.status()),
            sandbox: confinement.to_json(),
            hosts,
        },
    );
    let listener = admin
        .listener_to_pass()
        .map_err(|source| Failure::Server(Error::Handover(source)))?;
    Ok(AdminPort {
        file: Mutex::new(admin.file().cloned()),
        running: Some(admin.start(status).map_err(Failure::Thread)?),
        listener: Mutex::new(Some(listener)),
    })
}

impl AdminPort {
    /// Stops accepting, and leaves the socket and its file to another server. Returns at once.
    pub(super) fn leave(&self) {
        lock(&self.file).take();
        self.stop(End::Left);
    }

    fn stop(&self, end: End) {
        drop(lock(&self.listener).take());
        if let Some(running) = &self.running {
            running.stop(end);
        }
    }
}

impl AdminSocket for AdminPort {
    fn listener_to_pass(&self) -> Option<OwnedFd> {
        lock(&self.listener).as_ref()?.try_clone().ok()
    }

    fn give_up(&self) {
        if let Some(file) = lock(&self.file).take() {
            file.remove();
        }
        self.stop(End::Closed);
    }
}

impl Drop for AdminPort {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a listener is bound to the configured address.
fn is_meant(wanted: &AdminAddress, bound: &AdminAddress) -> bool {
    let (AdminAddress::Tcp(wanted), AdminAddress::Tcp(bound)) = (wanted, bound) else {
        return wanted == bound;
    };
    let (Ok(wanted), Ok(bound)) = (wanted.resolve(), bound.resolve()) else {
        return false;
    };
    wanted.iter().any(|it| {
        let is_port = |port| it.port() == port || it.port() == 0;
        bound.iter().any(|b| it.ip() == b.ip() && is_port(b.port()))
    })
}

/// Who can reach a bound address.
pub(super) fn audience(bound: &AdminAddress) -> Audience {
    let is_local = match bound {
        AdminAddress::Tcp(address) => address
            .resolve()
            .is_ok_and(|them| them.iter().all(|it| it.ip().to_canonical().is_loopback())),
        AdminAddress::Unix(_) => true,
    };
    if is_local {
        Audience::ThisMachine
    } else {
        Audience::Everybody
    }
}

/// The names by which a request may address the admin port.
fn host_names(settings: &Settings) -> HostNames {
    let Some(AdminAddress::Tcp(address)) = &settings.admin else {
        return HostNames::Any;
    };
    let mut names = settings.admin_hosts.clone();
    names.push(address.host.clone());
    // Without /proc, the name can be given by --admin-host.
    let own = fs::read_to_string("/proc/sys/kernel/hostname");
    names.extend(own.ok().map(|name| name.trim_end().to_owned()));
    HostNames::Only(names)
}
