//! Opening below a folder and nowhere else. The kernel holds the path to the
//! folder while it walks it (`openat2` with `RESOLVE_BENEATH`), so what was
//! checked is what is opened, whatever links and folders change meanwhile.
//! A kernel without `openat2` opens nothing: there is no way round it.
//!
//! Everything here blocks.

use std::{
    fmt,
    fs::{File, FileType, Metadata},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2, readlinkat},
    io::Errno,
};

use super::Denied;

/// The kernel gives up when something was renamed while it walked through `..`
/// (openat2(2), EAGAIN). It is asked again so often, as container runtimes do.
const ATTEMPTS: usize = 128;
/// Folders between a file and the allowed folder above it: as many as a path
/// has room for (PATH_MAX is 4,096 bytes).
const DEPTH_MAX: usize = 2048;

/// Why something on this host was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator's list does not cover it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It is allowed, and did not work.
    #[error("cannot open {path}")]
    Io {
        /// As in the spec.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is allowed, and something else than expected.
    #[error("{path} is {found}, not {wanted}")]
    Kind {
        /// As in the spec.
        path: PathBuf,
        /// What it is.
        found: Kind,
        /// What it should be.
        wanted: Kind,
    },
    /// It is allowed, and has names elsewhere too.
    #[error("{path} is a file with several names (hard links)")]
    HardLinks {
        /// As in the spec.
        path: PathBuf,
    },
    /// The kernel is too old to keep a path inside a folder.
    #[error(
        "this kernel cannot keep a path inside a folder (openat2, Linux 5.6), so no path is opened"
    )]
    Unsupported,
}

/// What a path can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A character device of the terminal driver.
    Terminal,
    /// A block device.
    BlockDevice,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Folder => "a directory",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Symlink => "a symbolic link",
            Self::CharacterDevice => "a character device",
            Self::Terminal => "a terminal",
            Self::BlockDevice => "a block device",
        })
    }
}

