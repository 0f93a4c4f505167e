//! A file on this host that bytes are appended to: what `file`, the copy of
//! `spec.log` and the logs of domains write to. Blocks; see `offload`.
//!
//! - Opened as `Folder` opens files: a regular file and nothing else, no link
//!   followed, made for its owner alone, its folder never made.
//! - Always at its end (`O_APPEND`): somebody who truncates it leaves no hole.
//! - Before each write it is seen whether the name still leads to the open file,
//!   and once a second whether the path still leads to its folder; if not, the
//!   name is opened, or made, anew. What was written stays in the file that was
//!   renamed, and what comes goes to the new one, so no byte is lost or twice.
//!   A look takes 1.5 µs (measured), less than handing a write to a thread.
//! - Emptied at most once, whatever errors come after.
//!
//! What is written is in the operating system's hands: a kill loses nothing, a
//! power loss what the disk had not got yet.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags, fallocate},
    io::Errno,
};

use super::{Allow, Error, Folder, OpenError};
use crate::{device::Switch, limits};

/// What becomes of what a file holds when it is opened for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It is kept.
    Keep,
    /// The file is emptied.
    Empty,
}

impl Begin {
    /// At the start of a device; libvirt's `append`, whose default is off.
    pub fn at_start(append: Switch) -> Self {
        if append.is_on() { Self::Keep } else { Self::Empty }
    }
}

/// Why a file could not be written, by what an operator does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// No room.
    DiskFull,
    /// No room for this user.
    QuotaUsedUp,
    /// The file system, or the limit of the process, allows no larger file.
    FileTooLarge,
    /// Nothing can be written at all.
    DiskReadOnly,
    /// Anything else.
    DiskFailed,
}

impl WriteFault {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC) => Self::DiskFull,
            Some(Errno::DQUOT) => Self::QuotaUsedUp,
            Some(Errno::FBIG) => Self::FileTooLarge,
            Some(Errno::ROFS) => Self::DiskReadOnly,
            _ => Self::DiskFailed,
        }
    }

    /// One UpperCamel word, for conditions.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DiskFull => "DiskFull",
            Self::QuotaUsedUp => "QuotaUsedUp",
            Self::FileTooLarge => "FileTooLarge",
            Self::DiskReadOnly => "DiskReadOnly",
            Self::DiskFailed => "DiskFailed",
        }
    }
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::QuotaUsedUp => "the disk quota is used up",
            Self::FileTooLarge => "the file is as large as it may be",
            Self::DiskReadOnly => "the disk is read-only",
            Self::DiskFailed => "the disk failed",
        })
    }
}

/// Which file.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// By its path.
    Path(PathBuf),
    /// By its name in the folder for domain logs.
    DomainLog(OsString),
}

/// A file that bytes are appended to. Opened when it is first used, and again
/// after an error.
#[derive(Debug)]
pub(super) struct Appender {
    allow: Arc<Allow>,
    target: Target,
    begin: Begin,
    open: Option<Open>,
    /// Device and inode of the file that was open last.
    last: Option<(u64, u64)>,
    /// Whether the disk took what it was last given.
    disk: Disk,
}

#[derive(Debug)]
struct Open {
    folder: Folder,
    /// When the path to the folder was last walked.
    walked: Instant,
    file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Fine,
    Failed,
}

/// Whether a file is the one of last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Same {
    /// It is.
    Yes,
    /// It is another, or the first.
    No,
}

/// The file that has the name now.
#[derive(Debug)]
pub(super) struct Here<'a> {
    pub(super) folder: &'a Folder,
    pub(super) file: &'a File,
    pub(super) len: u64,
    pub(super) same: Same,
}

impl Appender {
    pub(super) fn new(allow: Arc<Allow>, target: Target, begin: Begin) -> Self {
        Self { allow, target, begin, open: None, last: None, disk: Disk::Fine }
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        match &self.target {
            Target::Path(path) => path.clone(),
            Target::DomainLog(name) => match self.allow.domain_logs() {
                Ok(folder) => folder.join(name),
                Err(_) => name.into(),
            },
        }
    }

