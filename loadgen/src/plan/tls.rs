//! TLS of the connections to `tls://` targets.

use std::path::{Path, PathBuf};

use echomark::tls::Version;
use serde::{Deserialize, Serialize, Serializer};

/// TLS of the connections to `tls://` targets. By default a server needs a certificate of an authority of
/// this system, for the host of its target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TlsOptions {
    /// File of certificates in PEM: of authorities that servers' certificates have to be of, or of servers
    /// themselves; null for the authorities of this system.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub ca: Option<PathBuf>,
    /// File of the client's certificate in PEM; null without.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub cert: Option<PathBuf>,
    /// File of its private key.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub key: Option<PathBuf>,
    /// The name that is asked for and that the certificate has to be for; null for the host of the target.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// The only version; null for 1.3 or else 1.2.
    pub version: Option<TlsVersion>,
    /// Whether sessions are resumed.
    pub resumption: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            ca: None,
            cert: None,
            key: None,
            server_name: None,
            insecure: false,
            version: None,
            resumption: true,
        }
    }
}

impl TlsOptions {
    /// Whether nothing is asked for.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl From<TlsVersion> for Version {
    fn from(version: TlsVersion) -> Self {
        match version {
            TlsVersion::V1_2 => Self::Tls12,
            TlsVersion::V1_3 => Self::Tls13,
        }
    }
}

/// A path as text: a name that is none must not cost the result.
fn as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = path.as_deref().map(Path::to_string_lossy);
    text.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn options_read_back_and_a_path_that_is_no_text_is_written_all_the_same() {
        let options = TlsOptions {
            ca: Some("ca.pem".into()),
            server_name: Some("localhost".to_owned()),
            version: Some(TlsVersion::V1_2),
            resumption: false,
            ..TlsOptions::default()
        };
        let written = serde_json::to_value(&options).expect("JSON");
        assert_eq!(written["version"], "1.2");
        let read: TlsOptions = serde_json::from_value(written).expect("options");
        assert_eq!(read, options);
        let odd = TlsOptions {
            key: Some(OsStr::from_bytes(b"key\xff").into()),
            ..options
        };
        let written = serde_json::to_value(&odd).expect("JSON");
        assert_eq!(written["key"], "key\u{fffd}");
    }
}
