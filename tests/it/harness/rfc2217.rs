//! pyserial as both ends of RFC 2217: a client that does as it is told, and a
//! serial line with modem lines that tells what is done to it. It is the
//! implementation that most scripts use, and not ours.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{
    Relay,
    ports::{Port, port_of},
    tool,
};

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// `tests/peers/rfc2217_client.py`: asked one thing at a time. Its commands are
/// documented there.
pub(crate) struct Rfc2217Client(Relay);

impl Rfc2217Client {
    /// Opens `rfc2217://127.0.0.1:PORT?OPTIONS`. Without options it insists on an
    /// answer to all that it asks for; `ign_set_control` is for far sides
    /// without DTR and RTS.
    pub(crate) async fn open(port: u16, options: &str, dir: &Path) -> Option<Self> {
        let mut command = Command::new(tool("venv/bin/python")?);
        command.arg(format!("{PEERS}/rfc2217_client.py"));
        command.arg(format!("rfc2217://127.0.0.1:{port}?{options}"));
        let mut client = Self(Relay::spawn(command, dir, "rfc2217_client"));
        client.answer().await;
        Some(client)
    }

    /// Gives a command and returns what came of it.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &Value) -> impl Future<Output = Value> {
        self.0.far.says(format!("{command}\n"));
        self.answer()
    }

    async fn answer(&mut self) -> Value {
        let line = self.0.far.hears("\n").await;
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        answer.get_mut("ok").unwrap_or_else(|| panic!("{line}")).take()
    }
}

/// `tests/peers/rfc2217_server.py`: a serial line with DTR, RTS, breaks and modem
/// lines, which ser2net on a pty has not. Its events are documented there.
pub(crate) struct Rfc2217Server {
    relay: Relay,
    port: u16,
}

impl Rfc2217Server {
    pub(crate) async fn serve(dir: &Path) -> Option<Self> {
        let mut command = Command::new(tool("venv/bin/python")?);
        command.arg(format!("{PEERS}/rfc2217_server.py"));
        let mut relay = Relay::spawn(command, dir, "rfc2217_server");
        let port = port_of(&mut relay.program, Port::Listening).await;
        Some(Self { relay, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for an event after those waited for before, such as
    /// `{"set": {"dtr": false}}`.
    pub(crate) async fn tells(&mut self, event: &Value) {
        loop {
            let line = self.relay.far.hears("\n").await;
            if serde_json::from_str::<Value>(&line).unwrap() == *event {
                return;
            }
        }
    }

    /// Gives a command: `{"say": "TEXT"}` or `{"lines": {"cts": false}}`.
    pub(crate) fn told(&mut self, command: &Value) {
        self.relay.far.says(format!("{command}\n"));
    }
}
