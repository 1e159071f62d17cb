//! What errors of sockets say about a server. Pure.

use std::io;

use echomark::net::errno;
use rustix::io::Errno;

use super::lane::{Failure, Outcome};
use crate::result::watch::OutageClass;

/// What an error of a connection or of a connect says about the probes on it, and what the client itself
/// lacks, if that is the reason.
pub(super) fn outcome(error: &io::Error) -> Result<Outcome, String> {
    match class(error) {
        Some(class) => Ok(failed(class, Some(error))),
        None => Err(error.to_string()),
    }
}

/// A probe that failed.
pub(super) fn failed(class: OutageClass, error: Option<&io::Error>) -> Outcome {
    Outcome::Failed(Failure {
        class,
        error: error.map(|error| error.to_string().into()),
    })
}

/// `None` if the client is the reason.
fn class(error: &io::Error) -> Option<OutageClass> {
    let is_of_the_client = errno::is_lack_of_descriptors(error)
        || errno::is_lack_of_memory(error)
        || errno::is_port_exhaustion(error);
    if is_of_the_client {
        return None;
    }
    Some(match Errno::from_io_error(error) {
        // A Unix socket's file that is not there has no listener either.
        Some(Errno::CONNREFUSED | Errno::NOENT) => OutageClass::Refused,
        Some(
            Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::NODEV
            // A packet filter, or a route that prohibits.
            | Errno::PERM
            | Errno::ACCESS,
        ) => OutageClass::Unreachable,
        // The queue of a Unix listener is full (unix(7)): it accepts nothing.
        Some(Errno::TIMEDOUT | Errno::AGAIN) => OutageClass::Timeout,
        None => match error.kind() {
            io::ErrorKind::ConnectionRefused => OutageClass::Refused,
            // TLS ended without a word.
            io::ErrorKind::UnexpectedEof => OutageClass::Closed,
            // TLS could not be agreed on, or was broken.
            io::ErrorKind::InvalidData => OutageClass::Wrong,
            _ => OutageClass::Reset,
        },
        _ => OutageClass::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_one_thing() {
        for (errno, class) in [
            (Errno::CONNREFUSED, OutageClass::Refused),
            (Errno::NOENT, OutageClass::Refused),
            (Errno::CONNRESET, OutageClass::Reset),
            (Errno::PIPE, OutageClass::Reset),
            (Errno::HOSTUNREACH, OutageClass::Unreachable),
            (Errno::NETUNREACH, OutageClass::Unreachable),
            (Errno::ACCESS, OutageClass::Unreachable),
            (Errno::TIMEDOUT, OutageClass::Timeout),
        ] {
            let error = io::Error::from(errno);
            let Ok(Outcome::Failed(failure)) = outcome(&error) else {
                panic!("{error}");
            };
            assert_eq!(failure.class, class, "{error}");
            assert_eq!(failure.error.as_deref(), Some(&*error.to_string()));
        }
    }

    #[test]
    fn what_the_client_lacks_is_not_the_servers() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::ADDRNOTAVAIL,
        ] {
            let error = io::Error::from(errno);
            assert_eq!(outcome(&error), Err(error.to_string()));
        }
    }
}
