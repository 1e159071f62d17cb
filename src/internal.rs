//! Items for the program `echod` and for this repository's tests, benchmarks and fuzz targets. They
//! are not part of the public API and may change at any time.

use std::time::Duration;

pub use crate::conn::scratch::Scratch;
pub use crate::conn::{Conn, Next};
pub use crate::listen::{Inherited, Keeper};
pub use crate::metrics::WorkerMetrics;
pub use crate::net::sys::ReservingAllocator;
pub use crate::proxy_protocol::{
    Addresses, Begin, Header, MAX_HEADER_LEN as MAX_PROXY_HEADER_LEN, parse as parse_proxy_header,
};
pub use crate::server::{Alive, Heartbeat, Succession};
pub use crate::timer::Timers;

/// The delays that faults with a seed decide for the messages of a connection, from the first on. A
/// datagram is of connection 0.
pub fn delays(faults: &crate::Faults, connection: u64) -> impl Iterator<Item = Duration> {
    (0..).map(move |message| faults.delay_of(connection, message))
}

#[cfg(feature = "program")]
pub use crate::{
    admin::{
        About, Admin, AdminError, End, HostNames, MAX_HEAD_LEN, Pages, Parse, Readiness, Running,
        SettingsStatus, Status, respond,
    },
    process::{
        certificates::Certificates,
        failure::Failure,
        handover::{
            AdminSocket, Answer, Claim, Confirmed, Offer, Takeover, TakeoverError,
            inventory::{Inventory, InventoryError},
        },
        logging::Log,
        reload::Resolve,
        sandbox::{Confinement, ConfinementError, Files, enter},
        supervisor::serve,
    },
    settings::{
        Announce, Audience, Change, FILE_VARIABLE, Group, KEYS, Key, Kind, LogFormat, LogLevel,
        PREFIX, Resolved, SandboxMode, Settings, SettingsError, TlsFiles, UserName,
    },
};
