//! The protocol of a replacement as one state machine with two sides. It is pure: events in, actions
//! out, no socket and no clock. `offer` and `takeover` carry the actions out. The picture is in
//! ARCHITECTURE.md.
//!
//! What makes it safe:
//! - A predecessor serves until its successor has reported that it serves.
//! - A successor serves nothing before it was granted the sockets.
//! - Only the predecessor takes a grant back, and only by a word. So the end of the connection
//!   without a word means that the other process is gone.

use crate::server::Standing;

/// The predecessor's side of one connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Predecessor {
    /// Nothing was passed on.
    AwaitingHello,
    /// The successor has descriptors and may not use them.
    AwaitingTaken,
    /// The successor may serve. So does this server.
    AwaitingServing,
    /// The successor serves. So does this server, until the last word is sent.
    Releasing,
    /// The connection can be closed.
    Over,
}

/// An event at the predecessor's side of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum OfferEvent {
    /// The successor speaks this protocol.
    Hello(Standing),
    /// It says which sockets it takes. The grant is made if this server can make one.
    Taken(Standing),
    /// It serves.
    Serving,
    /// The last word was sent.
    Sent,
    /// It sent something else.
    Malformed,
    /// The connection ended.
    Closed,
    /// The deadline of the state has passed.
    TimedOut,
    /// This server was told to end.
    ToldToEnd,
}

/// An action of the predecessor.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum OfferAction {
    Nothing,
    SendOffer,
    SendGranted,
    SendReleased,
    /// Leaves the sockets to the successor, and drains.
    Release,
    /// This server keeps its sockets after all.
    Reclaim,
    /// Refuses, and keeps its sockets after all.
    RefuseAndReclaim,
    Refuse,
    /// Says that another successor is taking over.
    SendBusy,
    /// Says that this server is ending, and gives its addresses up soon.
    SendEnding,
}

impl Predecessor {
    pub(super) fn on(self, event: OfferEvent) -> (Self, OfferAction) {
        use OfferAction::{
            Nothing, Reclaim, Refuse, RefuseAndReclaim, Release, SendBusy, SendEnding, SendGranted,
            SendOffer, SendReleased,
        };
        use OfferEvent::{Closed, Hello, Malformed, Sent, Serving, Taken, TimedOut, ToldToEnd};
        match (self, event) {
            (Self::AwaitingHello, Hello(Standing::Serving)) => (Self::AwaitingTaken, SendOffer),
            (Self::AwaitingTaken, Taken(Standing::Serving)) => (Self::AwaitingServing, SendGranted),
            (Self::AwaitingHello, Hello(Standing::Ending))
            | (Self::AwaitingTaken, Taken(Standing::Ending) | ToldToEnd) => {
                (Self::Over, SendEnding)
            }
            (Self::AwaitingHello, Hello(Standing::Busy))
            | (Self::AwaitingTaken, Taken(Standing::Busy)) => (Self::Over, SendBusy),
            (Self::AwaitingServing, Serving) => (Self::Releasing, SendReleased),
            (Self::Releasing, Sent) => (Self::Over, Release),

            // It may be a stranger, who learns nothing: a hello decides.
            (Self::AwaitingHello, ToldToEnd)
            // The decision is near. The drain waits for it.
            | (Self::AwaitingServing | Self::Releasing, ToldToEnd) => (self, Nothing),

            (Self::AwaitingServing | Self::Releasing, Closed) => (Self::Over, Reclaim),
            (Self::AwaitingServing | Self::Releasing, _) => (Self::Over, RefuseAndReclaim),
            (Self::AwaitingHello | Self::AwaitingTaken, Closed) | (Self::Over, _) => {
                (Self::Over, Nothing)
            }
            (Self::AwaitingHello | Self::AwaitingTaken, TimedOut | Malformed | Sent | Serving)
            | (Self::AwaitingHello, Taken(_))
            | (Self::AwaitingTaken, Hello(_)) => (Self::Over, Refuse),
        }
    }
}

/// The successor's side.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Successor {
    AwaitingOffer,
    /// It binds what it lacks. Nothing is served.
    Preparing,
    /// It could serve.
    AwaitingGrant,
    /// It starts its workers. So does the predecessor serve.
    Starting,
    /// As [`Successor::Starting`], but the predecessor is gone.
    StartingAlone,
    /// Both serve.
    AwaitingRelease,
    /// It is the only server.
    Owner,
    /// It takes nothing over.
    Over,
}

/// An event at the successor's side.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum TakeoverEvent {
    Offered,
    /// All sockets are bound.
    Prepared,
    Granted,
    /// The workers serve.
    Serving,
    Released,
    Refused,
    /// Another successor is taking over.
    Busy,
    /// The predecessor was told to end.
    Ending,
    /// The connection ended without a word: the predecessor is gone.
    Closed,
    /// The predecessor did not answer in time.
    TimedOut,
    /// This server was told to end.
    ToldToEnd,
}

/// An action of the successor.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum TakeoverAction {
    Nothing,
    /// Binds what is missing.
    Prepare,
    SendTaken,
    /// Starts the workers.
    Start,
    SendServing,
    /// The sockets are this server's.
    Own,
    /// Leaves the sockets to the predecessor, and ends.
    Leave,
    /// Starts as if there were no predecessor.
    StartAfresh,
    /// Asks again a little later.
    AskAgain,
    /// Ends with an error.
    Fail,
    /// Leaves the sockets to the predecessor, and ends with an error.
    LeaveAndFail,
}

impl Successor {
    pub(super) fn on(self, event: TakeoverEvent) -> (Self, TakeoverAction) {
        use TakeoverAction::{
            AskAgain, Fail, Leave, LeaveAndFail, Nothing, Own, Prepare, SendServing, SendTaken,
            Start, StartAfresh,
        };
        use TakeoverEvent::{
            Busy, Closed, Ending, Granted, Offered, Prepared, Released, Serving, TimedOut,
            ToldToEnd,
        };
        match (self, event) {
            (Self::AwaitingOffer, Offered) => (Self::Preparing, Prepare),
            (Self::Preparing, Prepared) => (Self::AwaitingGrant, SendTaken),
            (Self::AwaitingGrant, Granted) => (Self::Starting, Start),
            (Self::AwaitingGrant, Closed) => (Self::StartingAlone, Start),
            (Self::Starting, Serving) => (Self::AwaitingRelease, SendServing),
            (Self::AwaitingRelease, Released | Closed) => (Self::Owner, Own),
            (Self::StartingAlone, Serving | ToldToEnd) => (Self::Owner, Own),

            (Self::AwaitingOffer, Ending | Closed) | (Self::AwaitingGrant, Ending) => {
                (Self::Over, StartAfresh)
            }
            (Self::AwaitingOffer | Self::AwaitingGrant, Busy) => (Self::Over, AskAgain),
            (Self::Starting, ToldToEnd) | (Self::AwaitingRelease, TimedOut) => (Self::Over, Leave),
            // The predecessor's answer decides who empties the sockets.
            (Self::AwaitingRelease, ToldToEnd) => (self, Nothing),
            (Self::Owner | Self::Over, _) => (self, Nothing),
            (Self::Starting | Self::AwaitingRelease, _) => (Self::Over, LeaveAndFail),
            (
                Self::AwaitingOffer | Self::Preparing | Self::AwaitingGrant | Self::StartingAlone,
                _,
            ) => (Self::Over, Fail),
        }
    }
}

#[cfg(test)]
mod tests;
