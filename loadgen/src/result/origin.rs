//! What made a result, and where.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A program and its version.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tool {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its version.
    pub version: Cow<'static, str>,
}

impl Tool {
    /// This program.
    pub(crate) fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// The machine that the client ran on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    /// Name of the host.
    pub name: Option<String>,
    /// Release of its kernel.
    pub kernel: Option<String>,
    /// Model of its processor.
    pub cpu_model: Option<String>,
    /// CPUs that the client may use.
    pub cpus: usize,
}
