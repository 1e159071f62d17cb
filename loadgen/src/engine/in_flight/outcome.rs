//! The outcomes of a message.

/// A message whose first byte was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// Its intended send time.
    pub intended: u64,
    /// Whether it had to wait for its connection, not only for the client.
    pub held: bool,
    /// Whether it counts: its intended time is in the measured window.
    pub counted: bool,
}

/// A message whose echo is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// Its intended send time.
    pub intended: u64,
    /// The start of the call that wrote its first byte.
    pub write_began: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Whether it counts: its intended time is in the measured window.
    pub counted: bool,
}

/// Outstanding messages that were given up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unanswered {
    /// All of them, counted or not: the freed slots of the pipeline.
    pub places: usize,
    /// Counted messages that reached the timeout.
    pub timed_out: u64,
    /// Counted messages that the peer can't answer any more: it ended the connection, or did not answer a datagram.
    pub lost: u64,
    /// Counted messages behind one that reached the timeout, on a connection that is ended for that.
    pub abandoned: u64,
}

/// Why a connection with outstanding messages ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Restart {
    /// Not by this side's decision.
    Lost,
    /// A message timed out, and so did all whose write began at or before this time.
    TimedOut(u64),
}

/// Counted messages at the end of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Left {
    /// Written, but not back.
    pub out: u64,
    /// Never written.
    pub queued: u64,
}
