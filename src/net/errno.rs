//! What the errors of system calls mean.

use std::io;

use rustix::io::Errno;

/// Whether the kernel had no memory for the call just then: it may succeed later, and nothing was
/// lost.
pub fn is_lack_of_memory(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Whether the process or the system has as many open files as it may have.
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

/// Why accept(2) failed, as far as its manual page tells the errors apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AcceptError {
    /// The connection was reset while it waited.
    Econnaborted,
    /// Protocol error.
    Eproto,
    /// Firewall rules forbid the connection.
    Eperm,
    /// A pending network error, reported for the new connection.
    Enetdown,
    /// As [`AcceptError::Enetdown`].
    Enoprotoopt,
    /// As [`AcceptError::Enetdown`].
    Ehostdown,
    /// As [`AcceptError::Enetdown`].
    Enonet,
    /// As [`AcceptError::Enetdown`].
    Ehostunreach,
    /// As [`AcceptError::Enetdown`].
    Eopnotsupp,
    /// As [`AcceptError::Enetdown`].
    Enetunreach,
    /// The process has as many descriptors as it may have.
    Emfile,
    /// The system has as many open files as it may have.
    Enfile,
    /// No memory for the socket.
    Enobufs,
    /// No memory.
    Enomem,
    /// Any other errno.
    Other,
}

impl AcceptError {
    /// Every error, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::Econnaborted,
        Self::Eproto,
        Self::Eperm,
        Self::Enetdown,
        Self::Enoprotoopt,
        Self::Ehostdown,
        Self::Enonet,
        Self::Ehostunreach,
        Self::Eopnotsupp,
        Self::Enetunreach,
        Self::Emfile,
        Self::Enfile,
        Self::Enobufs,
        Self::Enomem,
        Self::Other,
    ];

    /// The name of the errno as in errno(3); `other` for [`AcceptError::Other`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Econnaborted => "ECONNABORTED",
            Self::Eproto => "EPROTO",
            Self::Eperm => "EPERM",
            Self::Enetdown => "ENETDOWN",
            Self::Enoprotoopt => "ENOPROTOOPT",
            Self::Ehostdown => "EHOSTDOWN",
            Self::Enonet => "ENONET",
            Self::Ehostunreach => "EHOSTUNREACH",
            Self::Eopnotsupp => "EOPNOTSUPP",
            Self::Enetunreach => "ENETUNREACH",
            Self::Emfile => "EMFILE",
            Self::Enfile => "ENFILE",
            Self::Enobufs => "ENOBUFS",
            Self::Enomem => "ENOMEM",
            Self::Other => "other",
        }
    }

    /// Whether accept(2) failed because of the one connection that it was about to return, so that
    /// the next call may succeed: its manual page lists these under "Error handling", besides
    /// ECONNABORTED. All others, a lack of descriptors or memory first of all, would fail again at
    /// once.
    pub const fn is_of_one_connection(self) -> bool {
        match self {
            Self::Econnaborted
            | Self::Eproto
            | Self::Eperm
            | Self::Enetdown
            | Self::Enoprotoopt
            | Self::Ehostdown
            | Self::Enonet
            | Self::Ehostunreach
            | Self::Eopnotsupp
            | Self::Enetunreach => true,
            Self::Emfile | Self::Enfile | Self::Enobufs | Self::Enomem | Self::Other => false,
        }
    }
}

impl From<&io::Error> for AcceptError {
    fn from(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::CONNABORTED) => Self::Econnaborted,
            Some(Errno::PROTO) => Self::Eproto,
            Some(Errno::PERM) => Self::Eperm,
            Some(Errno::NETDOWN) => Self::Enetdown,
            Some(Errno::NOPROTOOPT) => Self::Enoprotoopt,
            Some(Errno::HOSTDOWN) => Self::Ehostdown,
            Some(Errno::NONET) => Self::Enonet,
            Some(Errno::HOSTUNREACH) => Self::Ehostunreach,
            Some(Errno::OPNOTSUPP) => Self::Eopnotsupp,
            Some(Errno::NETUNREACH) => Self::Enetunreach,
            Some(Errno::MFILE) => Self::Emfile,
            Some(Errno::NFILE) => Self::Enfile,
            Some(Errno::NOBUFS) => Self::Enobufs,
            Some(Errno::NOMEM) => Self::Enomem,
            _ => Self::Other,
        }
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
        assert_eq!(AcceptError::from(&error(Errno::BADF)), AcceptError::Other);
        assert!(is_disconnect(&error(Errno::CONNRESET)));
        assert!(!is_disconnect(&error(Errno::BADF)));
    }
}
