//! Things that a device makes in folders of the host (a link to a pty) and that
//! a killed server leaves behind. The next one must be able to take the name
//! again, yet nothing that is not ours may ever be deleted. So what is made is
//! noted (device, inode and change time) in the state folder, and only what
//! matches its note is taken for our left-over.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::runtime::Handle;

use super::{Error, Folder, Identity, Removal, remove_if_there};

/// Something at a name that is ours, and its note. Both are removed when this is
/// dropped, on a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct Own(Option<Ours>);

#[derive(Debug)]
struct Ours {
    folder: Folder,
    identity: Identity,
    note: PathBuf,
}

impl Own {
    /// Notes what was just made. If that fails it is removed again. Blocks.
    pub(super) fn note(folder: Folder, identity: Identity, note: PathBuf) -> io::Result<Self> {
        let ours = Ours { folder, identity, note };
        if let Some(folder) = ours.note.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&ours.note, noted(&ours.identity))?;
        Ok(Self(Some(ours)))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let ours = self.0.take();
        match Handle::try_current() {
            // A runtime that ends drops what it did not get to run: `ours` then
            // removes it all the same.
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(ours))),
            Err(_) => drop(ours),
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        match self.folder.unlink_if(&self.identity) {
            // Only while the note is of this one: the device may have made its
            // next already.
            Ok(Removal::Removed | Removal::Missing) if is_noted(&self.identity, &self.note) => {
                remove_if_there(&self.note).ok();
            }
            Ok(_) => {}
            Err(error) => {
                let path = self.folder.path().display();
                tracing::warn!(%path, %error, "not removed");
            }
        }
    }
}

/// Removes what a killed server left behind at a name, and nothing else. Blocks.
pub(super) fn remove_left_over(folder: &Folder, note: &Path) -> Result<(), Error> {
    let path = || folder.path().to_owned();
    let failed = |source| super::OpenError::Io { path: path(), source };
    let found = match folder.identity() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(failed)?,
    };
    if !is_noted(&found, note) {
        return Err(Error::NotOurs { path: path() });
    }
    match folder.unlink_if(&found).map_err(failed)? {
        Removal::Removed | Removal::Missing => Ok(()),
        Removal::Other => Err(Error::NotOurs { path: path() }),
    }
}

fn noted(identity: &Identity) -> String {
    format!("{identity}\n")
}

fn is_noted(identity: &Identity, note: &Path) -> bool {
    fs::read_to_string(note).is_ok_and(|note| note == noted(identity))
}
