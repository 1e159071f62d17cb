//! What is counted. A count is declared once: its name in the result and in every report, what it means,
//! how it is recorded and how it adds up.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Declares [`Counts`], and the parts of it that a result stores, each with:
/// - a sum;
/// - `From<&Counts>`, which leaves what stands behind `besides` at 0;
/// - `named`, all values with their names and meanings, for reports.
macro_rules! counts {
    (
        $(
            $(#[$part_doc:meta])*
            struct $Part:ident {
                $(#[doc = $meaning:literal] $(#[serde($serde:ident)])? $name:ident,)*
                $(besides $(#[doc = $other_meaning:literal] $other:ident,)*)?
            }
        )*
        not_stored {
            $($(#[$unstored_doc:meta])* $unstored:ident,)*
        }
        $(#[$interval_doc:meta])*
        interval $Interval:ident {
            $(#[doc = $within_meaning:literal] $(#[serde($within_serde:ident)])? $within:ident,)*
        }
    ) => {
        /// The recorded counts. Messages are those intended for the window
        /// unless told otherwise.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Counts {
            $($(#[doc = $meaning] pub $name: u64,)*)*
            $($(#[$unstored_doc])* pub $unstored: u64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $($(self.$name += other.$name;)*)*
                $(self.$unstored += other.$unstored;)*
            }
        }

        $(
            $(#[$part_doc])*
            #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
            #[cfg_attr(test, derive(schemars::JsonSchema))]
            pub struct $Part {
                $(#[doc = $meaning] $(#[serde($serde)])? pub $name: u64,)*
                $($(#[doc = $other_meaning] pub $other: u64,)*)?
            }

            impl $Part {
                /// Each count with its name and what it means.
                pub(crate) fn named(&self) -> Vec<(&'static str, &'static str, u64)> {
                    vec![
                        $((stringify!($name), $meaning.trim_ascii(), self.$name),)*
                        $($((stringify!($other), $other_meaning.trim_ascii(), self.$other),)*)?
                    ]
                }
            }

            impl From<&Counts> for $Part {
                fn from(counts: &Counts) -> Self {
                    Self {
                        $($name: counts.$name,)*
                        $($($other: 0,)*)?
                    }
                }
            }

            impl AddAssign for $Part {
                fn add_assign(&mut self, other: Self) {
                    $(self.$name += other.$name;)*
                    $($(self.$other += other.$other;)*)?
                }
            }
        )*

        $(#[$interval_doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub struct $Interval {
            $(#[doc = $within_meaning] $(#[serde($within_serde)])? pub $within: u64,)*
        }

        impl $Interval {
            /// The keys of the counts, and their paths in the result.
            pub(crate) const KEYS: &[(&str, &str)] =
                &[$((stringify!($within), concat!("/", stringify!($within))),)*];
        }

        impl From<&Counts> for $Interval {
            fn from(counts: &Counts) -> Self {
                Self { $($within: counts.$within,)* }
            }
        }

        impl AddAssign for $Interval {
            fn add_assign(&mut self, other: Self) {
                $(self.$within += other.$within;)*
            }
        }
    };
}

counts! {
    /// Outcomes of the messages intended for the window:
    /// `sent = received + lost + timed_out + abandoned + unfinished` and `received = verified + corrupt`,
    /// unless verification is off.
    struct Messages {
        /// First byte handed to the kernel.
        sent,
        /// Echo complete.
        received,
        /// Echo complete and right.
        verified,
        /// Echo complete and wrong.
        corrupt,
        // Of datagrams, those that did not come back within the timeout.
        /// Out when their connection ended, or a datagram that did not come back.
        lost,
        // Over a stream: times that more came back than had been sent; the connection is then ended.
        /// Came back again.
        duplicated,
        // RFC 4737. Always 0 over a stream: a server that swaps messages shows as corruption.
        /// Came back after a later one.
        reordered,
        // They stay lost.
        /// Came back after they were given up.
        late,
        /// Answer nothing that was sent.
        stray,
        /// Due and never handed to the kernel.
        unsent,
        /// Still out at the end.
        unfinished,
        // During the window; their connection was ended.
        /// Out for the timeout.
        timed_out,
        // The server may have answered them yet: the client ended their connection. Results of earlier versions
        // counted them as lost.
        /// Behind one that timed out, on a connection that was ended for that.
        #[serde(default)]
        abandoned,
    }

    /// Connections over the whole run, set-up and warm-up included.
    struct Connections {
        /// Stood.
        opened,
        /// Could not be made.
        failed,
        /// Could not be made because this host had no port left.
        out_of_ports,
        /// Reset or broken.
        reset,
        /// Ended by the server in good order.
        closed_by_peer,
        /// Not closed by the server in time.
        unclosed,
        // They count as lost.
        /// Datagrams that the target refused: no socket was bound there.
        refused,
        besides
        /// Standing at the end.
        held,
    }

    not_stored {
        /// Messages that the schedule or an answer made due.
        issued,
        /// Corrupt messages of the warm-up.
        corrupt_in_warm_up,
        /// Verified datagrams that came back again with a wrong byte. Each is counted once.
        wrong_copies,
        /// Echoes that were complete within the window, whenever their message was intended.
        completed,
        /// TLS handshakes that were complete and resumed nothing,
        full_handshakes,
        /// that resumed an earlier session,
        resumed_handshakes,
        /// and that failed.
        failed_handshakes,
        /// Connections with TLS that the server ended without close_notify.
        truncated,
        /// Payload bytes handed to the kernel within the window.
        bytes_out,
        /// Payload bytes that came back within the window; in a stream to the server, those that its
        /// TCP acknowledged.
        bytes_in,
        /// Payload bytes of messages of the window handed to the kernel.
        bytes_sent,
        /// Payload bytes of messages of the window that came back.
        bytes_received,
    }

    /// The counts of one interval, by the time at which things happened.
    interval IntervalCounts {
        /// Messages handed to the kernel.
        sent,
        /// Echoes complete.
        received,
        /// Messages whose connection ended, and datagrams that did not come back.
        lost,
        /// Messages given up after the timeout.
        timed_out,
        /// Messages behind one that was given up.
        #[serde(default)]
        abandoned,
        /// Datagrams that came back again.
        duplicated,
        /// Datagrams that came back after a later one.
        reordered,
    }
}

impl Counts {
    /// The counts of the whole run, in which a message of which a copy was wrong is corrupt and not
    /// verified. An interval can't tell: the message may have been verified in an earlier one.
    pub(crate) fn with_wrong_copies(self) -> Self {
        Self {
            verified: self.verified - self.wrong_copies,
            corrupt: self.corrupt + self.wrong_copies,
            wrong_copies: 0,
            ..self
        }
    }
}

impl Messages {
    /// Those that were due and did not come back as they were sent.
    pub fn failed(&self) -> u64 {
        self.lost + self.timed_out + self.abandoned + self.unfinished + self.unsent + self.corrupt
    }
}
