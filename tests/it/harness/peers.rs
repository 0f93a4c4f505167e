//! Far sides that are programs of their own, ended with the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A program that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The program, if it is installed. `tests/run` installs what is missing and
/// then tells to insist; without it, a story whose far side is missing says so
/// and is left out.
pub(crate) fn peer(program: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
    });
    found.or_else(|| missing(program))
}

/// Something that `tests/run` installs beside the build.
pub(crate) fn tool(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(path);
    if path.exists() { Some(path) } else { missing(&path.display().to_string()) }
}

pub(super) fn missing(what: &str) -> Option<PathBuf> {
    assert!(std::env::var_os("LINEMAN_TEST_PEERS").is_none(), "{what} is missing");
    eprintln!("left out: {what} is not installed; tests/run installs it");
    None
}
