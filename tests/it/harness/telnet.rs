//! Telnet clients as people use them: GNU inetutils' `telnet`, and netkit's
//! `telnet-ssl`, which speaks telnet inside of TLS.
//!
//! Debian lets both be `telnet` by its alternatives; they are called by the names
//! that only they have.

use std::{path::Path, process::Command};

use super::{Certificates, Holder, Identity, Terminal, peer};

/// Which client.
#[derive(Clone, Copy)]
pub(crate) enum TelnetClient<'a> {
    Inetutils,
    /// TLS from the first byte, with the certificate of the client; the server's
    /// must be of the CA, whatever its name.
    Tls(&'a Certificates),
}

/// A person with a telnet client that is connected. Ends with the test.
pub(crate) struct Telnet {
    pub(crate) terminal: Terminal,
    /// Of the client's own commands.
    prompt: &'static str,
}

impl Telnet {
    /// Connects to a port of this machine. `dir` is the person's home.
    pub(crate) async fn connect(client: TelnetClient<'_>, port: u16, dir: &Path) -> Option<Self> {
        // Each client's prompt is its name.
        let (mut command, prompt) = match client {
            TelnetClient::Inetutils => {
                (Command::new(peer("inetutils-telnet")?), "inetutils-telnet> ")
            }
            TelnetClient::Tls(certificates) => {
                let mut command = Command::new(peer("telnet-ssl")?);
                command.args(["-z", "ssl", "-z", "secure", "-z", "verify=1"]);
                let Identity { certificate, key } = certificates.of(Holder::Client);
                for (option, file) in
                    [("cacert", certificates.ca()), ("cert", certificate), ("key", key)]
                {
                    command.arg("-z").arg(format!("{option}={}", file.display()));
                }
                (command, "telnet-ssl> ")
            }
        };
        command.env("HOME", dir).args(["127.0.0.1", &port.to_string()]);
        let mut terminal = Terminal::run(command);
        terminal.shows("Escape character is '^]'.").await;
        Some(Self { terminal, prompt })
    }

    /// Presses the escape key and gives a command of the client's own, such as
    /// `send brk`, `send ayt`, `mode character` or `quit`.
    pub(crate) async fn command(&mut self, command: &str) {
        self.terminal.types("\x1d");
        self.terminal.shows(self.prompt).await;
        self.terminal.types(&format!("{command}\r"));
    }

    pub(crate) async fn send_break(&mut self) {
        self.command("send brk").await;
    }
}
