//! Certificates of an authority that each test makes for itself.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use echomark::tls::ServerTls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::Directory;

/// An authority, with its files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: Directory,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// One whose certificate is in `ca.pem`.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let directory = Directory::new("tls");
        // Of its own, as authorities have it.
        let name = directory.path("").display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authority = Self {
            issuer: Issuer::new(params, key),
            directory,
        };
        authority.write("ca.pem", "CERTIFICATE", certificate.der());
        authority
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path("ca.pem")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// A certificate for `localhost` and 127.0.0.1.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.identity_until(name, 2090)
    }

    /// The same, valid until this year.
    pub(crate) fn identity_until(&self, name: &str, year: i32) -> Identity {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.keep(name, certificate.der(), &key)
    }

    /// A self-signed certificate for authorities, as `openssl req -x509` makes them.
    pub(crate) fn self_signed(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.keep(name, certificate.der(), &key)
    }

    fn keep(&self, name: &str, certificate: &[u8], key: &KeyPair) -> Identity {
        let cert = self.write(&format!("{name}.pem"), "CERTIFICATE", certificate);
        let key = self.write(&format!("{name}.key"), "PRIVATE KEY", &key.serialize_der());
        Identity { cert, key }
    }

    fn write(&self, name: &str, kind: &str, der: &[u8]) -> PathBuf {
        let mut text = format!("-----BEGIN {kind}-----\n");
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str(&format!("-----END {kind}-----\n"));
        let path = self.directory.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Identity {
    /// A server with it, which asks its clients for certificates of an authority if there is one.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerTls {
        let [cert, key] = [&self.cert, &self.key].map(|path| fs::read(path).unwrap());
        let clients = clients.map(|authority| fs::read(authority.ca()).unwrap());
        ServerTls::from_pem(&cert, &key, clients.as_deref()).unwrap()
    }
}
