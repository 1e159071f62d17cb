//! The place of an output: whether it is stdout, and whether two names are of one file.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::fstat;

/// The sign for stdout, or for stdin where a file is read.
const STANDARD_STREAM: &str = "-";
/// Maximum of symbolic links to follow, the kernel's own (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Whether a path is the sign for stdout, or for stdin where a file is read.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new(STANDARD_STREAM)
}

/// The path of an output. The file that is stdout becomes the sign for it, whatever its name, such
/// as /dev/stdout: then nothing else is written there.
pub(super) fn of_output(text: &str) -> PathBuf {
    if is_open_as_stdout(Path::new(text)) {
        STANDARD_STREAM.into()
    } else {
        text.into()
    }
}

/// Whether two names are of one file, or would be. A device has no content to overwrite.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    let is_device = |path| fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device());
    a == b
        || ![a, b]
            .into_iter()
            .any(|path| is_stdout(path) || is_device(path))
            && Identity::of(a) == Identity::of(b)
}

/// Checks that no output overwrites another; each has the name of its option.
///
/// # Errors
/// One line for the user: two options with the same place.
pub(super) fn check_apart(places: &[(&'static str, &Path)]) -> Result<(), String> {
    for (index, (option, place)) in places.iter().enumerate() {
        let earlier = places[..index]
            .iter()
            .find(|(_, other)| is_same(other, place));
        if let Some((other, _)) = earlier {
            return Err(format!(
                "--{other} and --{option} can't both go to {}; give each a file of its own",
                place.display()
            ));
        }
    }
    Ok(())
}

fn is_open_as_stdout(path: &Path) -> bool {
    let Ok((file, stdout)) = fs::metadata(path).and_then(|file| Ok((file, fstat(io::stdout())?)))
    else {
        return false;
    };
    // What two write to /dev/null does not mix.
    let is_shared = !file.file_type().is_char_device() || io::stdout().is_terminal();
    is_shared && (file.dev(), file.ino()) == (stdout.st_dev, stdout.st_ino)
}

/// A file, however it is spelt.
#[derive(PartialEq)]
enum Identity {
    /// Its device and inode.
    Existing(u64, u64),
    /// The device and inode of its folder, and its name there.
    New(u64, u64, OsString),
    /// Its folder does not exist either.
    Unknown(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Self {
        if let Ok(file) = fs::metadata(path) {
            return Self::Existing(file.dev(), file.ino());
        }
        let path = target(path);
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        match (fs::metadata(folder), path.file_name()) {
            (Ok(folder), Some(name)) => Self::New(folder.dev(), folder.ino(), name.to_owned()),
            _ => Self::Unknown(path),
        }
    }
}

/// The file that a symbolic link would create.
fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        // An absolute target replaces the whole path.
        path = path.with_file_name("").join(target);
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_the_same_however_it_is_spelt() {
        let folder = std::env::temp_dir().join(format!("loadgen-place-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        fs::write(at("old"), "").unwrap();
        fs::hard_link(at("old"), at("hard")).unwrap();
        symlink("old", at("link")).unwrap();
        symlink("new", at("dangling")).unwrap();
        symlink(&folder, at("folder")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (a, b, are_same) in [
            ("old", "./old", true),
            ("old", "hard", true),
            ("old", "link", true),
            ("old", "folder/old", true),
            ("new", "./new", true),
            ("new", "folder/new", true),
            ("new", "dangling", true),
            ("none/new", "none/new", true),
            ("old", "new", false),
            ("new", "newer", false),
            ("none/new", "none/newer", false),
            ("loop", "old", false),
        ] {
            assert_eq!(is_same(&at(a), &at(b)), are_same, "{a} {b}");
        }
        assert!(is_same(Path::new("new"), Path::new("./new")));
        assert!(is_same(Path::new("-"), Path::new("-")));
        assert!(!is_same(Path::new("-"), Path::new("./-")));
        assert!(!is_same(
            Path::new("/dev/null"),
            Path::new("/dev/../dev/null")
        ));
        fs::remove_dir_all(folder).unwrap();
    }
}
