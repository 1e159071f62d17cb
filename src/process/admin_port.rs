//! The admin port of the program: bound before the server, run beside it, passed to a successor.

use std::fs;
use std::os::fd::OwnedFd;

use super::failure::Failure;
use super::handover::Takeover;
use super::reload::SettingsInForce;
use super::sandbox::Confinement;
use crate::admin::{self, About, Admin, HostNames, Status};
use crate::config::Config;
use crate::error::Error;
use crate::net::endpoint::AdminAddress;
use crate::net::unix::SocketFile;
use crate::server::Server;
use crate::settings::Audience;

/// A running admin port.
pub(super) struct AdminPort {
    pub(super) address: AdminAddress,
    /// For a successor.
    pub(super) listener: OwnedFd,
    /// The file of a Unix socket, which a server without a successor removes.
    pub(super) file: Option<SocketFile>,
    /// Ends when it is dropped.
    _running: admin::Running,
}

/// Binds the admin port, if one is configured, or takes over the predecessor's.
pub(super) fn bind(
    config: &Config,
    takeover: Option<&mut Takeover>,
) -> Result<Option<Admin>, Failure> {
    let Some(address) = &config.admin else {
        return Ok(None);
    };
    let passed = takeover.and_then(|takeover| takeover.admin.take());
    let admin = match passed.map(Admin::adopt).transpose() {
        Ok(Some(admin)) if is_meant(address, admin.address()) => Ok(admin),
        Ok(_) => Admin::bind(address, config.unix_mode),
        Err(source) => Err(Error::Admin {
            address: address.clone(),
            source,
        }),
    };
    admin.map(Some).map_err(Failure::Server)
}

/// Starts to answer on the admin port.
pub(super) fn start(
    admin: Admin,
    server: &Server,
    in_force: &SettingsInForce,
    confinement: &Confinement,
) -> Result<AdminPort, Failure> {
    let (balance, hosts) = {
        let settings = in_force.lock();
        (settings.config.balance, host_names(&settings.config))
    };
    let in_force = in_force.clone();
    let audience = audience(admin.address());
    let status = Status::new(
        server.handle(),
        About {
            endpoints: server.endpoints().to_vec(),
            balance,
            balances: server.balances().to_vec(),
            configuration: Box::new(move || in_force.lock().to_json(audience)),
            sandbox: confinement.to_json(),
            hosts,
        },
    );
    Ok(AdminPort {
        address: admin.address().clone(),
        file: admin.file().cloned(),
        listener: admin
            .listener_to_pass()
            .map_err(|source| Failure::Server(Error::Handover(source)))?,
        _running: admin.start(status).map_err(Failure::Thread)?,
    })
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
fn host_names(config: &Config) -> HostNames {
    let Some(AdminAddress::Tcp(address)) = &config.admin else {
        return HostNames::Any;
    };
    let mut names = config.admin_hosts.clone();
    names.push(address.host.clone());
    // Without /proc, the name can be given by --admin-host.
    let own = fs::read_to_string("/proc/sys/kernel/hostname");
    names.extend(own.ok().map(|name| name.trim_end().to_owned()));
    HostNames::Only(names)
}
