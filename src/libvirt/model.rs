//! A character device as libvirt's XML describes it, typed.
//!
//! A thing of its own because import and export meet here: the parser fills it,
//! the writer reads it, and what is in between need know no XML. Where libvirt
//! writes "absent" and "the default" differently, both can be said here.
//!
//! Invariant of devices that come from `parse` or `settle`: every port has a
//! number, and whatever libvirt does not store is absent.

use std::net::Ipv4Addr;

use super::{address::Address, fault::Position, words::words};

/// One `console`, `serial`, `parallel` or `channel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharDevice {
    /// The host's side.
    pub source: Source,
    /// Security labels of the file or socket of the source.
    pub seclabels: Vec<SecLabel>,
    /// A file that records what the guest writes, beside the source.
    pub log: Option<Log>,
    /// The guest's side; it also says which element this is.
    pub target: Target,
    /// The name of the device. Read from XML it is one that a user chose
    /// (`ua-…`); only the live flavour writes any other.
    pub alias: Option<String>,
    /// `<acpi index>`; never 0.
    pub acpi_index: Option<u32>,
    /// Where the guest finds the device.
    pub address: Option<Address>,
    /// Whether this is a device, or shows another one once more.
    pub role: Role,
    /// Where its element stands, in a document that was read.
    pub position: Position,
}

impl CharDevice {
    /// A device that has a source and a target and nothing else.
    pub fn new(source: Source, target: Target) -> Self {
        Self {
            source,
            seclabels: Vec::new(),
            log: None,
            target,
            alias: None,
            acpi_index: None,
            address: None,
            role: Role::Device,
            position: Position::default(),
        }
    }

    /// The name of its element.
    pub fn element(&self) -> Element {
        self.target.element()
    }

    /// The value of its `type`.
    pub fn interface(&self) -> Interface {
        self.source.interface()
    }
}

/// Whether an element is a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A device of its own.
    Device,
    /// The first console of a full virtual machine: it shows the first serial
    /// once more and has all of its settings. Whoever counts devices skips it.
    Mirror,
}

words! {
    /// The four elements.
    pub enum Element {
        /// A serial port.
        Serial = "serial",
        /// A parallel port.
        Parallel = "parallel",
        /// A console.
        Console = "console",
        /// A channel.
        Channel = "channel",
    }
}

words! {
    /// The host interface: the value of `type`.
    pub enum Interface {
        /// Output is thrown away.
        Null = "null",
        /// A text screen in the guest's display.
        Vc = "vc",
        /// A pseudo terminal, made anew at each start.
        Pty = "pty",
        /// A device of the host.
        Dev = "dev",
        /// A file that takes the output.
        File = "file",
        /// A pair of named pipes.
        Pipe = "pipe",
        /// The guest's own log file.
        Stdio = "stdio",
        /// Datagrams.
        Udp = "udp",
        /// A TCP connection.
        Tcp = "tcp",
        /// A unix stream socket.
        Unix = "unix",
        /// The main channel of a SPICE client.
        SpiceVmc = "spicevmc",
        /// A named port for SPICE clients.
        SpicePort = "spiceport",
        /// A null-modem pair of FreeBSD.
        Nmdm = "nmdm",
        /// The SPICE agent's protocol within QEMU.
        QemuVdagent = "qemu-vdagent",
        /// A port on QEMU's D-Bus display.
        Dbus = "dbus",
    }
}

/// Whether a Lineman server can serve a host interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Support {
    /// It does.
    Served,
    /// It could, but does not yet.
    NotYet,
    /// It cannot: the far side is within the hypervisor, or of another system.
    Never,
}

impl Interface {
    /// Whether a Lineman server can serve it.
    pub fn support(self) -> Support {
        match self {
            Self::Null
            | Self::Pty
            | Self::Dev
            | Self::File
            | Self::Pipe
            | Self::Stdio
            | Self::Udp
            | Self::Tcp
            | Self::Unix => Support::Served,
            Self::Vc => Support::NotYet,
            Self::SpiceVmc | Self::SpicePort | Self::Nmdm | Self::QemuVdagent | Self::Dbus => {
                Support::Never
            }
        }
    }
}

