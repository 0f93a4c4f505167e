//! ser2net: what most serial lines on networks are served by, with an
//! implementation of telnet and RFC 2217 that is not ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;

use super::{
    Background, peer,
    ports::{Port, port_of},
};

/// How ser2net serves its line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accepter {
    /// Telnet with the COM port option.
    Rfc2217,
    /// Telnet without it.
    Telnet,
    /// The bytes and nothing else.
    Raw,
}

/// ser2net with one line on one port. It takes one user at a time and tells
/// others so. Ends with the test.
pub(crate) struct Ser2net {
    program: PathBuf,
    accepter: Accepter,
    serial: PathBuf,
    dir: PathBuf,
    port: u16,
    running: Option<Background>,
}

impl Ser2net {
    /// Serves a terminal at 115200 8N1 on a port of this machine.
    ///
    /// On a `PtyPair`, requests to set DTR and RTS get no answer, since a pty has
    /// neither.
    pub(crate) async fn serve(accepter: Accepter, serial: &Path, dir: &Path) -> Option<Self> {
        let (serial, dir) = (serial.to_owned(), dir.to_owned());
        let program = peer("ser2net")?;
        let mut ser2net = Self { program, accepter, serial, dir, port: 0, running: None };
        ser2net.start_again().await;
        Some(ser2net)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it, as a box that is switched off.
    pub(crate) async fn stop(&mut self) {
        let mut running = self.running.take().expect("running");
        running.signal(Signal::KILL);
        running.ended().await;
    }

    /// Starts it on the port it had.
    pub(crate) async fn start_again(&mut self) {
        let accepter = match self.accepter {
            Accepter::Rfc2217 => "telnet(rfc2217),tcp",
            Accepter::Telnet => "telnet,tcp",
            Accepter::Raw => "tcp",
        };
        // Its lock files are named after the last part of a path only, which
        // other tests may have as well.
        let config = format!(
            "%YAML 1.1\n---\nconnection: &line\n  accepter: {accepter},127.0.0.1,{}\n  \
             connector: serialdev(nouucplock=true),{},115200n81,local\n",
            self.port,
            self.serial.display(),
        );
        let file = self.dir.join("ser2net.yaml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["-n", "-c"]).arg(file).arg("-P").arg(self.dir.join("ser2net.pid"));
        let mut running = Background::spawn(command_without_input(command), &self.dir, "ser2net");
        self.port = port_of(&mut running, Port::Listening).await;
        self.running = Some(running);
    }
}

fn command_without_input(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command
}
