//! What is opened, what is made and what is removed, in a folder of the test.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
};

use rustix::fs::{CWD, FileType, mknodat};
use tempfile::TempDir;

use super::*;
use crate::device::Switch;

/// A folder that is allowed, and a device's path in it.
struct Place {
    dir: TempDir,
    allow: Allow,
    spec: PipeSpec,
}

impl Place {
    fn new(create: Switch, single: SinglePipe) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        let spec = PipeSpec { path: dir.path().join("console"), create, single };
        Self { dir, allow, spec }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fifo(&self, name: &str) {
        mknodat(CWD, self.path(name), FileType::Fifo, FIFO_MODE, 0).unwrap();
    }

    fn open(&self) -> Result<Opened, Error> {
        open(&self.spec, &self.path("note"), &self.allow)
    }

    /// Which is read and which is written.
    fn ends(&self) -> (Option<String>, Option<String>) {
        let name =
            |(_, path): (File, PathBuf)| path.file_name().unwrap().to_str().unwrap().to_owned();
        let Opened { reads, writes } = self.open().unwrap();
        (reads.map(name), writes.map(name))
    }

    fn error(&self) -> String {
        match self.open() {
            Ok(_) => panic!("opened"),
            Err(error) => super::super::explain(&error),
        }
    }

    fn made(&self) -> usize {
        Made::read(&self.path("note")).fifos.len()
    }

    fn forget(&self) {
        Made::read(&self.path("note")).keep_only(&[], &self.allow);
    }
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn the_pair_wins_over_the_single_one() {
    let place = Place::new(Switch::Unsaid, SinglePipe::Output);
    place.fifo("console");
    assert_eq!(place.ends(), (some("console"), None));
    place.fifo("console.in");
    // One of a pair is none.
    assert_eq!(place.ends(), (some("console"), None));
    place.fifo("console.out");
    assert_eq!(place.ends(), (some("console.in"), some("console.out")));
}

#[test]
fn the_single_one_carries_one_direction() {
    let place = Place::new(Switch::Unsaid, SinglePipe::Input);
    place.fifo("console");
    assert_eq!(place.ends(), (None, some("console")));
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new(Switch::Off, SinglePipe::Output);
    let error = place.error();
    assert!(error.contains("console.in") && error.contains("no FIFO"), "{error}");
    place.fifo("console.out");
    let error = place.error();
    assert!(error.contains("console.in: No such file"), "{error}");
    assert_eq!(place.made(), 0);
}

#[test]
fn nothing_but_a_fifo_is_opened() {
    let place = Place::new(Switch::On, SinglePipe::Output);
    fs::write(place.path("console.in"), "kept").unwrap();
    let error = place.error();
    assert!(error.ends_with("console.in is a regular file, not a FIFO"), "{error}");
    assert_eq!(fs::read_to_string(place.path("console.in")).unwrap(), "kept");

    fs::remove_file(place.path("console.in")).unwrap();
    place.fifo("elsewhere");
    symlink(place.path("elsewhere"), place.path("console.in")).unwrap();
    let error = place.error();
    assert!(error.ends_with("is a symbolic link, not a FIFO"), "{error}");
}

#[test]
fn a_pair_that_is_missing_is_made_and_goes_with_the_device() {
    let place = Place::new(Switch::On, SinglePipe::Output);
    assert_eq!(place.ends(), (some("console.in"), some("console.out")));
    for name in ["console.in", "console.out"] {
        let metadata = fs::metadata(place.path(name)).unwrap();
        assert!(metadata.file_type().is_fifo());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    }
    // Used, and given to others: still ours. Opened again: nothing new.
    fs::set_permissions(place.path("console.in"), fs::Permissions::from_mode(0o660)).unwrap();
    let (mut fifo, _) = place.open().unwrap().reads.unwrap();
    fifo.write_all(b"x").unwrap();
    assert_eq!(place.made(), 2);
    place.forget();
    assert!(!place.path("console.in").exists() && !place.path("console.out").exists());
}

#[test]
fn what_somebody_else_made_is_never_removed() {
    let mut place = Place::new(Switch::On, SinglePipe::Output);
    place.fifo("console.in");
    assert_eq!(place.ends(), (some("console.in"), some("console.out")));
    assert_eq!(place.made(), 1, "only the missing one was made");
    // Replaced, perhaps by one with the same inode number.
    fs::remove_file(place.path("console.out")).unwrap();
    place.fifo("console.out");
    place.forget();
    assert!(place.path("console.in").exists() && place.path("console.out").exists());

    // Nor when the device gets another path.
    place.spec.path = place.path("other");
    place.open().unwrap();
    assert_eq!(place.made(), 2);
    assert!(place.path("console.in").exists() && place.path("console.out").exists());
    place.spec.path = place.path("third");
    place.open().unwrap();
    assert!(!place.path("other.in").exists() && place.path("third.in").exists());
}

#[test]
fn a_spoilt_note_owns_nothing() {
    let place = Place::new(Switch::Unsaid, SinglePipe::Output);
    place.fifo("console.in");
    let path = place.path("console.in");
    for note in ["", "\n\n", "1 2", "1 2 3 /", &format!("1 2 3 {}\n", path.display())] {
        fs::write(place.path("note"), note).unwrap();
        place.forget();
        assert!(path.exists(), "{note:?}");
    }
}
