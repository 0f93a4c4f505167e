//! Datagrams sent and taken by socat, from any port one likes.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::{
    Background, peer,
    ports::{Port, port_of},
    run, until,
};

/// Sends one datagram on this machine, of at most 8192 bytes. An empty one is
/// sent as such.
pub(crate) async fn send_datagram(source: u16, to: u16, payload: &[u8]) -> Option<()> {
    let mut command = Command::new(peer("socat")?);
    // By itself socat does not send what is empty; at the end of its input it can.
    let end = if payload.is_empty() { ",shut-null" } else { "" };
    let bind = format!("bind=127.0.0.1:{source},reuseaddr{end}");
    command.args(["-u", "-", &format!("UDP-SENDTO:127.0.0.1:{to},{bind}")]);
    run(command, payload).await.ok();
    Some(())
}

/// Takes datagrams from everywhere and joins their bytes. Ends with the test.
pub(crate) struct Datagrams {
    socat: Background,
    port: u16,
}

impl Datagrams {
    /// Listens on a port that the kernel chooses. What comes goes to `DIR/NAME`.
    pub(crate) async fn listen(dir: &Path, name: &str) -> Option<Self> {
        let mut command = Command::new(peer("socat")?);
        command.args(["-u", "UDP-RECV:0,bind=127.0.0.1", "-"]).stdin(Stdio::null());
        let mut socat = Background::spawn(command, dir, name);
        let port = port_of(&mut socat, Port::Datagrams).await;
        Some(Self { socat, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until so many bytes came in all, and returns them.
    pub(crate) async fn takes_bytes(&self, len: usize) -> Vec<u8> {
        until(&format!("{len} bytes in datagrams"), || {
            Some(self.socat.stdout()).filter(|taken| taken.len() >= len)
        })
        .await
    }
}
