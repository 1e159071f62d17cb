//! The addresses of the watched targets.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;

use crate::error::RunError;
use crate::observer::Control;
use crate::run::addresses::unless_stopped;

/// How long each of several addresses may take to accept.
const MAX_TRIAL: Duration = Duration::from_secs(1);

/// A target's address, after name resolution.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// One address for each target. `None` if the user stopped the watch.
///
/// # Errors
/// A name has no address.
pub(super) fn resolve(
    targets: &[Endpoint],
    control: &Control,
) -> Result<Option<Vec<Address>>, RunError> {
    let targets = targets.to_vec();
    let addresses = unless_stopped(control, move || targets.iter().map(address_of).collect())?;
    addresses.transpose()
}

fn address_of(target: &Endpoint) -> Result<Address, RunError> {
    if let Endpoint::Unix(path) = target {
        return Ok(Address::Unix(path.clone()));
    }
    let fail = |source| RunError::Resolve {
        target: target.clone(),
        source,
    };
    let addresses = target.resolve().map_err(fail)?;
    let first = addresses[0];
    Ok(match target {
        Endpoint::Udp(_) => Address::Udp(first),
        _ => Address::Tcp(accepting(&addresses).unwrap_or(first)),
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
