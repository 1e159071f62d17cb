//! Files of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that goes with its test.
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

    /// Writes a file, at one stroke for whoever reads it meanwhile, and returns where it is.
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
        // What is left behind in the directory for temporary files does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
