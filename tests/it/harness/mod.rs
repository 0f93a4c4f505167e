//! What the stories share: the server as a process, a client, far sides, and
//! waiting for conditions instead of for time.

mod attacher;
mod certificates;
mod client;
mod command;
mod datagrams;
mod far_side;
mod fifos;
mod files;
mod gathered;
mod openssl;
mod peers;
mod ports;
mod raw;
mod resources;
mod rfc2217;
mod ser2net;
mod serial;
mod server;
mod tcp_far;
mod telnet;
mod terminal;
mod traffic;
mod u_boot;
mod usage;
mod virsh;
mod wait;

pub(crate) use self::{
    attacher::{Attacher, start},
    certificates::{Certificates, Holder, Identity},
    client::{Client, bind_tcp, connect_tcp, device, device_names, pty, reason, unix, violations},
    command::{Background, Outcome, run},
    datagrams::{Datagrams, send_datagram},
    far_side::{FarSide, Relay},
    fifos::{FifoPair, make_fifo},
    files::{
        Disk, condition, file, holds, log, null, numbered_lines, send_all, send_some, stdio,
        with_log,
    },
    gathered::Gathered,
    openssl::{ClientCertificate, tls_client, tls_server},
    peers::{Process, peer, tool},
    ports::free_port,
    raw::{metric, tls},
    resources::{Resources, is_given_back, opens_and_closes},
    rfc2217::{Rfc2217Client, Rfc2217Server},
    ser2net::{Accepter, Ser2net},
    serial::PtyPair,
    server::{LINEMAN, Server},
    tcp_far::{Stack, TcpFar, server_with_credentials, tcp_spec},
    telnet::{Telnet, TelnetClient},
    terminal::Terminal,
    traffic::{flood, flooded, narrow_listener},
    u_boot::{Console, UBoot},
    virsh::{define_and_dump, virsh},
    wait::{soon, until, until_async},
};
