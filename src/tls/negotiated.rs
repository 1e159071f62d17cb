//! What the two sides of a connection agreed on, and what one learned of the other.

use std::sync::{Arc, OnceLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::session::Session;
use super::side::Side;
use super::subject;

/// What a complete handshake agreed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Negotiated<'a> {
    /// The version of TLS: `1.3` or `1.2`.
    pub version: &'static str,
    /// The cipher suite, by its name in IANA's registry.
    pub cipher: String,
    /// The application's protocol, if both sides named one and it is text.
    pub alpn: Option<&'a str>,
    /// Whether it resumed an earlier session.
    pub is_resumed: bool,
}

impl<C: Side> Session<C> {
    /// What a complete handshake agreed on.
    pub fn negotiated(&self) -> Option<Negotiated<'_>> {
        let agreed = self.agreed()?;
        let alpn = self.connection().common().alpn_protocol();
        Some(Negotiated {
            version: agreed.version.name(),
            cipher: agreed.cipher(),
            alpn: alpn.and_then(|it| str::from_utf8(it).ok()),
            is_resumed: agreed.is_resumed,
        })
    }

    /// The subject of the peer's certificate, if it showed one, as text (RFC 4514); a long one is cut.
    pub fn peer_subject(&self) -> Option<String> {
        let chain = self.connection().common().peer_certificates()?;
        let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
        subject::text_of(certificate.subject())
    }
}

/// The server name that a client asks for (SNI), which rustls tells only where a certificate is chosen.
#[derive(Clone, Debug)]
pub struct AskedName(Arc<NoteName>);

#[derive(Debug)]
struct NoteName {
    inner: Arc<dyn ResolvesServerCert>,
    name: OnceLock<Box<str>>,
}

impl AskedName {
    /// Notes the name where `inner` chooses the certificate.
    pub(super) fn beside(inner: Arc<dyn ResolvesServerCert>) -> Self {
        let name = OnceLock::new();
        Self(Arc::new(NoteName { inner, name }))
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::<NoteName>::clone(&self.0)
    }

    /// The name, once it is known, and if there is one.
    pub fn name(&self) -> Option<&str> {
        self.0.name.get().map(|name| &**name)
    }
}

impl ResolvesServerCert for NoteName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            // A second hello, after a request to retry, has the same name.
            let _ = self.name.set(name.into());
        }
        self.inner.resolve(hello)
    }
}
