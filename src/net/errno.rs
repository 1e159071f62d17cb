//! The meaning of system call errors.

use std::io;

use rustix::io::Errno;

/// Whether the kernel had no memory for the call: it may succeed later, and nothing was lost.
pub fn is_lack_of_memory(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Whether the process or the system has reached its limit of open files.
pub fn is_lack_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

/// Whether the peer or the network ended the connection, rather than this side.
pub fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNRESET
                | Errno::CONNABORTED
                | Errno::PIPE
                | Errno::TIMEDOUT
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::NETDOWN
                | Errno::HOSTDOWN
        )
    )
}

/// Whether a connect failed because every local port is in use for this source and destination
/// (connect(2), EADDRNOTAVAIL; `net.ipv4.ip_local_port_range`).
///
/// The error is the same if this machine has no source address for an IPv6 destination.
pub fn is_port_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Declares [`AcceptError`]: the variants, their errno and its name.
macro_rules! accept_errors {
    ($($(#[$doc:meta])* $variant:ident = $errno:ident $name:literal,)*) => {
        /// Why accept(2) failed: the errors that its manual page lists.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum AcceptError {
            $($(#[$doc])* $variant,)*
            /// Any other errno.
            Other,
        }

        impl AcceptError {
            /// Every error, in the order of their declaration.
            pub const ALL: [Self; [$($name,)* "other"].len()] = [$(Self::$variant,)* Self::Other];

            /// The name of the errno as in errno(3); `other` for [`AcceptError::Other`].
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "other",
                }
            }
        }

        impl From<&io::Error> for AcceptError {
            fn from(error: &io::Error) -> Self {
                match Errno::from_io_error(error) {
                    $(Some(Errno::$errno) => Self::$variant,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

accept_errors! {
    /// The connection was reset while it waited.
    Econnaborted = CONNABORTED "ECONNABORTED",
    /// Protocol error.
    Eproto = PROTO "EPROTO",
    /// Firewall rules forbid the connection.
    Eperm = PERM "EPERM",
    /// A pending network error, reported for the new connection.
    Enetdown = NETDOWN "ENETDOWN",
    /// As [`AcceptError::Enetdown`].
    Enoprotoopt = NOPROTOOPT "ENOPROTOOPT",
    /// As [`AcceptError::Enetdown`].
    Ehostdown = HOSTDOWN "EHOSTDOWN",
    /// As [`AcceptError::Enetdown`].
    Enonet = NONET "ENONET",
    /// As [`AcceptError::Enetdown`].
    Ehostunreach = HOSTUNREACH "EHOSTUNREACH",
    /// As [`AcceptError::Enetdown`].
    Eopnotsupp = OPNOTSUPP "EOPNOTSUPP",
    /// As [`AcceptError::Enetdown`].
    Enetunreach = NETUNREACH "ENETUNREACH",
    /// The process has reached its limit of descriptors.
    Emfile = MFILE "EMFILE",
    /// The system has reached its limit of open files.
    Enfile = NFILE "ENFILE",
    /// No memory for the socket.
    Enobufs = NOBUFS "ENOBUFS",
    /// No memory.
    Enomem = NOMEM "ENOMEM",
}

impl AcceptError {
    /// Whether accept(2) failed because of the one connection that it was about to return, so that
    /// the next call may succeed: ECONNABORTED, and the errors under "Error handling" in its manual
    /// page. After any other error, such as a lack of descriptors or memory, the next call would
    /// fail too.
    pub const fn is_of_one_connection(self) -> bool {
        !matches!(
            self,
            Self::Emfile | Self::Enfile | Self::Enobufs | Self::Enomem | Self::Other
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let error = |errno: Errno| io::Error::from(errno);
        let aborted = AcceptError::from(&error(Errno::CONNABORTED));
        assert_eq!(aborted, AcceptError::Econnaborted);
        assert!(aborted.is_of_one_connection());
        assert!(!AcceptError::from(&error(Errno::MFILE)).is_of_one_connection());
        let of_one = AcceptError::ALL.iter().filter(|e| e.is_of_one_connection());
        assert_eq!(of_one.count(), 10);
        assert_eq!(AcceptError::from(&error(Errno::BADF)), AcceptError::Other);
        assert!(is_disconnect(&error(Errno::CONNRESET)));
        assert!(!is_disconnect(&error(Errno::BADF)));
    }
}
