//! Finding a host device. udev names serial adapters by links
//! (`/dev/serial/by-id/…`), so links are followed here, one at a time, each
//! checked against the list before anything at its end is looked at: what a
//! link outside leads to is never told.
//!
//! A device is opened only when it is certain what it is: to open a tape drive
//! rewinds it, to open a watchdog arms it. Everything here blocks.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, major, minor, openat},
    io::Errno,
};

use super::{
    Allow, Denied,
    beneath::{Found, Kind, Miss, OpenError, find, open_root, pinned},
};

/// Where device nodes are.
const DEV: &str = "/dev";
/// Links from a name to a device; udev needs one.
const HOPS_MAX: usize = 8;
/// Device numbers of pseudo terminals (Linux, Documentation/admin-guide/devices.txt).
const PTY_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Opens a device whose path is in the list.
pub(super) fn open(allow: &Allow, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let (found, real) = follow(allow, path)?;
    let (fits, wanted) = if allow.lists_device(&real) {
        (found.kind() == Kind::CharacterDevice, Kind::CharacterDevice)
    } else {
        // Whoever may make links in a listed folder must not choose among all
        // devices of the host.
        (is_terminal(&found), Kind::Terminal)
    };
    if !fits {
        return Err(OpenError::Kind { path: path.to_owned(), found: found.kind(), wanted });
    }
    found.reopen(flags | OFlags::NONBLOCK).map_err(failed)
}

/// What is at the end of the links, and its path.
fn follow(allow: &Allow, path: &Path) -> Result<(Found, PathBuf), OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let mut at = path.to_owned();
    for _ in 0..HOPS_MAX {
        let parent = parent(allow, &at).map_err(|miss| miss.told(path, Denied::Device))?;
        let name = at.file_name().ok_or(Denied::Device)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&parent, name, flags, Mode::empty());
        let found = found.map_err(io::Error::from).and_then(Found::new).map_err(failed)?;
        if found.kind() != Kind::Symlink {
            return Ok((found, at));
        }
        // A relative target counts from where the link really is.
        let real = std::fs::read_link(pinned(&parent)).map_err(failed)?;
        at = straighten(&real.join(found.target().map_err(failed)?));
    }
    Err(failed(Errno::LOOP.into()))
}

/// The folder of a device, below what is listed, or below `/dev` where links
/// lead.
fn parent(allow: &Allow, path: &Path) -> Result<OwnedFd, Miss> {
    let mut roots: Vec<_> = allow
        .devices_above(path)
        .filter_map(|entry| if path == entry { entry.parent() } else { Some(entry) })
        .collect();
    if path.starts_with(DEV) {
        roots.push(Path::new(DEV));
    }
    let mut result = Err(Miss::LeadsOut);
    for root in roots {
        let Some(relative) = path.parent().and_then(|parent| parent.strip_prefix(root).ok()) else {
            continue;
        };
        let links = allow.links_below(root);
        result = open_root(root).and_then(|root| find(&root, relative, OFlags::DIRECTORY, links));
        if !matches!(result, Err(Miss::LeadsOut)) {
            break;
        }
    }
    result
}

/// Without `..`, for a path whose folders are no links.
fn straighten(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                straight.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => {
                straight.push(part);
            }
        }
    }
    straight
}

/// Whether it is a terminal, told without opening it.
fn is_terminal(found: &Found) -> bool {
    if !found.metadata.file_type().is_char_device() {
        return false;
    }
    let number = found.metadata.rdev();
    let (major, minor) = (major(number), minor(number));
    PTY_MAJORS.contains(&major)
        || std::fs::read_link(format!("/sys/dev/char/{major}:{minor}/subsystem"))
            .is_ok_and(|subsystem| subsystem.ends_with("tty"))
}
