//! What TLS needs of this host: the files that a plan names, and the authorities of the system.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use echomark::net::endpoint::Endpoint;
use echomark::tls::{ClientTls, Connector, Identity, Part, Trust};

use crate::error::RunError;
use crate::plan::TlsOptions;

/// A larger file holds no certificate.
const MAX_FILE_LEN: u64 = 4 << 20;

/// What connects to the targets that have TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    client: ClientTls,
    server_name: Option<String>,
}

impl Tls {
    /// Reads what the options name. `None` if no target has TLS: then nothing is read.
    ///
    /// # Errors
    /// [`RunError::Tls`] is one line that names the option, the file and the problem.
    pub(crate) fn load<'a>(
        targets: impl IntoIterator<Item = &'a Endpoint>,
        options: &TlsOptions,
    ) -> Result<Option<Self>, RunError> {
        let mut targets = targets.into_iter();
        if !targets.any(|target| matches!(target, Endpoint::Tls(_))) {
            return Ok(None);
        }
        let client = client(options).map_err(RunError::Tls)?;
        Ok(Some(Self {
            client,
            server_name: options.server_name.clone(),
        }))
    }

    /// What connects to a host.
    ///
    /// # Errors
    /// [`RunError::Tls`] if no certificate can be for the name.
    pub(crate) fn connector(&self, host: &str) -> Result<Connector, RunError> {
        let (option, name) = match &self.server_name {
            Some(name) => ("--tls-server-name: ", name.as_str()),
            None => ("", host),
        };
        self.client.to(name).ok_or_else(|| {
            RunError::Tls(format!(
                "{option}no certificate can be for `{name}`, which is neither a host name nor an IP \
                 address; give the server's with --tls-server-name"
            ))
        })
    }
}

fn client(options: &TlsOptions) -> Result<ClientTls, String> {
    let read_option = |name: &str, path: &Option<PathBuf>| {
        let path = path.as_deref();
        path.map(|path| read(path).map_err(|problem| format!("{name}: {problem}")))
            .transpose()
    };
    let ca = read_option("--tls-ca", &options.ca)?;
    let cert = read_option("--tls-cert", &options.cert)?;
    let key = read_option("--tls-key", &options.key)?;
    let trust = match &ca {
        _ if options.insecure => Trust::Anybody,
        Some(pem) => Trust::Certificates(pem),
        None => Trust::System(rustls_native_certs::load_native_certs().certs),
    };
    let identity = cert.as_deref().zip(key.as_deref());
    let identity = identity.map(|(certificates, key)| Identity { certificates, key });
    let version = options.version.map(Into::into);
    ClientTls::new(trust, identity, version, options.resumption).map_err(|error| {
        let (name, path) = match error.part {
            Part::Certificate => ("--tls-cert", &options.cert),
            Part::Key => ("--tls-key", &options.key),
            Part::ServerAuthorities | Part::ClientAuthorities => ("--tls-ca", &options.ca),
        };
        match path {
            Some(path) => format!("{name}: {}: {}", path.display(), error.problem),
            None => format!(
                "{error}; name the server's authority with --tls-ca FILE, or believe anybody with \
                 --tls-insecure"
            ),
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail =
        |problem: &dyn std::fmt::Display| format!("cannot read {}: {problem}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error: io::Error| fail(&error))?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(fail(&"it is larger than 4MiB"));
    }
    Ok(bytes)
}
