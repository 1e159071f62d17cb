//! Files of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that is removed with its test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    #[track_caller]
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echomark-{}-{count}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for temporary files");
        Self(path)
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, atomically for concurrent readers, and returns its path.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (draft, path) = (self.join("draft"), self.join(name));
        fs::write(&draft, text).expect("a temporary file");
        fs::rename(&draft, &path).expect("another name for it");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A leftover in the directory for temporary files is harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}
