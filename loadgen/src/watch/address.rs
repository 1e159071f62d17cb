//! The addresses of the watched targets.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use echomark::tls::Connector;

use crate::error::RunError;
use crate::observer::Control;
use crate::plan::watch::WatchPlan;
use crate::run::addresses::unless_stopped;
use crate::run::tls::Tls;

/// How long each of several addresses may take to accept.
const MAX_TRIAL: Duration = Duration::from_secs(1);

/// A target's address, after name resolution.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Tls(SocketAddr, Connector),
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// One address for each target. `None` if the user stopped the watch.
///
/// # Errors
/// A name has no address, or TLS is not possible as it is asked for.
pub(super) fn resolve(
    plan: &WatchPlan,
    control: &Control,
) -> Result<Option<Vec<Address>>, RunError> {
    let targets = plan.targets.clone();
    let tls = Tls::load(&targets, &plan.tls)?;
    let addresses = unless_stopped(control, move || {
        let addresses = targets.iter();
        addresses.map(|it| address_of(it, tls.as_ref())).collect()
    })?;
    addresses.transpose()
}

fn address_of(target: &Endpoint, tls: Option<&Tls>) -> Result<Address, RunError> {
    if let Endpoint::Unix(path) = target {
        return Ok(Address::Unix(path.clone()));
    }
    let fail = |source| RunError::Resolve {
        target: target.clone(),
        source,
    };
    let addresses = target.resolve().map_err(fail)?;
    let first = addresses[0];
    let accepting = || accepting(&addresses).unwrap_or(first);
    Ok(match (target, tls) {
        (Endpoint::Udp(_), _) => Address::Udp(first),
        (Endpoint::Tls(server), Some(tls)) => {
            Address::Tls(accepting(), tls.connector(&server.host)?)
        }
        _ => Address::Tcp(accepting()),
    })
}

/// Of several addresses the first that accepts, as other clients choose. A target that is down is watched all
/// the same.
fn accepting(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    if addresses.len() < 2 {
        return None;
    }
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, MAX_TRIAL).is_ok();
    addresses.iter().find(accepts).copied()
}