    /// Opens the file, if it is not open. After a failed write it is only ready
    /// when the disk has room again: whoever says that it is ready is believed.
    pub(super) fn ready(&mut self) -> Result<(), Error> {
        let failed = self.disk == Disk::Failed;
        let here = self.here()?;
        if !failed {
            return Ok(());
        }
        // Takes blocks past the end, which the next write uses; neither length
        // nor content changes.
        let room =
            fallocate(here.file, FallocateFlags::KEEP_SIZE, here.len, limits::FILE_ROOM_BYTES);
        match room {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::ROFS | Errno::IO)) => {
                self.took(Err(errno.into())).map(drop)
            }
            // File systems that cannot say let the next write find out.
            _ => Ok(()),
        }
    }

    /// Appends from the front of `data`, which is not empty; at least a byte.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<usize, Error> {
        let here = self.here()?;
        let written = write_some(here.file, data);
        self.took(written)
    }

    /// The file that has the name now, opened or made if need be.
    pub(super) fn here(&mut self) -> Result<Here<'_>, Error> {
        // Taken out: after any error it is opened anew.
        let kept = match self.open.take() {
            Some(open) => self.look(open)?,
            None => None,
        };
        let (open, len, same) = match kept {
            Some((open, len)) => (open, len, Same::Yes),
            None => self.open_now()?,
        };
        let Open { folder, file, .. } = self.open.insert(open);
        Ok(Here { folder, file, len, same })
    }

    /// Takes in what became of a write to [`Here::file`].
    pub(super) fn took(&mut self, written: io::Result<usize>) -> Result<usize, Error> {
        match written {
            Ok(n) => {
                self.disk = Disk::Fine;
                Ok(n)
            }
            Err(source) => {
                self.disk = Disk::Failed;
                self.close();
                Err(Error::Write { path: self.path(), fault: WriteFault::of(&source), source })
            }
        }
    }

    /// Closes the file; the next use opens what has the name then.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// The open file and its length, if it still has the name.
    fn look(&self, mut open: Open) -> Result<Option<(Open, u64)>, Error> {
        if open.walked.elapsed() >= limits::FOLDER_LOOK {
            open.folder = self.folder()?;
            open.walked = Instant::now();
        }
        let len = open.folder.len_if_named(&open.file)?;
        Ok(len.map(|len| (open, len)))
    }

    fn open_now(&mut self) -> Result<(Open, u64, Same), Error> {
        let folder = self.folder()?;
        let access = match self.target {
            Target::Path(_) => OFlags::WRONLY,
            // How its last line ends is read.
            Target::DomainLog(_) => OFlags::RDWR,
        };
        let empty = match self.begin {
            Begin::Keep => OFlags::empty(),
            Begin::Empty => OFlags::TRUNC,
        };
        let flags = access | OFlags::APPEND | OFlags::CREATE | empty;
        let file = folder.open_file(flags, Mode::RUSR | Mode::WUSR)?;
        self.begin = Begin::Keep;
        let found = file.metadata().map_err(|source| folder.io(source))?;
        let last = self.last.replace((found.dev(), found.ino()));
        let same = if last == self.last { Same::Yes } else { Same::No };
        Ok((Open { folder, walked: Instant::now(), file }, found.len(), same))
    }

    fn folder(&self) -> Result<Folder, OpenError> {
        match &self.target {
            Target::Path(path) => self.allow.open_folder(path),
            Target::DomainLog(name) => self.allow.open_domain_logs(name),
        }
    }
}

/// One write(2), which may be short.
pub(super) fn write_some(mut file: &File, data: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn appender(dir: &tempfile::TempDir, begin: Begin) -> Appender {
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        Appender::new(Arc::new(allow), Target::Path(dir.path().join("a")), begin)
    }

    #[test]
    fn a_file_is_emptied_once_whatever_comes_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut file = appender(&dir, Begin::Empty);
        assert_eq!(file.write(b"one").unwrap(), 3);
        file.close();
        assert_eq!(file.write(b"two").unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        assert_eq!(appender(&dir, Begin::Keep).write(b"!").unwrap(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"onetwo!");
    }

    #[test]
    fn a_renamed_or_removed_file_is_made_anew_and_a_truncated_one_has_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut file = appender(&dir, Begin::Empty);
        file.write(b"one").unwrap();
        fs::rename(&path, dir.path().join("b")).unwrap();
        file.write(b"two").unwrap();
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"one");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::remove_file(&path).unwrap();
        file.write(b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        fs::write(&path, "").unwrap();
        file.write(b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
    }

    #[test]
    fn a_folder_that_was_swapped_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        fs::create_dir(&folder).unwrap();
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        let path = folder.join("a");
        let mut file = Appender::new(Arc::new(allow), Target::Path(path.clone()), Begin::Keep);
        file.write(b"one").unwrap();
        fs::rename(&folder, dir.path().join("out")).unwrap();
        // As if a second had passed.
        let long_ago = Instant::now().checked_sub(limits::FOLDER_LOOK).unwrap();
        file.open.as_mut().unwrap().walked = long_ago;
        assert!(matches!(file.write(b"x"), Err(Error::Open(OpenError::Io { .. }))));
        fs::create_dir(&folder).unwrap();
        file.write(b"two").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"two");
        assert_eq!(fs::read(dir.path().join("out/a")).unwrap(), b"one");
    }
}
