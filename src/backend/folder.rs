//! A folder on the host, held by a descriptor, and one name in it: what file,
//! pipe, socket and link backends work with. Nothing here walks a path, so
//! nothing here can be led elsewhere.
//!
//! A symbolic link at the name itself is never followed. What is there already
//! is looked at before it is opened, because to open some things (a FIFO, a
//! tape drive) has effects. Everything here blocks.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::{File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, chownat, mkfifoat, openat, renameat, statat, symlinkat,
        unlinkat,
    },
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with},
};

use super::{
    Denied,
    beneath::{Found, Kind, OpenError, Reserved, pinned},
};

/// Times that a file may appear or vanish while it is opened.
const ATTEMPTS: usize = 8;

/// To look and then to remove are two acts of the kernel. Ours are done one
/// after the other, so that the removal of an old file of a device never meets
/// the new one.
static REMOVING: Mutex<()> = Mutex::new(());

/// One name in a folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    name: OsString,
    path: PathBuf,
    reserved: Reserved,
}

/// What tells one file from another at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last change of mode, owner or content.
    changed: (i64, i64),
    /// When it was made, if the file system says.
    born: Option<SystemTime>,
    kind: Kind,
}

impl Identity {
    /// Whether it is the same file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.kind) == (other.device, other.inode, other.kind)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What stays as it is while a file is used and given to others, for notes:
    /// `DEVICE INODE BIRTH`. Nothing if the file system does not say when it was
    /// made: an inode's number alone is given out again.
    pub fn lasting(&self) -> Option<String> {
        let born = self.born?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(format!("{} {} {}", self.device, self.inode, born.as_nanos()))
    }
}

impl fmt::Display for Identity {
    /// As notes have it. The kind is not part of it: who made the file knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = self.changed;
        write!(f, "{} {} {seconds}.{nanoseconds:09}", self.device, self.inode)
    }
}

/// What became of a file that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// There was nothing.
    Missing,
    /// Something else is there, and still is.
    Other,
}

impl Folder {
    pub(super) fn new(fd: OwnedFd, name: OsString, path: PathBuf, reserved: Reserved) -> Self {
        Self { fd, name, path, reserved }
    }

    /// The path as it was asked for, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another name in the same folder.
    pub fn sibling(&self, name: &OsStr) -> Result<Self, OpenError> {
        let path = self.path.with_file_name(name);
        if path.file_name() != Some(name) || path.parent() != self.path.parent() {
            return Err(Denied::Path.into());
        }
        let fd = self.fd.try_clone().map_err(|source| self.io(source))?;
        let reserved = self.reserved.clone();
        Ok(Self { fd, name: name.to_owned(), path, reserved })
    }

    /// Which file is there; a link is told as a link.
    pub fn identity(&self) -> io::Result<Identity> {
        Ok(self.look()?.identity())
    }

    /// How many bytes `file` holds, if it is what has the name now; `None` if
    /// something else or nothing has it. Cheap: two calls of the kernel.
    pub fn len_if_named(&self, file: &File) -> Result<Option<u64>, OpenError> {
        let named = match statat(&self.fd, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            named => named.map_err(|errno| self.io(errno.into()))?,
        };
        let open = file.metadata().map_err(|source| self.io(source))?;
        let same = (named.st_dev, named.st_ino) == (open.dev(), open.ino());
        Ok(same.then_some(open.len()))
    }

