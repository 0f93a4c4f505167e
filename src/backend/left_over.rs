//! Things that a device makes in folders of the host (a link to a pty) and that
//! a killed server leaves behind. The next one must be able to take the name
//! again, yet nothing that is not ours may ever be deleted. So what is made is
//! noted (device, inode and change time) in the state folder, and only what
//! matches its note is taken for our left-over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tokio::runtime::Handle;

use super::{Error, Folder, Identity, Removal, remove_if_there};

/// Held while a note is written, or looked at and removed: the removal of a
/// device's last one must not take the note of its next.
static NOTES: Mutex<()> = Mutex::new(());

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
        let written = {
            let _one = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
            fs::write(&ours.note, noted(&ours.identity))
        };
        // Not under the lock: what failed is removed by `ours`.
        written?;
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
            Ok(Removal::Removed | Removal::Missing) => {
                let _one = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
                // Only while the note is of this one: the device may have made
                // its next already.
                if is_noted(&self.identity, &self.note) {
                    remove_if_there(&self.note).ok();
                }
            }
            Ok(Removal::Other) => {}
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

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::backend::Allow;

    #[test]
    fn the_note_of_the_next_one_outlives_the_removal_of_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let (path, note) = (dir.path().join("link"), dir.path().join("note"));
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        let folder = || allow.open_folder(&path).unwrap();
        let make = || {
            let identity = folder().symlink(Path::new("target")).ok()?;
            Some(Own::note(folder(), identity, note.clone()).unwrap())
        };
        let mut last = make().unwrap();
        for _ in 0..3000 {
            let both = Barrier::new(2);
            last = thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    drop(last);
                });
                both.wait();
                loop {
                    if let Some(next) = make() {
                        break next;
                    }
                }
            });
            assert!(is_noted(&folder().identity().unwrap(), &note));
        }
    }
}
