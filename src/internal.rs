//! Items for the program `echod` and for this repository's tests, benchmarks and fuzz targets. They
//! are not part of the public API and may change at any time.

pub use crate::admin::{About, Admin, AdminError, End, HostNames, Running, Status};
pub use crate::admin::{MAX_HEAD_LEN, Pages, Parse, Readiness, respond};
pub use crate::conn::scratch::Scratch;
pub use crate::conn::{Conn, Next};
pub use crate::listen::{Inherited, Keeper};
pub use crate::metrics::WorkerMetrics;
pub use crate::process::failure::Failure;
pub use crate::process::handover::inventory::{Inventory, InventoryError};
pub use crate::process::handover::{
    AdminSocket, Answer, Claim, Confirmed, Offer, Takeover, TakeoverError,
};
pub use crate::process::logging::Log;
pub use crate::process::reload::Resolve;
pub use crate::process::sandbox::{Confinement, ConfinementError, Files, enter};
pub use crate::process::supervisor::serve;
pub use crate::server::{Alive, Heartbeat, Succession};
pub use crate::settings::{
    Audience, Change, FILE_VARIABLE, Group, KEYS, Key, Kind, LogFormat, LogLevel, PREFIX, Resolved,
    SandboxMode, Settings, SettingsError, UserName,
};
pub use crate::timer::Timers;
