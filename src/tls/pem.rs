//! What PEM files hold, and what is wrong with them.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a [`TlsError`] is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The own certificate, with those that lead to its authority.
    Certificate,
    /// The private key.
    Key,
    /// The authorities of clients.
    ClientAuthorities,
    /// The authorities of servers.
    ServerAuthorities,
}

/// A certificate, a key or authorities that can't be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsError {
    /// What is wrong.
    pub part: Part,
    /// Why, in a few words.
    pub problem: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Certificate => "the certificate",
            Part::Key => "the key",
            Part::ClientAuthorities => "the authorities of clients",
            Part::ServerAuthorities => "the authorities of servers",
        };
        write!(f, "{part}: {}", self.problem)
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    pub(super) fn of(part: Part, problem: impl fmt::Display) -> Self {
        Self {
            part,
            problem: problem.to_string(),
        }
    }

    /// What rustls objects to in a certificate and its key.
    pub(super) fn of_identity(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                Self::of(Part::Key, "it is not the key of the certificate")
            }
            rustls::Error::InvalidCertificate(error) => {
                Self::of(Part::Certificate, format!("{error:?}"))
            }
            error => Self::of(Part::Key, error),
        }
    }
}

/// All certificates of a text, at least one.
pub(super) fn read_certificates(
    text: &[u8],
    part: Part,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::of(part, error))?;
    if certificates.is_empty() {
        return Err(TlsError::of(part, "there is no certificate in it"));
    }
    Ok(certificates)
}

/// The private key of a text.
pub(super) fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::of(Part::Key, "there is no private key in it"),
        error => TlsError::of(Part::Key, error),
    })
}

/// The certificates of a text as those of authorities.
pub(super) fn read_authorities(text: &[u8], part: Part) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(text, part)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::of(part, error))?;
    }
    Ok(roots)
}
