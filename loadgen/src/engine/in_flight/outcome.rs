//! What becomes of a message.

/// A message whose first byte was handed to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// When it was to be sent.
    pub intended: u64,
    /// Whether its connection made it wait, and not this program alone.
    pub held: bool,
    /// Whether it counts: it was intended for the measured window.
    pub counted: bool,
}

/// A message whose echo is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// When it was to be sent.
    pub intended: u64,
    /// When the call began that handed its first byte to the kernel.
    pub write_began: u64,
    /// Its bytes.
    pub size: u32,
    /// Whether it counts: it was intended for the measured window.
    pub counted: bool,
}

/// Messages that were out and are given up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Abandoned {
    /// All of them, counted or not: places in the pipeline that are free again.
    pub places: usize,
    /// Counted ones that had been out for the timeout.
    pub timed_out: u64,
    /// The other counted ones.
    pub lost: u64,
}

/// Counted messages at the end of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Left {
    /// Handed to the kernel, and not back.
    pub out: u64,
    /// Never handed to the kernel.
    pub queued: u64,
}