/// The host's side of a device. Paths, hosts and services are as they were
/// written: any text, also empty; services may be names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `null`.
    Null,
    /// `vc`.
    Vc,
    /// `pty`.
    Pty {
        /// Where the pty is now. Never read; written in the live flavour only.
        path: Option<String>,
    },
    /// `dev`.
    Dev {
        /// The device.
        path: String,
    },
    /// `file`.
    File {
        /// The file.
        path: String,
        /// Whether it is kept at a start, or truncated. Absent is the same as no,
        /// and stays absent.
        append: Option<bool>,
    },
    /// `pipe`.
    Pipe {
        /// The pipes, without `.in` and `.out`.
        path: String,
    },
    /// `stdio`.
    Stdio,
    /// `udp`.
    Udp(UdpSource),
    /// `tcp`.
    Tcp(TcpSource),
    /// `unix`; absent where the hypervisor chooses the socket, which only a
    /// virtio or xen channel can have.
    Unix(Option<UnixSource>),
    /// `spicevmc`.
    SpiceVmc,
    /// `spiceport`.
    SpicePort {
        /// The name of the port: letters, digits, `_`, `-`, `.`; may be empty.
        channel: String,
    },
    /// `nmdm`.
    Nmdm {
        /// Master and slave, or neither.
        pair: Option<(String, String)>,
    },
    /// `qemu-vdagent`.
    QemuVdagent {
        /// Whether the clipboard is shared.
        clipboard: Option<bool>,
        /// Who moves the mouse.
        mouse: Option<MouseMode>,
    },
    /// `dbus`.
    Dbus {
        /// The name of the port: as of `spiceport`.
        channel: String,
    },
}

impl Source {
    /// Which host interface it is.
    pub fn interface(&self) -> Interface {
        match self {
            Self::Null => Interface::Null,
            Self::Vc => Interface::Vc,
            Self::Pty { .. } => Interface::Pty,
            Self::Dev { .. } => Interface::Dev,
            Self::File { .. } => Interface::File,
            Self::Pipe { .. } => Interface::Pipe,
            Self::Stdio => Interface::Stdio,
            Self::Udp(_) => Interface::Udp,
            Self::Tcp(_) => Interface::Tcp,
            Self::Unix(_) => Interface::Unix,
            Self::SpiceVmc => Interface::SpiceVmc,
            Self::SpicePort { .. } => Interface::SpicePort,
            Self::Nmdm { .. } => Interface::Nmdm,
            Self::QemuVdagent { .. } => Interface::QemuVdagent,
            Self::Dbus { .. } => Interface::Dbus,
        }
    }
}

/// Datagrams to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSource {
    /// The peer; absent is this host.
    pub host: Option<String>,
    /// The peer's port, a number or a name.
    pub service: String,
    /// The local address; absent is any address and port.
    pub bind: Option<UdpBind>,
}

/// The local address of datagrams; one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpBind {
    /// Address; absent is any.
    pub host: Option<String>,
    /// Port, a number or a name; absent is any.
    pub service: Option<String>,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSource {
    /// Which side opens it.
    pub mode: Mode,
    /// Name or address; empty with bind is every address.
    pub host: String,
    /// Port, a number or a name; 0 with bind is any free one.
    pub service: String,
    /// TLS; absent is what the hypervisor's configuration says.
    pub tls: Option<bool>,
    /// What to do about a lost connection; never with bind.
    pub reconnect: Option<Reconnect>,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// A unix stream socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSource {
    /// Which side opens the connection.
    pub mode: Mode,
    /// The socket.
    pub path: String,
    /// What to do about a lost connection; never with bind.
    pub reconnect: Option<Reconnect>,
}

words! {
    /// Which side opens a connection.
    pub enum Mode {
        /// The hypervisor connects.
        Connect = "connect",
        /// The hypervisor waits for one.
        Bind = "bind",
    }
}

words! {
    /// What is spoken on a TCP connection.
    pub enum Protocol {
        /// Nothing but the bytes of the device.
        Raw = "raw",
        /// Telnet.
        Telnet = "telnet",
        /// Telnet over TLS.
        Telnets = "telnets",
        /// TLS.
        Tls = "tls",
    }
}

words! {
    /// Who moves the mouse.
    pub enum MouseMode {
        /// The server.
        Server = "server",
        /// The client.
        Client = "client",
    }
}

