//! Applying changed limits, for the open connections too.

use super::connections::Connections;
use super::context::Context;
use super::datagrams::DatagramTable;
use super::kernel::Kernel;

/// The version of the limits that this worker applies.
#[derive(Debug)]
pub(super) struct Reload {
    version: u64,
}

impl Reload {
    /// The worker's first limits are those of [`Context::new`].
    pub(super) fn new<K: Kernel>(cx: &Context<K>) -> Self {
        Self {
            version: cx.control.rules_version(),
        }
    }

    /// Applies the limits in force if they changed. This comes before accepting: the new limits
    /// apply to a client that connects after the change.
    pub(super) fn apply<K: Kernel>(
        &mut self,
        connections: &mut Connections<K::Stream>,
        datagrams: Option<&mut DatagramTable<K::Datagrams>>,
        cx: &mut Context<K>,
    ) {
        let version = cx.control.rules_version();
        if version == self.version {
            return;
        }
        self.version = version;
        cx.rules = cx.control.rules();
        connections.apply_timeouts(cx);
        if let Some(datagrams) = datagrams {
            datagrams.apply_faults(cx);
        }
    }
}
