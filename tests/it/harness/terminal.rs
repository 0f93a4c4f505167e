//! Terminals: programs that run on one as if a person sat there.

use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    process::{Child, Command},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::tcgetattr,
};

use super::{Gathered, command::shell_code, until};

/// A person at a terminal that a program runs on; the program ends with the
/// test.
pub(crate) struct Terminal {
    /// The person's end.
    master: File,
    /// Kept, so that the settings can be seen after the program has ended.
    slave: OwnedFd,
    found: String,
    screen: Gathered,
    child: Child,
}

impl Terminal {
    /// Runs a program on a terminal, but not as the leader of a session: the
    /// kernel would put the settings right when it ends, whatever it did.
    pub(crate) fn run(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let found = settings(&slave);
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(master);
        let name = format!("the terminal of {command:?}");
        let screen = Gathered::from(&name, master.try_clone().unwrap());
        Self { master, slave, found, screen, child }
    }

    /// Presses keys.
    pub(crate) fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text on the screen after those waited for before; returns
    /// what came between.
    pub(crate) async fn shows(&mut self, text: &str) -> String {
        self.screen.until(text).await
    }

    /// Everything that was ever on the screen.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.bytes()).into_owned()
    }

    /// Whether the terminal's settings are those that the program has found.
    pub(crate) fn is_as_found(&self) -> bool {
        settings(&self.slave) == self.found
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the program has ended, and returns the code that a shell
    /// would show.
    pub(crate) async fn ended(&mut self) -> i32 {
        let child = &mut self.child;
        shell_code(until("end of a program on a terminal", || child.try_wait().unwrap()).await)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// All settings of a terminal, in a form to compare.
fn settings(terminal: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}