impl Kind {
    pub(super) fn of(kind: FileType) -> Self {
        if kind.is_file() {
            Self::File
        } else if kind.is_dir() {
            Self::Folder
        } else if kind.is_symlink() {
            Self::Symlink
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else if kind.is_char_device() {
            Self::CharacterDevice
        } else {
            Self::BlockDevice
        }
    }
}

/// A file found but not opened: looking at it has no effect on it, where
/// opening a tape drive or a watchdog has.
#[derive(Debug)]
pub(super) struct Found {
    file: File,
    pub(super) metadata: Metadata,
}

impl Found {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let metadata = file.metadata()?;
        Ok(Self { file, metadata })
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.metadata.file_type())
    }

    /// The path that leads to this very file for as long as this lives.
    pub(super) fn pinned(&self) -> PathBuf {
        pinned(&self.file)
    }

    /// The same file, looked at again.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::new(self.file.as_fd().try_clone_to_owned()?)
    }

    /// Opens this very file.
    pub(super) fn reopen(&self, flags: OFlags) -> io::Result<OwnedFd> {
        // The pinned path is a link itself; what it leads to is no link.
        let flags = flags.difference(OFlags::NOFOLLOW);
        Ok(open(self.pinned(), flags | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Where a symbolic link leads to.
    pub(super) fn target(&self) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let target = readlinkat(&self.file, "", Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
    }
}

/// The path that leads to what a descriptor holds (proc(5), `/proc/pid/fd`).
pub(super) fn pinned(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// What did not open below a folder.
#[derive(Debug)]
pub(super) enum Miss {
    /// The path leads out of the folder.
    LeadsOut,
    /// There is no `openat2`.
    Unsupported,
    /// It stays inside and did not work.
    Failed(io::Error),
}

impl Miss {
    fn of(errno: Errno) -> Self {
        match errno {
            // Links in circles and magic links (ELOOP) tell nothing either.
            Errno::XDEV | Errno::LOOP => Self::LeadsOut,
            Errno::NOSYS => Self::Unsupported,
            other => Self::Failed(other.into()),
        }
    }

    /// As the error of opening `path`; `denied` if it leads out.
    pub(super) fn told(self, path: &Path, denied: Denied) -> OpenError {
        match self {
            Self::LeadsOut => denied.into(),
            Self::Unsupported => OpenError::Unsupported,
            Self::Failed(source) => OpenError::Io { path: path.to_owned(), source },
        }
    }
}

/// Opens a folder that the operator named; links in it are the operator's.
pub(super) fn open_root(folder: &Path) -> Result<OwnedFd, Miss> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(folder, flags, Mode::empty()).map_err(|errno| Miss::Failed(errno.into()))
}

/// What links on the way may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Lead anywhere below the folder.
    Beneath,
    /// Nothing: there are none on the way.
    Refused,
}

/// Finds what is at `relative` below `root`.
pub(super) fn find(
    root: &OwnedFd,
    relative: &Path,
    flags: OFlags,
    links: Links,
) -> Result<OwnedFd, Miss> {
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | match links {
            Links::Beneath => ResolveFlags::NO_MAGICLINKS,
            Links::Refused => ResolveFlags::NO_SYMLINKS,
        };
    let mut last = Errno::AGAIN;
    for _ in 0..ATTEMPTS {
        match openat2(root, relative, flags, Mode::empty(), resolve) {
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            result => return result.map_err(Miss::of),
        }
    }
    Err(Miss::Failed(last.into()))
}

/// Files and folders by identity, whatever names lead to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserved(Vec<(u64, u64)>);

impl Reserved {
    /// Those of the paths that are there.
    pub(super) fn look(paths: &[PathBuf]) -> Self {
        let there = paths.iter().filter_map(|path| std::fs::metadata(path).ok());
        Self(there.map(|file| (file.dev(), file.ino())).collect())
    }

    pub(super) fn holds(&self, file: &Metadata) -> bool {
        self.0.contains(&(file.dev(), file.ino()))
    }

    /// Whether a folder is one of these, or below one, on the way up to `root`.
    /// Fails if the way up does not pass `root`.
    pub(super) fn on_the_way(&self, folder: &OwnedFd, root: &OwnedFd) -> io::Result<bool> {
        let identity =
            |fd: &OwnedFd| -> io::Result<Metadata> { File::from(fd.try_clone()?).metadata() };
        let root = identity(root)?;
        let mut at = folder.as_fd().try_clone_to_owned()?;
        for _ in 0..DEPTH_MAX {
            let here = identity(&at)?;
            if self.holds(&here) {
                return Ok(true);
            }
            if (here.dev(), here.ino()) == (root.dev(), root.ino()) {
                return Ok(false);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let up = rustix::fs::openat(&at, "..", flags, Mode::empty())?;
            let above = identity(&up)?;
            if (above.dev(), above.ino()) == (here.dev(), here.ino()) {
                break;
            }
            at = up;
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the folder was moved"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_openat2_nothing_is_opened() {
        let error = Miss::of(Errno::NOSYS).told(Path::new("/x"), Denied::Path);
        assert!(error.to_string().contains("Linux 5.6"), "{error}");
        assert!(matches!(error, OpenError::Unsupported));
    }

    #[test]
    fn what_leads_out_is_denied_and_what_stays_in_is_told() {
        let told = |errno| Miss::of(errno).told(Path::new("/x"), Denied::Path);
        assert!(matches!(told(Errno::XDEV), OpenError::Denied(Denied::Path)));
        assert!(matches!(told(Errno::LOOP), OpenError::Denied(Denied::Path)));
        assert!(matches!(told(Errno::NOENT), OpenError::Io { .. }));
    }

    #[test]
    fn a_folder_that_was_moved_away_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere"));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        let root_fd = open_root(&root).unwrap();
        let inside = find(&root_fd, Path::new("a"), OFlags::DIRECTORY, Links::Beneath).unwrap();
        let reserved = Reserved::look(&[elsewhere.clone(), dir.path().join("missing")]);
        assert!(!reserved.on_the_way(&inside, &root_fd).unwrap());
        std::fs::rename(root.join("a"), elsewhere.join("a")).unwrap();
        assert!(reserved.on_the_way(&inside, &root_fd).unwrap());
        assert!(Reserved::default().on_the_way(&inside, &root_fd).is_err());
    }
}
