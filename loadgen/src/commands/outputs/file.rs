//! A file that is opened before a run and written after it.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// Maximum of names tried for a temporary file: other outputs of this process, and files left
/// behind by earlier processes with the same PID, may exist.
const MAX_ATTEMPTS: u32 = 100;

/// Existing temporary files, for a program that exits at once.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes files that were opened and not written. For a program that exits without dropping its
/// outputs.
pub(crate) fn remove_unfinished() {
    for path in UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        let _ = fs::remove_file(path);
    }
}

/// A file that is replaced completely or not at all: the content is written to a temporary file
/// beside it, which is then renamed. Files that can't be replaced are written in place.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    /// The file to rename; `None` if the file is written in place.
    replacement: Option<Replacement>,
}

/// A temporary file that will be renamed to `to`. Dropping it removes the file, unless it was
/// renamed.
#[derive(Debug)]
struct Replacement {
    from: PathBuf,
    to: PathBuf,
}

impl OutputFile {
    /// Opens the future `path`, and keeps its present content. Written in place are symbolic links,
    /// devices, pipes, mount points and files with several names, which must not be replaced by
    /// another file, and files that can't be: those of another owner, and those in a directory
    /// without write permission.
    ///
    /// # Errors
    /// The file can't be written, for example because it is read-only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let old = match fs::symlink_metadata(path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(old) = old else {
            let (file, replacement) = Replacement::create(path)?;
            return Ok(Self {
                file,
                replacement: Some(replacement),
            });
        };
        // A rename would replace a file that must not be written, too.
        let in_place = Self::in_place(path)?;
        if !old.is_file() || old.nlink() > 1 || is_mount_point(path) {
            return Ok(in_place);
        }
        match Replacement::like(path, &old) {
            Ok((file, replacement)) => Ok(Self {
                file,
                replacement: Some(replacement),
            }),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Ok(in_place)
            }
            Err(error) => Err(error),
        }
    }

    fn in_place(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            file,
            replacement: None,
        })
    }

    /// Writes the content and renames the file.
    ///
    /// # Errors
    /// The file can't be written. A file to be replaced is unchanged.
    pub(crate) fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.replacement.is_none() && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let mut out = BufWriter::new(&self.file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        if let Some(replacement) = self.replacement {
            // Otherwise a power cut could leave an empty file.
            self.file.sync_all()?;
            replacement.take_name()?;
        }
        Ok(())
    }
}

impl Replacement {
    /// Creates a file with the owner and the mode of the old one.
    fn like(path: &Path, old: &Metadata) -> io::Result<(File, Self)> {
        let (file, replacement) = Self::create(path)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        Ok((file, replacement))
    }

    /// Creates a file with a new name in the directory of `path`. The name is short, because `path`
    /// may have the maximum length of a name.
    fn create(path: &Path) -> io::Result<(File, Self)> {
        if path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut attempt = 0;
        loop {
            let from =
                path.with_file_name(format!(".loadgen-{}-{attempt}.tmp", std::process::id()));
            // The lock is held so that a program that exits at once knows the file.
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            match File::options().write(true).create_new(true).open(&from) {
                Ok(file) => {
                    unfinished.push(from.clone());
                    let to = path.to_owned();
                    return Ok((file, Self { from, to }));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Renames the file. If that fails, for example because the target became a mount point during
    /// the run, the content is copied.
    fn take_name(self) -> io::Result<()> {
        fs::rename(&self.from, &self.to).or_else(|_| fs::copy(&self.from, &self.to).map(drop))
    }
}

impl Drop for Replacement {
    /// A directory entry without content.
    fn drop(&mut self) {
        // After a rename there is nothing to remove. If removal fails, the file stays.
        let _ = fs::remove_file(&self.from);
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.retain(|path| *path != self.from);
    }
}

/// Whether something is mounted at `path`, such as a container's volume: rename(2) would fail with
/// EBUSY. A kernel before 5.8 can't tell.
fn is_mount_point(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A test's own directory, removed at its end.
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
    fn a_file_with_several_names_keeps_them() {
        let directory = Directory::new("names");
        let (one, other) = (directory.0.join("one"), directory.0.join("other"));
        fs::write(&one, "old and longer").unwrap();
        fs::hard_link(&one, &other).unwrap();
        write(&one, "new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "new");
        assert_eq!(fs::metadata(&one).unwrap().nlink(), 2);
        assert_eq!(directory.names(), 2);
    }

    #[test]
    fn a_file_keeps_its_owner() {
        const OTHER: u32 = 54_321;
        let directory = Directory::new("owner");
        let path = directory.0.join("result");
        fs::write(&path, "old and longer").unwrap();
        if std::os::unix::fs::chown(&path, Some(OTHER), Some(OTHER)).is_err() {
            // Only root can give a file to another user, and only root can keep it so.
            return;
        }
        write(&path, "new").unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid()), (OTHER, OTHER));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(directory.names(), 1);
    }

    #[test]
    fn the_longest_name_can_be_written() {
        let directory = Directory::new("long");
        let path = directory.0.join("n".repeat(255));
        write(&path, "content").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(directory.names(), 1);
    }

    #[test]
    fn what_can_t_be_written_is_known_at_once() {
        assert!(OutputFile::open(Path::new("/nonexistent/result")).is_err());
        assert!(OutputFile::open(&std::env::temp_dir()).is_err());
        assert!(OutputFile::open(Path::new("")).is_err());
    }
}
