//! What a server shows to its clients: its certificate, and whom it accepts.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier};

use super::negotiated::AskedName;
use super::pem::{Part, TlsError, read_authorities, read_certificates, read_key};
use super::session::{OnEnd, Session};

/// A server's certificate with its key, and the authorities of its clients if it asks them for
/// certificates. Clones are the same one, and only clones are equal.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    fingerprint: Arc<str>,
    objection: Option<Arc<str>>,
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl ServerTls {
    /// From texts in PEM: the server's certificate and those that lead to its authority, its private
    /// key, and the authorities whose certificates clients have to show, if any.
    ///
    /// # Errors
    /// [`TlsError`] says which of the texts can't be used: it holds nothing of its kind, can't be read,
    /// or the key is not that of the certificate.
    pub fn from_pem(
        certificates: &[u8],
        key: &[u8],
        client_authorities: Option<&[u8]>,
    ) -> Result<Self, TlsError> {
        let chain = read_certificates(certificates, Part::Certificate)?;
        Self::new(chain, read_key(key)?, client_authorities)
    }

    /// As [`ServerTls::from_pem`], of a chain and a key in DER.
    ///
    /// # Errors
    /// As [`ServerTls::from_pem`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_authorities: Option<&[u8]>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let leaf = chain
            .first()
            .cloned()
            .ok_or_else(|| TlsError::of(Part::Certificate, "there is no certificate in it"))?;
        let fingerprint = fingerprint(&provider, &leaf);
        let objection = objection(&provider, &leaf)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of(Part::Certificate, error))?;
        let builder = match client_authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(read_authorities(pem, Part::ClientAuthorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| TlsError::of(Part::ClientAuthorities, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::of_identity(&error))?;
        // Sessions are resumed by tickets, which the clients keep: no memory and no lock of ours.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(|error| TlsError::of(Part::Key, error))?;
        Ok(Self {
            config: Arc::new(config),
            fingerprint: fingerprint.into(),
            objection: objection.map(Into::into),
        })
    }

    /// The SHA-256 fingerprint of the certificate, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Why clients are going to refuse the certificate, if that is known: it is expired, for example.
    pub fn objection(&self) -> Option<&str> {
        self.objection.as_deref()
    }

    /// A session for a connection that was accepted. Records that a read makes may wait for the next write:
    /// the caller flushes after its reads and writes.
    ///
    /// # Errors
    /// What rustls reports, which would be a defect.
    pub fn accept(
        &self,
        on_end: OnEnd,
    ) -> Result<Session<UnbufferedServerConnection>, rustls::Error> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&self.config))?;
        Ok(Session::new(connection, on_end).hold_records())
    }

    /// As [`ServerTls::accept`], with the name that the client is going to ask for.
    ///
    /// # Errors
    /// As [`ServerTls::accept`].
    pub fn accept_with_name(
        &self,
        on_end: OnEnd,
    ) -> Result<(Session<UnbufferedServerConnection>, AskedName), rustls::Error> {
        let asked = AskedName::beside(Arc::clone(&self.config.cert_resolver));
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = asked.resolver();
        let connection = UnbufferedServerConnection::new(Arc::new(config))?;
        Ok((Session::new(connection, on_end).hold_records(), asked))
    }
}

/// What a client would object to, whatever it trusts: the time of validity.
fn objection(
    provider: &CryptoProvider,
    leaf: &CertificateDer<'_>,
) -> Result<Option<String>, TlsError> {
    let certificate = webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| TlsError::of(Part::Certificate, error))?;
    // No authority is given, so it never succeeds; the times are checked first.
    let verified = certificate.verify_for_usage(
        provider.signature_verification_algorithms.all,
        &[],
        &[],
        UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    Ok(match verified.err() {
        Some(webpki::Error::CertExpired { .. }) => Some("the certificate is expired".to_owned()),
        Some(webpki::Error::CertNotValidYet { .. }) => {
            Some("the certificate is not valid yet".to_owned())
        }
        Some(webpki::Error::InvalidCertValidity) => {
            Some("the time of validity ends before it begins".to_owned())
        }
        _ => None,
    })
}

/// SHA-256 of a certificate, in pairs of hexadecimal digits.
fn fingerprint(provider: &CryptoProvider, certificate: &CertificateDer<'_>) -> String {
    let suites = provider.cipher_suites.iter();
    let sha256 = suites
        .filter_map(|suite| suite.tls13())
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256);
    let digest = sha256.map(|hash| hash.hash(certificate));
    let bytes = digest.iter().flat_map(|digest| digest.as_ref());
    let pairs: Vec<_> = bytes.map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
