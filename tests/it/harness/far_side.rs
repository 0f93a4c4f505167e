//! The far side of a device, played by the test: bytes it says, bytes it hears,
//! over whatever carries them (a terminal, a socket, a pair of pipes, a program
//! that relays).
//!
//! One type for all of them, so that a story reads the same whatever the host
//! interface is.

use std::{
    fs::File,
    io::Write,
    net::TcpStream,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags, open},
    net::{self, shutdown},
};

use super::{Background, Gathered};

/// A program at the far side of a device, played by the test. It takes what is
/// written to the device for as long as that is there. Dropped, it hangs up.
pub(crate) struct FarSide {
    line: File,
    heard: Gathered,
}

impl FarSide {
    /// Opens the slave of a device's pty, which the server has made raw.
    pub(crate) fn open(path: impl AsRef<Path>) -> Self {
        Self::on(open_tty(path.as_ref()))
    }

    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> Self {
        Self::on(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    /// On something that carries both directions: a terminal, or a connected
    /// socket of `std` (a datagram a write, and one a read).
    pub(crate) fn on(line: impl Into<OwnedFd>) -> Self {
        let line = File::from(line.into());
        Self::between(line.try_clone().unwrap(), line)
    }

    /// On one thing that it hears and another that it speaks into.
    pub(crate) fn between(hears: impl Into<OwnedFd>, speaks: impl Into<OwnedFd>) -> Self {
        let heard = Gathered::from("the far side's input", File::from(hears.into()));
        Self { line: File::from(speaks.into()), heard }
    }

    pub(crate) fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.line.write_all(bytes.as_ref()).unwrap();
    }

    /// Waits for input after what was waited for before; returns what came
    /// between.
    pub(crate) async fn hears(&mut self, text: &str) -> String {
        self.heard.until(text).await
    }

    /// Waits for so many bytes of input in all, and returns all.
    pub(crate) async fn hears_bytes(&self, len: usize) -> Vec<u8> {
        self.heard.until_len(len).await
    }

    /// On a socket: says that nothing more comes, and goes on to listen.
    pub(crate) fn says_no_more(&self) {
        shutdown(&self.line, net::Shutdown::Write).unwrap();
    }
}

impl Drop for FarSide {
    /// The thread that gathers has the socket open too, so closing is not enough.
    fn drop(&mut self) {
        // What is no socket has nothing to shut down.
        shutdown(&self.line, net::Shutdown::Both).ok();
    }
}

/// A terminal, for reading and writing and not as ours.
pub(super) fn open_tty(path: &Path) -> OwnedFd {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let tty = open(path, flags, Mode::empty()).unwrap();
    // A line without carrier must not hold up the open, only that.
    rustix::fs::fcntl_setfl(&tty, OFlags::RDWR).unwrap();
    tty
}

/// A program between the test and the far end of a device: what the test says
/// goes to its standard input, what it prints is heard. It ends with the test.
pub(crate) struct Relay {
    pub(crate) far: FarSide,
    pub(crate) program: Background,
}

impl Relay {
    /// Its standard error goes to a file in `dir`, named after it.
    pub(crate) fn spawn(mut command: Command, dir: &Path, name: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (program, stdin, stdout) = Background::spawn_piped(command, dir, name);
        Self { far: FarSide::between(OwnedFd::from(stdout), OwnedFd::from(stdin)), program }
    }
}
