//! The admin port of the program: bound before the server, run beside it, passed to a successor.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::failure::Failure;
use super::handover::Takeover;
use super::reload::SettingsInForce;
use crate::admin::{self, About, Admin, Status};
use crate::config::Config;
use crate::error::Error;
use crate::net::endpoint::HostPort;
use crate::server::Server;

/// A running admin port.
pub(super) struct AdminPort {
    pub(super) address: SocketAddr,
    /// For a successor.
    pub(super) listener: OwnedFd,
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
        Ok(Some(admin)) if is_meant(address, admin.local_addr()) => Ok(admin),
        Ok(_) => Admin::bind(address),
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
) -> Result<AdminPort, Failure> {
    let balance = in_force.lock().config.balance;
    let in_force = in_force.clone();
    let status = Status::new(
        server.handle(),
        About {
            endpoints: server.endpoints().to_vec(),
            balance,
            balances: server.balances().to_vec(),
            configuration: Box::new(move || in_force.lock().to_json()),
        },
    );
    Ok(AdminPort {
        address: admin.local_addr(),
        listener: admin
            .listener_to_pass()
            .map_err(|source| Failure::Server(Error::Handover(source)))?,
        _running: admin.start(status).map_err(Failure::Thread)?,
    })
}

/// Whether a listener is bound to the configured address.
fn is_meant(wanted: &HostPort, bound: SocketAddr) -> bool {
    wanted.resolve().is_ok_and(|addresses| {
        addresses
            .iter()
            .any(|it| it.ip() == bound.ip() && (it.port() == bound.port() || it.port() == 0))
    })
}
