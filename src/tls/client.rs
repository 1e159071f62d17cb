//! What a client accepts of servers, and what it shows to them.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};

use super::agreed::Version;
use super::pem::{Part, TlsError, read_authorities, read_certificates, read_key};
use super::session::{OnEnd, Session};
use super::trust::{Anybody, Known};

/// The servers that a client believes.
#[derive(Clone, Debug)]
pub enum Trust<'a> {
    /// Those with a certificate of these authorities, or with one of these certificates; in PEM.
    Certificates(&'a [u8]),
    /// Those with a certificate of the authorities of this system. Ones that can't be read are left out.
    System(Vec<CertificateDer<'static>>),
    /// Any. Who is in the middle can read and change everything.
    Anybody,
}

/// A certificate that a client shows, with those that lead to its authority, and its key; in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The certificates.
    pub certificates: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// What a client accepts of servers, and what it shows to them.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: ClientConfig,
    resumes: bool,
}

impl ClientTls {
    /// A client that speaks both versions, or only this one. If it `resumes`, it keeps what servers give
    /// it to shorten later handshakes.
    ///
    /// # Errors
    /// [`TlsError`] says which of the texts can't be used: it holds nothing of its kind, can't be read,
    /// or the key is not that of the certificate.
    pub fn new(
        trust: Trust<'_>,
        identity: Option<Identity<'_>>,
        only: Option<Version>,
        resumes: bool,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let signatures = provider.signature_verification_algorithms;
        let versions = match only {
            None => &[&TLS13, &TLS12][..],
            Some(Version::Tls13) => &[&TLS13],
            Some(Version::Tls12) => &[&TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::of(Part::ServerAuthorities, error))?;
        let builder = match trust {
            Trust::Certificates(pem) => {
                let known = read_certificates(pem, Part::ServerAuthorities)?;
                let roots = read_authorities(pem, Part::ServerAuthorities)?;
                let verifier = Known::new(roots, known, provider)
                    .map_err(|error| TlsError::of(Part::ServerAuthorities, error))?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
            }
            Trust::System(authorities) => {
                let mut roots = RootCertStore::empty();
                if roots.add_parsable_certificates(authorities).0 == 0 {
                    let problem = "this system has none";
                    return Err(TlsError::of(Part::ServerAuthorities, problem));
                }
                builder.with_root_certificates(roots)
            }
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(signatures))),
        };
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificates, key }) => {
                let chain = read_certificates(certificates, Part::Certificate)?;
                builder
                    .with_client_auth_cert(chain, read_key(key)?)
                    .map_err(|error| TlsError::of_identity(&error))?
            }
        };
        Ok(Self { config, resumes })
    }

    /// What connects to a server of this name, a host name or an IP address. `None` if it is neither.
    pub fn to(&self, name: &str) -> Option<Connector> {
        let name = ServerName::try_from(name).ok()?.to_owned();
        let connector = Connector {
            config: Arc::new(self.config.clone()),
            name,
            resumes: self.resumes,
        };
        Some(connector.separate())
    }
}

/// Begins connections to one server, and keeps what shortens later handshakes with it. Clones share that,
/// and a lock around it.
#[derive(Clone, Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    resumes: bool,
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for Connector {}

impl Connector {
    /// The same, for another thread: it shares nothing that changes.
    #[must_use]
    pub fn separate(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = if self.resumes {
            // There is one server.
            Resumption::in_memory_sessions(1)
        } else {
            Resumption::disabled()
        };
        Self {
            config: Arc::new(config),
            ..self.clone()
        }
    }

    /// A session for a connection to the server. It says nothing before its first read or write.
    ///
    /// # Errors
    /// What rustls reports, which would be a defect.
    pub fn begin(&self) -> Result<Session<UnbufferedClientConnection>, rustls::Error> {
        let config = Arc::clone(&self.config);
        let connection = UnbufferedClientConnection::new(config, self.name.clone())?;
        Ok(Session::new(connection, OnEnd::GoOn))
    }
}