    /// Opens a regular file. `flags` say how (`O_WRONLY`, `O_APPEND`, …); with
    /// `O_CREAT` a missing one is made with `mode`.
    pub fn open_file(&self, flags: OFlags, mode: Mode) -> Result<File, OpenError> {
        let made_by = OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC;
        for _ in 0..ATTEMPTS {
            match self.look() {
                Ok(_) if flags.contains(OFlags::CREATE | OFlags::EXCL) => {
                    return Err(self.io(io::ErrorKind::AlreadyExists.into()));
                }
                Ok(found) => {
                    self.must_be(&found, Kind::File)?;
                    if found.metadata.nlink() > 1 {
                        return Err(OpenError::HardLinks { path: self.path.clone() });
                    }
                    let file = found.reopen(flags.difference(made_by));
                    let file = File::from(file.map_err(|source| self.io(source))?);
                    // Only now, when it is certain what is emptied.
                    if flags.contains(OFlags::TRUNC) {
                        file.set_len(0).map_err(|source| self.io(source))?;
                    }
                    return Ok(file);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && flags.contains(OFlags::CREATE) =>
                {
                    let new = OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match openat(&self.fd, &self.name, flags | new, mode) {
                        Ok(fd) => return Ok(File::from(fd)),
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(self.io(errno.into())),
                    }
                }
                Err(source) => return Err(self.io(source)),
            }
        }
        Err(self.io(io::Error::other("it is replaced again and again")))
    }

    /// Opens a FIFO without waiting for its other end (`O_NONBLOCK`); `flags`
    /// say for reading, writing or both.
    pub fn open_fifo(&self, flags: OFlags) -> Result<File, OpenError> {
        let found = self.look().map_err(|source| self.io(source))?;
        self.must_be(&found, Kind::Fifo)?;
        let fd = found.reopen(flags | OFlags::NONBLOCK).map_err(|source| self.io(source))?;
        Ok(File::from(fd))
    }

    /// Makes a FIFO with exactly this mode; fails if something is there.
    pub fn make_fifo(&self, mode: Mode) -> Result<Identity, OpenError> {
        mkfifoat(&self.fd, &self.name, mode).map_err(|errno| self.io(errno.into()))?;
        self.set_access(Kind::Fifo, mode, None)
    }

    /// Makes a socket file; fails if something is there. Nobody can connect
    /// before the socket is made to listen. Does not wait (`O_NONBLOCK`).
    pub fn bind_unix(&self) -> io::Result<OwnedFd> {
        let socket = unix_socket()?;
        // The folder's own path does not count; the name may have about 85
        // bytes (unix(7): 108 in all).
        let path = pinned(&self.fd).join(&self.name);
        let address = SocketAddrUnix::new(path.as_os_str().as_bytes()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidFilename, "the socket's name is too long")
        })?;
        bind(&socket, &address)?;
        Ok(socket)
    }

    /// Whether somebody listens on the socket file that is there.
    pub fn is_listening(&self) -> io::Result<bool> {
        let found = match self.look() {
            Ok(found) if found.kind() == Kind::Socket => found,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let address = SocketAddrUnix::new(found.pinned().as_os_str().as_bytes())?;
        match connect(unix_socket()?, &address) {
            Err(Errno::CONNREFUSED) => Ok(false),
            // Its queue is full (EAGAIN), it speaks something else, or it is
            // not for us: in each case it is in use.
            _ => Ok(true),
        }
    }

    /// Makes a symbolic link; fails if something is there.
    pub fn symlink(&self, target: &Path) -> Result<Identity, OpenError> {
        symlinkat(target, &self.fd, &self.name).map_err(|errno| self.io(errno.into()))?;
        self.identity().map_err(|source| self.io(source))
    }

    /// Where the link that is there leads to.
    pub fn read_link(&self) -> Result<PathBuf, OpenError> {
        let found = self.look().map_err(|source| self.io(source))?;
        self.must_be(&found, Kind::Symlink)?;
        found.target().map_err(|source| self.io(source))
    }

    /// Gives what is there this mode and, if one is named, this group. It must
    /// be of this kind.
    pub fn set_access(
        &self,
        kind: Kind,
        mode: Mode,
        group: Option<Gid>,
    ) -> Result<Identity, OpenError> {
        let found = self.look().map_err(|source| self.io(source))?;
        self.must_be(&found, kind)?;
        let set = || {
            let file = found.pinned();
            if group.is_some() {
                chownat(rustix::fs::CWD, &file, None, group, AtFlags::empty())?;
            }
            std::fs::set_permissions(&file, Permissions::from_mode(mode.bits()))?;
            found.again()
        };
        set().map(|found| found.identity()).map_err(|source| self.io(source))
    }

    /// Removes the file if it is still this one, unchanged.
    pub fn unlink_if(&self, identity: &Identity) -> io::Result<Removal> {
        self.unlink_when(|found| found == identity)
    }

    /// Removes the file if it is still the one that [`Identity::lasting`] told
    /// of, whatever was done with it.
    pub fn unlink_lasting(&self, lasting: &str) -> io::Result<Removal> {
        self.unlink_when(|found| found.lasting().as_deref() == Some(lasting))
    }

    /// Another process could swap it between the look and the removal; it could
    /// only do so in a folder where it may remove files itself.
    fn unlink_when(&self, ours: impl FnOnce(&Identity) -> bool) -> io::Result<Removal> {
        let _one = REMOVING.lock().unwrap_or_else(PoisonError::into_inner);
        match self.identity() {
            Ok(found) if ours(&found) => match unlinkat(&self.fd, &self.name, AtFlags::empty()) {
                Ok(()) => Ok(Removal::Removed),
                Err(Errno::NOENT) => Ok(Removal::Missing),
                Err(errno) => Err(errno.into()),
            },
            Ok(_) => Ok(Removal::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removal::Missing),
            Err(error) => Err(error),
        }
    }

    /// Gives the regular file that is there another name in this folder, in
    /// place of a regular file that has it.
    pub fn rename_to(&self, name: &OsStr) -> Result<(), OpenError> {
        let to = self.sibling(name)?;
        let found = self.look().map_err(|source| self.io(source))?;
        self.must_be(&found, Kind::File)?;
        match to.look() {
            Ok(found) => to.must_be(&found, Kind::File)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(to.io(source)),
        }
        renameat(&self.fd, &self.name, &self.fd, name).map_err(|errno| self.io(errno.into()))
    }

    fn look(&self) -> io::Result<Found> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Found::new(openat(&self.fd, &self.name, flags, Mode::empty())?)
    }

    fn must_be(&self, found: &Found, wanted: Kind) -> Result<(), OpenError> {
        if found.kind() != wanted {
            return Err(OpenError::Kind { path: self.path.clone(), found: found.kind(), wanted });
        }
        if self.reserved.holds(&found.metadata) {
            return Err(Denied::Reserved.into());
        }
        Ok(())
    }

    pub(super) fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { path: self.path.clone(), source }
    }
}

impl Found {
    fn identity(&self) -> Identity {
        let file = &self.metadata;
        Identity {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
            born: file.created().ok(),
            kind: self.kind(),
        }
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}