/// What to do about a connection that is lost or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// `enabled='no'`: the same as absent, but it stays.
    No,
    /// Try again, for ever.
    Every {
        /// Seconds between two attempts.
        timeout_seconds: u32,
    },
}

/// A file that records what the guest writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The file.
    pub file: String,
    /// As of [`Source::File`].
    pub append: Option<bool>,
}

/// The security label of a file or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecLabel {
    /// Which security driver it is for; absent is every one.
    pub model: Option<String>,
    /// Whether the driver labels the file.
    pub relabel: bool,
    /// The label; never without `relabel`.
    pub label: Option<String>,
}

/// The guest's side of a device, by element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Of a `serial`.
    Serial {
        /// Absent is what fits the machine.
        kind: Option<SerialTarget>,
        /// Absent is what fits the type.
        model: Option<SerialModel>,
        /// Absent until it was settled; never -1.
        port: Option<i32>,
    },
    /// Of a `parallel`.
    Parallel {
        /// Absent until it was settled; never -1.
        port: Option<i32>,
    },
    /// Of a `console`.
    Console {
        /// Absent until it was settled.
        kind: Option<ConsoleTarget>,
        /// The place among the consoles, or the port of the serial that it
        /// mirrors. Absent until it was settled.
        port: Option<i32>,
    },
    /// Of a `channel`.
    Channel(ChannelTarget),
}

impl Target {
    /// The element that has such a target.
    pub fn element(&self) -> Element {
        match self {
            Self::Serial { .. } => Element::Serial,
            Self::Parallel { .. } => Element::Parallel,
            Self::Console { .. } => Element::Console,
            Self::Channel(_) => Element::Channel,
        }
    }
}

words! {
    /// Types of serials.
    pub enum SerialTarget {
        /// ISA.
        Isa = "isa-serial",
        /// USB.
        Usb = "usb-serial",
        /// PCI.
        Pci = "pci-serial",
        /// PowerPC's virtual one.
        SpaprVio = "spapr-vio-serial",
        /// Part of the system.
        System = "system-serial",
        /// S/390's console interface.
        Sclp = "sclp-serial",
        /// The debug console of a PC.
        IsaDebug = "isa-debug",
    }
}

words! {
    /// Models of serials.
    pub enum SerialModel {
        /// ISA.
        Isa = "isa-serial",
        /// USB.
        Usb = "usb-serial",
        /// PCI.
        Pci = "pci-serial",
        /// PowerPC's virtual one.
        SpaprVty = "spapr-vty",
        /// ARM's.
        Pl011 = "pl011",
        /// S/390's.
        SclpConsole = "sclpconsole",
        /// S/390's, by lines.
        SclpLmConsole = "sclplmconsole",
        /// On RISC-V.
        Uart16550a = "16550a",
        /// The debug console of a PC.
        IsaDebugcon = "isa-debugcon",
    }
}

words! {
    /// Types of consoles.
    pub enum ConsoleTarget {
        /// The first serial.
        Serial = "serial",
        /// virtio.
        Virtio = "virtio",
        /// Xen.
        Xen = "xen",
        /// A container of LXC.
        Lxc = "lxc",
        /// A container of OpenVZ.
        Openvz = "openvz",
        /// User mode Linux.
        Uml = "uml",
        /// S/390's.
        Sclp = "sclp",
        /// S/390's, by lines.
        SclpLm = "sclplm",
    }
}

/// The guest's side of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelTarget {
    /// `none`: libvirt stores it, and no guest starts with it.
    None,
    /// A port of a virtio serial controller.
    Virtio {
        /// The name that the guest sees; may be empty.
        name: Option<String>,
        /// Whether the guest has opened it. Never read; written in the live
        /// flavour only.
        state: Option<ChannelState>,
    },
    /// Xen.
    Xen {
        /// The name that the guest sees; may be empty.
        name: Option<String>,
    },
    /// TCP connections of the guest to this address are the device.
    Guestfwd {
        /// Address.
        address: Ipv4Addr,
        /// Port.
        port: u16,
    },
}

words! {
    /// Whether the guest has opened a virtio channel.
    pub enum ChannelState {
        /// It has.
        Connected = "connected",
        /// It has not.
        Disconnected = "disconnected",
    }
}
