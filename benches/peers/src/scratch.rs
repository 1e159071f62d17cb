//! Files that are there for a while only.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name in the directory for temporary files that nobody else uses. What is there is removed when
/// this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new name; nothing is made yet.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let name = format!("echomark-peers-{}-{turn}-{purpose}", process::id());
        Self(env::temp_dir().join(name))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_gone_with_its_name() {
        let (one, other) = (Scratch::new("x"), Scratch::new("x"));
        assert_ne!(one.path(), other.path());
        fs::write(one.path(), "x").unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
    }
}
