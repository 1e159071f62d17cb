//! Unix stream sockets in the file system: binding, connecting, and the socket file.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// How often a starter tries to lock, and the pause between two tries: two seconds in all. Another
/// starter holds the lock for less than a millisecond.
const MAX_LOCK_ATTEMPTS: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Listens on a path. A stale socket file, left by a program that was killed, is replaced; any other
/// file at the path is an error.
///
/// `mode` sets the permissions of the file; connecting needs write permission (unix(7)). Without it
/// the umask decides.
///
/// # Errors
/// `AddrInUse` when another socket listens there, `AlreadyExists` when the path is not a socket, or what
/// bind(2), listen(2) and chmod(2) report.
pub fn listen(
    path: &Path,
    backlog: u32,
    mode: Option<u32>,
) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    if let Some(mode) = mode {
        // bind(2) creates the file with the socket's mode less the umask: it never permits more
        // than `mode`.
        let file = File::from(OwnedFd::from(socket.try_clone()?));
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    let _lock = lock_directory(path);
    remove_stale(path)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    if let Some(mode) = mode {
        set_mode(path, mode)?;
    }
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// Locks out other starters on the same path until dropped, from the check for a stale file to the
/// new listener. A lock that another program holds for longer, or a directory that can't be opened,
/// does not prevent the start.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or_else(|| Path::new("."))).ok()?;
    for _ in 0..MAX_LOCK_ATTEMPTS {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOCK_PAUSE),
            result => return result.ok().map(|()| directory),
        }
    }
    None
}

/// Sets the permissions of a socket file. The file is opened first, without following a symbolic
/// link: in a directory that other users may write to, one could replace the file by a link.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let file = open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the socket was replaced by another file while it was bound",
        ));
    }
    // fchmod(2) refuses an O_PATH descriptor; its link in /proc leads to the file itself (proc(5)).
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(link, Permissions::from_mode(mode))
}

/// Connects to a path without blocking: a listener with a full queue is an error. Reads and writes
/// of the stream block as usual.
///
/// # Errors
/// What connect(2) reports; `WouldBlock` when the listener's queue is full (unix(7)).
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = connect_nonblocking(path)?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// As [`connect`], for an event loop: neither reads nor writes block. The stream is connected at
/// once; unlike TCP, a Unix socket never has a connect in progress.
///
/// # Errors
/// As [`connect`].
pub fn connect_nonblocking(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// The file of a listening socket. It outlives the socket unless it is removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Distinguishes a file from its replacement: a new file may get the inode number of a removed one,
/// but not its birth time. Some file systems keep no birth time.
type Identity = (u64, u64, Option<SystemTime>);

impl SocketFile {
    /// The socket file that is at `path` now.
    ///
    /// # Errors
    /// What stat(2) reports.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            identity: identity(&fs::symlink_metadata(path)?),
            path: path.to_owned(),
        })
    }

    /// Removes the file, unless it was replaced by another.
    pub fn remove(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity) {
            // Without permission the file stays, as after a kill, and the next listener finds it
            // stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.created().ok())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        // There is no file, or bind(2) will report the error.
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        ));
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // Checked again, as another program may have replaced it meanwhile.
            SocketFile {
                path: path.to_owned(),
                identity: identity(&found),
            }
            .remove();
            Ok(())
        }
        // A listener accepts, or its queue is full.
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        // For example a datagram socket; bind(2) will report the address as in use.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("echomark-unix-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_in_use() {
        let directory = Directory::new("stale");
        let path = directory.0.join("socket");
        let (first, _) = listen(&path, 16, None).unwrap();
        let error = listen(&path, 16, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let (_second, file) = listen(&path, 16, None).unwrap();
        UnixStream::connect(&path).unwrap();
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_listener_with_a_full_queue_is_in_use() {
        let directory = Directory::new("full");
        let path = directory.0.join("socket");
        let (_listener, _) = listen(&path, 1, None).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = connect(&path) {
            waiting.push(stream);
        }
        let error = listen(&path, 1, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stream_waits_or_does_not_as_it_was_asked_for() {
        let directory = Directory::new("waits");
        let path = directory.0.join("socket");
        let _listening = listen(&path, 16, None).unwrap();
        let is_nonblocking =
            |stream: &UnixStream| socket2::SockRef::from(stream).nonblocking().unwrap();
        assert!(!is_nonblocking(&connect(&path).unwrap()));
        assert!(is_nonblocking(&connect_nonblocking(&path).unwrap()));
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_left_alone() {
        let directory = Directory::new("file");
        let path = directory.0.join("precious");
        fs::write(&path, "data").unwrap();
        let error = listen(&path, 16, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn the_file_of_another_program_is_not_removed() {
        let directory = Directory::new("other");
        let path = directory.0.join("socket");
        let (listener, file) = listen(&path, 16, None).unwrap();
        drop(listener);
        fs::remove_file(&path).unwrap();
        // A new file may get the old one's inode number, so another file takes that number
        // meanwhile.
        fs::write(directory.0.join("placeholder"), "").unwrap();
        let (_other, _) = listen(&path, 16, None).unwrap();
        file.remove();
        assert!(path.exists());
    }

    #[test]
    fn a_new_file_with_the_inode_number_of_the_old_one_is_another() {
        let directory = Directory::new("reused");
        let path = directory.0.join("socket");
        // Some file systems give a new file the number of the last one removed.
        for _ in 0..10 {
            let (listener, file) = listen(&path, 16, None).unwrap();
            drop(listener);
            fs::remove_file(&path).unwrap();
            let (_other, other) = listen(&path, 16, None).unwrap();
            if fs::symlink_metadata(&path).unwrap().created().is_ok() {
                file.remove();
                assert!(path.exists());
            }
            other.remove();
        }
    }

    #[test]
    fn permissions_don_t_follow_a_link() {
        let directory = Directory::new("link");
        let (victim, path) = (directory.0.join("victim"), directory.0.join("socket"));
        fs::write(&victim, "data").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let error = set_mode(&path, 0o666).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let mode = fs::metadata(&victim).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_many_starters_on_a_stale_path_one_listens() {
        let directory = Directory::new("starters");
        let path = directory.0.join("socket");
        for _ in 0..50 {
            drop(listen(&path, 16, None).unwrap());
            let starters = [(); 4].map(|()| {
                let path = path.clone();
                thread::spawn(move || listen(&path, 16, None))
            });
            let outcomes = starters.map(|it| it.join().unwrap());
            let listening = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(listening, 1, "{outcomes:?}");
        }
    }

    #[test]
    fn the_permissions_are_those_asked_for() {
        let directory = Directory::new("mode");
        let path = directory.0.join("socket");
        let _listening = listen(&path, 16, Some(0o622)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o622);
    }
}
