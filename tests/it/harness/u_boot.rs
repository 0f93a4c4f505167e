//! U-Boot in QEMU: a machine that boots to a prompt in about a second, with its
//! serial console behind any of QEMU's character devices.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::{
    Background, Certificates, FarSide, peer,
    peers::missing,
    ports::{Port, port_of},
    soon,
};

/// Where Debian's u-boot-qemu puts the image for `-machine virt`.
const IMAGE: &str = "/usr/lib/u-boot/qemu_arm/u-boot.bin";

/// What the machine's serial console is connected to.
///
/// Servers listen on a port that the kernel chooses (`UBoot::port`). Those that
/// can, hold the machine back until somebody is connected, so that nothing of the
/// boot is lost; clients try again every second until somebody listens.
#[derive(Clone, Copy)]
pub(crate) enum Console<'a> {
    TcpServer,
    /// Telnet as QEMU understands it: it asks for binary and echo, answers
    /// nothing, and drops input after some commands.
    TelnetServer,
    /// Boots without waiting. Demands a client certificate of the CA.
    ///
    /// Over TLS, QEMU 7.2 takes one byte of what came for a serial port, and
    /// forgets that it has more until something else comes. So type a key, and
    /// wait for its echo before the next. Telnet inside of TLS it does not do: it
    /// hangs up after the handshake.
    TlsServer(&'a Certificates),
    TcpClient {
        port: u16,
    },
    /// The server's certificate must be of the CA and for `localhost`; the client's
    /// own is shown if asked for.
    TlsClient {
        port: u16,
        certificates: &'a Certificates,
    },
    UnixServer(&'a Path),
    UnixClient(&'a Path),
    /// Sends to this port of this machine, a datagram a byte, and takes only what
    /// comes from there. Boots without waiting.
    Udp {
        peer: u16,
    },
    /// PATH.in and PATH.out, which must be there.
    Pipe(&'a Path),
    /// A terminal that QEMU makes (`UBoot::pty_path`). Boots without waiting.
    Pty,
}

impl Console<'_> {
    /// As QEMU's `-chardev` wants it, with the credentials it may need.
    fn chardev(&self) -> (String, Option<String>) {
        const LISTEN: &str = "socket,id=c,host=127.0.0.1,port=0,server=on";
        let tls = |certificates: &Certificates, end: &str| {
            let dir = certificates.for_qemu();
            let dir = dir.display();
            Some(format!("tls-creds-x509,id=t,dir={dir},endpoint={end},verify-peer=on"))
        };
        match self {
            Self::TcpServer => (format!("{LISTEN},wait=on"), None),
            Self::TelnetServer => (format!("{LISTEN},wait=on,telnet=on"), None),
            Self::TlsServer(certificates) => {
                (format!("{LISTEN},wait=off,tls-creds=t"), tls(certificates, "server"))
            }
            Self::TcpClient { port } => {
                (format!("socket,id=c,host=127.0.0.1,port={port},reconnect=1"), None)
            }
            Self::TlsClient { port, certificates } => (
                format!("socket,id=c,host=localhost,port={port},reconnect=1,tls-creds=t"),
                tls(certificates, "client"),
            ),
            Self::UnixServer(path) => {
                (format!("socket,id=c,path={},server=on,wait=on", path.display()), None)
            }
            Self::UnixClient(path) => {
                (format!("socket,id=c,path={},reconnect=1", path.display()), None)
            }
            Self::Udp { peer } => {
                let ends = format!("host=127.0.0.1,port={peer},localaddr=127.0.0.1,localport=0");
                (format!("udp,id=c,{ends}"), None)
            }
            Self::Pipe(path) => (format!("pipe,id=c,path={}", path.display()), None),
            Self::Pty => ("pty,id=c".into(), None),
        }
    }
}

/// The machine. It ends with the test.
pub(crate) struct UBoot {
    qemu: Background,
    _output: TempDir,
}

impl UBoot {
    /// `serial` is what QEMU's `-serial` takes, such as
    /// `unix:PATH,server=on,wait=on`.
    pub(crate) fn boot(serial: &str) -> Option<Self> {
        Self::boot_with(&["-serial", serial])
    }

    pub(crate) fn boot_on(console: Console<'_>) -> Option<Self> {
        let (chardev, credentials) = console.chardev();
        let mut arguments = vec!["-chardev", &chardev, "-serial", "chardev:c"];
        if let Some(credentials) = &credentials {
            arguments.extend(["-object", credentials]);
        }
        Self::boot_with(&arguments)
    }

    fn boot_with(arguments: &[&str]) -> Option<Self> {
        let qemu = peer("qemu-system-arm")?;
        if !Path::new(IMAGE).exists() {
            missing(IMAGE);
            return None;
        }
        let output = tempfile::tempdir().unwrap();
        let mut command = Command::new(qemu);
        command.args(["-machine", "virt", "-cpu", "cortex-a15", "-m", "256", "-nographic"]);
        command.args(["-monitor", "none", "-nic", "none", "-bios", IMAGE]);
        command.args(arguments).stdin(Stdio::null());
        Some(Self { qemu: Background::spawn(command, output.path(), "qemu"), _output: output })
    }

    /// The port where a server listens, as soon as it does.
    pub(crate) async fn port(&mut self) -> u16 {
        port_of(&mut self.qemu, Port::Listening).await
    }

    /// The port that datagrams come from and must be sent to.
    pub(crate) async fn udp_port(&mut self) -> u16 {
        port_of(&mut self.qemu, Port::Datagrams).await
    }

    /// The terminal that QEMU has made.
    pub(crate) async fn pty_path(&self) -> String {
        let line = self.qemu.prints(&["char device redirected to "]).await;
        line.split(' ').find(|word| word.starts_with("/dev/")).unwrap().to_owned()
    }

    /// Presses Enter until there is a prompt, whatever of the boot was seen.
    pub(crate) async fn prompts(&self, far: &mut FarSide) {
        const PATIENCE: Duration = Duration::from_millis(200);
        soon("prompt of U-Boot", async {
            while timeout(PATIENCE, far.hears("=> ")).await.is_err() {
                far.says("\r");
            }
        })
        .await;
    }

    /// Asks at the prompt for the version, and waits for the answer. A key at a
    /// time: see `Console::TlsServer`.
    pub(crate) async fn answers(&self, far: &mut FarSide) {
        for key in ["v", "e", "r", "s", "i", "o", "n"] {
            far.says(key);
            far.hears(key).await;
        }
        far.says("\r");
        far.hears("U-Boot 20").await;
        far.hears("=> ").await;
    }
}
