//! Why a server and a client don't come together, as the client sees it.

use std::fmt;

use rustls::{
    AlertDescription, CertificateError, Error, HandshakeType, InvalidMessage, PeerIncompatible,
};

use super::failure::Failure;

/// Why a client has no connection by TLS: what it refuses of the server, or the server of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The server's certificate is of no authority that is trusted.
    UnknownAuthority,
    /// It is for another name.
    WrongName,
    /// Its time of validity is over.
    Expired,
    /// Its time of validity has not begun.
    NotYetValid,
    /// It can't be used otherwise.
    BadCertificate,
    /// Neither side has a version of TLS that the other allows.
    NoCommonVersion,
    /// What the server sends is no TLS.
    NotTls,
    /// The server closed the connection before it had sent a byte.
    NoAnswer,
    /// The handshake took longer than allowed.
    Silent,
    /// The server closed the connection in the middle of the handshake.
    Closed,
    /// The server wants a certificate, and got none.
    CertificateRequired,
    /// The server does not accept the certificate that it got.
    CertificateRefused,
    /// The server has no certificate for the name.
    UnknownName,
    /// The server sent an alert, with this number (RFC 8446, B.2).
    Alert(u8),
    /// One of both broke the rules of TLS.
    Broken,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    /// A clause about the server, "it".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAuthority => "its certificate is of no trusted authority",
            Self::WrongName => "its certificate is for another name",
            Self::Expired => "its certificate is expired",
            Self::NotYetValid => "its certificate is not valid yet",
            Self::BadCertificate => "its certificate is of no use",
            Self::NoCommonVersion => "it speaks no version of TLS that is allowed here",
            Self::NotTls => "it does not speak TLS",
            Self::NoAnswer => "it closes the connection without a word of TLS",
            Self::Silent => "it did not complete the TLS handshake in time",
            Self::Closed => "it closed the connection in the middle of the TLS handshake",
            Self::CertificateRequired => "it wants a certificate of its clients",
            Self::CertificateRefused => "it does not accept this client's certificate",
            Self::UnknownName => "it has no certificate for the name",
            Self::Alert(number) => return write!(f, "it sent the TLS alert {}", name(*number)),
            Self::Broken => "the rules of TLS were broken",
        })
    }
}

/// The name of an alert as RFC 8446 writes it, or its number.
fn name(alert: u8) -> String {
    let name = match AlertDescription::from(alert) {
        AlertDescription::Unknown(number) => return number.to_string(),
        alert => format!("{alert:?}"),
    };
    let mut words = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

impl From<&Failure> for Refusal {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::NoData => Self::NoAnswer,
            Failure::Closed | Failure::Truncated => Self::Closed,
            Failure::Tls(error) => Self::from(error),
        }
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )
            | Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::NoCommonVersion,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::NotTls,
            // Our own words: an echo without TLS.
            Error::InappropriateHandshakeMessage {
                got_type: HandshakeType::ClientHello,
                ..
            } => Self::NotTls,
            Error::AlertReceived(alert) => of_alert(*alert),
            _ => Self::Broken,
        }
    }
}

fn of_certificate(error: &CertificateError) -> Refusal {
    match error {
        // One that names a trusted authority and is not signed by it is of another one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Refusal::UnknownAuthority
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Refusal::WrongName
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Refusal::NotYetValid
        }
        // One for authorities is its own, and a known one would have been accepted.
        CertificateError::Other(other)
            if matches!(
                other.0.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ) =>
        {
            Refusal::UnknownAuthority
        }
        _ => Refusal::BadCertificate,
    }
}

fn of_alert(alert: AlertDescription) -> Refusal {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            Refusal::CertificateRequired
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => Refusal::CertificateRefused,
        AlertDescription::UnrecognisedName => Refusal::UnknownName,
        alert => Refusal::Alert(alert.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names() {
        assert_eq!(name(40), "handshake_failure");
        assert_eq!(name(80), "internal_error");
        assert_eq!(name(199), "199");
    }

    #[test]
    fn errors_are_told_apart() {
        let alert = |alert| Error::AlertReceived(alert);
        for (error, refusal) in [
            (
                CertificateError::UnknownIssuer.into(),
                Refusal::UnknownAuthority,
            ),
            (
                CertificateError::BadSignature.into(),
                Refusal::UnknownAuthority,
            ),
            (
                CertificateError::BadEncoding.into(),
                Refusal::BadCertificate,
            ),
            (
                alert(AlertDescription::ProtocolVersion),
                Refusal::NoCommonVersion,
            ),
            (
                alert(AlertDescription::CertificateRequired),
                Refusal::CertificateRequired,
            ),
            (
                alert(AlertDescription::UnknownCA),
                Refusal::CertificateRefused,
            ),
            (alert(AlertDescription::InternalError), Refusal::Alert(80)),
            (InvalidMessage::InvalidContentType.into(), Refusal::NotTls),
            (Error::DecryptError, Refusal::Broken),
        ] {
            assert_eq!(Refusal::from(&Failure::Tls(error)), refusal);
        }
    }
}
