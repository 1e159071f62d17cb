//! A file that is opened before a run and written after it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Names that are tried for a temporary file before it is given up: those of other runs of this
/// process, and what earlier processes of its number left behind.
const MOST_ATTEMPTS: u32 = 100;

/// A file whose content is there whole or not at all: it is written to a temporary file beside it,
/// which then takes its name.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    /// What is renamed to what; `None` if the file is written directly.
    renaming: Option<Renaming>,
}

#[derive(Debug)]
struct Renaming {
    from: PathBuf,
    to: PathBuf,
}

impl OutputFile {
    /// Opens what will be `path`, and leaves what it is now alone. A symbolic link, a device or a
    /// pipe must not be replaced by a file: it will be written directly.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let old = match fs::symlink_metadata(path) {
            Ok(old) if !old.is_file() => {
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                return Ok(Self {
                    file,
                    renaming: None,
                });
            }
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (from, file) = create_beside(path)?;
        let output = Self {
            file,
            renaming: Some(Renaming {
                from,
                to: path.to_owned(),
            }),
        };
        if let Some(old) = old {
            output.file.set_permissions(old.permissions())?;
        }
        Ok(output)
    }

    /// Gives it its content, and its name.
    ///
    /// # Errors
    /// It can't be written; what was there before still is.
    pub(crate) fn write(
        mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.renaming.is_none() && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let mut out = BufWriter::new(&self.file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        if let Some(Renaming { from, to }) = &self.renaming {
            // Else a name with nothing behind it may survive a power cut.
            self.file.sync_all()?;
            fs::rename(from, to)?;
            self.renaming = None;
        }
        Ok(())
    }
}

impl Drop for OutputFile {
    /// Without content there is no file.
    fn drop(&mut self) {
        if let Some(Renaming { from, .. }) = &self.renaming {
            // If it can't be removed, it stays.
            let _ = fs::remove_file(from);
        }
    }
}

/// Creates a file with a new name in the directory of `path`.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let mut attempt = 0;
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
        {
            Ok(file) => return Ok((temporary, file)),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && attempt < MOST_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory of a test's own, which ends with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("loadgen-file-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, content: &str) -> io::Result<()> {
        OutputFile::open(path)?.write(|out| out.write_all(content.as_bytes()))
    }

    #[test]
    fn an_old_file_stays_until_the_new_one_is_whole() {
        let directory = Directory::new("whole");
        let path = directory.0.join("result");
        write(&path, "old and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let output = OutputFile::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old and longer");
        output
            .write(|out| {
                out.write_all(b"ne")?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            })
            .unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old and longer");
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(directory.names(), 1, "a temporary file was left");
    }

    #[test]
    fn a_link_is_followed_and_a_device_stays_one() {
        let directory = Directory::new("link");
        let (target, link) = (directory.0.join("target"), directory.0.join("link"));
        fs::write(&target, "old and longer").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        write(Path::new("/dev/null"), "nothing").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = write(Path::new("/dev/full"), "nothing").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_can_t_be_written_is_known_at_once() {
        assert!(OutputFile::open(Path::new("/nonexistent/result")).is_err());
        assert!(OutputFile::open(&std::env::temp_dir()).is_err());
        assert!(OutputFile::open(Path::new("")).is_err());
    }
}
