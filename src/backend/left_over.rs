//! Things that a device makes in folders of the host (a socket, a link to a pty)
//! and that a killed server leaves behind. The next one must be able to take the
//! name again, yet nothing that is not ours may ever be deleted. So what is made
//! is noted (device, inode and change time) in the state folder, and only what
//! matches its note, and that nobody listens on, is taken for our left-over.
//!
//! A device has one note. It stays when what it tells of is removed, until the
//! next one or the end of the device: it fits nothing else, and to remove it
//! could meet the next one, which may be written just now.

use std::{fs, io, path::Path};

use tokio::runtime::Handle;

use super::{Error, Folder, Identity, OpenError, Removal};

/// Something that was just made at a name. Dropped, it is removed at once, as
/// long as it is what was made. Blocks.
#[derive(Debug)]
pub(super) struct Made {
    folder: Folder,
    identity: Identity,
}

impl Made {
    pub(super) fn new(folder: Folder, identity: Identity) -> Self {
        Self { folder, identity }
    }

    /// Changes what was made, for example who may use it. Also after a change
    /// that worked only in part it is known as ours.
    pub(super) fn change(
        &mut self,
        change: impl FnOnce(&Folder) -> Result<Identity, OpenError>,
    ) -> Result<(), OpenError> {
        let changed = change(&self.folder);
        match self.folder.identity() {
            Ok(now) if now.is_same_file(&self.identity) => self.identity = now,
            _ => {}
        }
        self.identity = changed?;
        Ok(())
    }

    /// Notes it, so that it is recognised after a kill.
    pub(super) fn note(self, note: &Path) -> io::Result<Own> {
        if let Some(folder) = note.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(note, noted(&self.identity))?;
        Ok(Own(Some(self)))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = self.folder.unlink_if(&self.identity) {
            let path = self.folder.path().display();
            tracing::warn!(%path, %error, "what the device made there was not removed");
        }
    }
}

/// Something at a name that is ours and noted. It is removed when this is
/// dropped, on a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct Own(Option<Made>);

impl Drop for Own {
    fn drop(&mut self) {
        let made = self.0.take();
        match Handle::try_current() {
            // A runtime that ends drops what it did not get to run: `made` then
            // is removed all the same.
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(made))),
            Err(_) => drop(made),
        }
    }
}

/// Removes what a killed server left behind at a name, and nothing else. Blocks.
pub(super) fn remove_left_over(folder: &Folder, note: &Path) -> Result<(), Error> {
    let failed = |source| folder.io(source);
    let found = match folder.identity() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(failed)?,
    };
    // What is not noted is not even connected to.
    let left_over = is_noted(&found, note) && !folder.is_listening().map_err(failed)?;
    let removal =
        if left_over { folder.unlink_if(&found).map_err(failed)? } else { Removal::Other };
    match removal {
        Removal::Removed | Removal::Missing => Ok(()),
        Removal::Other => Err(Error::NotOurs { path: folder.path().to_owned() }),
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
    use std::{
        os::unix::{fs::PermissionsExt, net::UnixListener},
        path::PathBuf,
    };

    use tempfile::TempDir;

    use super::{super::Allow, *};

    /// A folder with a name for a socket in it, and a note.
    fn name() -> (TempDir, impl Fn() -> Folder, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        let path = dir.path().join("a.sock");
        let note = dir.path().join("note");
        (dir, move || allow.open_folder(&path).unwrap(), note)
    }

    fn made(folder: Folder) -> Made {
        let identity = folder.identity().unwrap();
        Made::new(folder, identity)
    }

    #[test]
    fn only_what_is_noted_and_dead_is_removed() {
        let (_dir, folder, note) = name();
        let path = folder().path().to_owned();
        remove_left_over(&folder(), &note).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let own = made(folder()).note(&note).unwrap();
        // As after a kill.
        std::mem::forget(own);
        let alive = remove_left_over(&folder(), &note).unwrap_err();
        assert!(matches!(alive, Error::NotOurs { .. }), "{alive}");
        drop(listener);
        remove_left_over(&folder(), &note).unwrap();
        assert!(!path.exists());

        // Another one by the same name.
        drop(UnixListener::bind(&path).unwrap());
        let other = remove_left_over(&folder(), &note).unwrap_err();
        assert!(matches!(other, Error::NotOurs { .. }), "{other}");
        assert!(path.exists());
    }

    #[test]
    fn what_fails_half_way_is_removed() {
        let (_dir, folder, _) = name();
        let path = folder().path().to_owned();
        let _listener = UnixListener::bind(&path).unwrap();
        let mut half = made(folder());
        half.change(|folder| {
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o600)).unwrap();
            Err(folder.io(io::ErrorKind::PermissionDenied.into()))
        })
        .unwrap_err();
        drop(half);
        assert!(!path.exists());
    }

    #[test]
    fn the_end_of_one_leaves_the_note_of_the_next() {
        let (_dir, folder, note) = name();
        let path = folder().path().to_owned();
        drop(UnixListener::bind(&path).unwrap());
        let first = made(folder()).note(&note).unwrap();
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        std::mem::forget(made(folder()).note(&note).unwrap());
        drop(first);
        remove_left_over(&folder(), &note).unwrap();
        assert!(!path.exists());
    }
}
