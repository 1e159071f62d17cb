//! The files of certificates: read at the start, and again at each reload.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{info, warn};

use crate::net::endpoint::Endpoint;
use crate::settings::{Settings, TlsFiles};
use crate::tls::{Part, ServerTls, TlsError};

/// A larger file is no certificate.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The certificates of the settings: how to read them, and those in force.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Made at the start, and kept by each reload, so that clients can go on trusting it.
    self_signed: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    tls: Option<ServerTls>,
}

impl Certificates {
    /// Reads the files of the settings, or makes a certificate if they say so.
    ///
    /// # Errors
    /// One line that names the setting and the file: it can't be read, holds nothing of its kind, or
    /// the key is not that of the certificate.
    pub fn load(settings: &Settings) -> Result<Self, String> {
        check(settings)?;
        let self_signed = settings
            .tls
            .self_signed
            .then(|| self_sign(settings))
            .transpose()
            .map_err(|error| format!("tls-self-signed: {error}"))?;
        let mut certificates = Self {
            self_signed,
            tls: None,
        };
        certificates.tls = certificates.read(settings)?;
        Ok(certificates)
    }

    /// What the server shows, if it has endpoints with TLS.
    pub(super) fn tls(&self) -> Option<ServerTls> {
        self.tls.clone()
    }

    /// Reads the files again. `None` if the settings have none.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub(super) fn read(&self, settings: &Settings) -> Result<Option<ServerTls>, String> {
        check(settings)?;
        let files = &settings.tls;
        let client_ca = files.client_ca.as_deref();
        let authorities = client_ca
            .map(|path| read(path).map_err(|problem| format!("tls-client-ca: {problem}")))
            .transpose()?;
        let authorities = authorities.as_deref();
        if files.self_signed {
            let Some((certificate, key)) = &self.self_signed else {
                return Err("tls-self-signed: it needs a restart to take effect".to_owned());
            };
            return ServerTls::new(vec![certificate.clone()], key.clone_key(), authorities)
                .map(Some)
                .map_err(|error| mistake(&error, files));
        }
        let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
            return Ok(None);
        };
        let chain = read(cert).map_err(|problem| format!("tls-cert: {problem}"))?;
        let key = read(key).map_err(|problem| format!("tls-key: {problem}"))?;
        ServerTls::from_pem(&chain, &key, authorities)
            .map(Some)
            .map_err(|error| mistake(&error, files))
    }
}

/// Refuses endpoints with TLS without a certificate, and certificates without an effect.
fn check(settings: &Settings) -> Result<(), String> {
    let TlsFiles {
        cert,
        key,
        client_ca,
        self_signed,
    } = &settings.tls;
    match (cert, key) {
        (Some(_), None) => return Err("tls-cert: it needs tls-key as well".to_owned()),
        (None, Some(_)) => return Err("tls-key: it needs tls-cert as well".to_owned()),
        (Some(_), Some(_)) if *self_signed => {
            return Err("tls-self-signed: there is tls-cert already; leave one out".to_owned());
        }
        _ => {}
    }
    let mut services = settings.config.services.iter();
    let secured = services.find(|(_, endpoint)| matches!(endpoint, Endpoint::Tls(_)));
    if let Some((service, endpoint)) = secured {
        if cert.is_none() && !self_signed {
            return Err(format!(
                "{service}: {endpoint} needs tls-cert and tls-key, or tls-self-signed for a first try"
            ));
        }
        return Ok(());
    }
    let given = [
        ("tls-cert", cert.is_some()),
        ("tls-client-ca", client_ca.is_some()),
        ("tls-self-signed", *self_signed),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(format!(
            "{name}: it has no effect without an endpoint tls://HOST:PORT"
        )),
        None => Ok(()),
    }
}

/// Logs what certificate is in force, and what clients will object to.
pub(super) fn announce(tls: &ServerTls, files: &TlsFiles) {
    let fingerprint = tls.fingerprint();
    if files.self_signed {
        info!(
            sha256 = fingerprint,
            "serving with a self-signed certificate"
        );
    } else {
        info!(sha256 = fingerprint, "serving with a certificate");
    }
    if let Some(objection) = tls.objection() {
        warn!(objection, "clients will refuse the certificate");
    }
}

/// The files that a reload reads.
pub(super) fn files(files: &TlsFiles) -> impl Iterator<Item = PathBuf> {
    [&files.cert, &files.key, &files.client_ca]
        .into_iter()
        .flatten()
        .cloned()
}

/// One line that names the setting, the file and the problem.
fn mistake(error: &TlsError, files: &TlsFiles) -> String {
    let (key, path) = match error.part {
        Part::Certificate => ("tls-cert", &files.cert),
        Part::Key => ("tls-key", &files.key),
        Part::ClientAuthorities | Part::ServerAuthorities => ("tls-client-ca", &files.client_ca),
    };
    match path {
        Some(path) => format!("{key}: {}: {}", path.display(), error.problem),
        None => format!("tls-self-signed: {error}"),
    }
}

/// Reads a regular file: a pipe would block a reload.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail =
        |problem: &dyn std::fmt::Display| format!("cannot read {}: {problem}", path.display());
    let mut bytes = Vec::new();
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(fail(&"it is not a regular file")),
        // Reading reports the error.
        Ok(_) | Err(_) => {}
    }
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error: io::Error| fail(&error))?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(fail(&"it is larger than 1MiB"));
    }
    Ok(bytes)
}

fn self_sign(
    settings: &Settings,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.extend(
        rustix::system::uname()
            .nodename()
            .to_str()
            .map(str::to_owned),
    );
    for (_, endpoint) in &settings.config.services {
        if let Endpoint::Tls(address) = endpoint {
            names.push(address.host.clone());
        }
    }
    // An unspecified address or one with a zone is no name of a server.
    names.retain(|name| {
        !name.is_empty() && !["0.0.0.0", "::"].contains(&name.as_str()) && !name.contains('%')
    });
    names.sort_unstable();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "echod, self-signed");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((certificate.der().clone(), key))
}
