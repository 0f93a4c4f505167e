//! The `tcp` host interface: as client and as server, raw or telnet, with TLS
//! around either.
//!
//! What is spoken is a stack that is put together when a connection is there:
//!
//! ```text
//! socket → Tls?              Transport: bytes, and how many of them are gone
//!        → Plain | Telnet    Link: what a line sees
//!        → Peers?            several of those as one link
//! ```
//!
//! All state belongs to one connection and ends with it. Keepalive and a user
//! timeout notice a far side that vanished; no Nagle, because keystrokes wait for
//! nobody.

mod address;
mod certificate;
mod client;
mod com_port;
mod control;
mod door;
mod peers;
mod plain;
mod server;
mod telnet;
mod tls;
mod transport;

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub(super) use self::{client::Client, server::Server};
use self::{plain::Plain, telnet::Telnet, transport::Transport};
use super::{Allow, Denied, Link};
use crate::{
    device::{Endpoint, Peer, TcpSpec},
    wire::telnet::Role,
};

/// A silent far side is asked after this long, then every third of it.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Unacknowledged bytes for this long end the link (tcp(7), TCP_USER_TIMEOUT).
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether the operator lets a spec name its host, as far as that can be said
/// before a name is looked up.
pub(super) fn check(spec: &TcpSpec, allow: &Allow) -> Result<(), Denied> {
    if spec.host.is_empty() && spec.mode == Endpoint::Bind {
        return address::all(spec.port, allow).map(drop);
    }
    match spec.host.parse() {
        Ok(ip) => allow.address(SocketAddr::new(ip, spec.port)),
        Err(_) => allow.some_network(),
    }
}

/// A connection, with who is on the other end.
struct Connection {
    transport: Box<dyn Transport>,
    peer: Peer,
}

impl Connection {
    /// What a line sees of it.
    fn link(self, spec: &TcpSpec, role: Role) -> Box<dyn Link> {
        if spec.is_telnet() {
            Box::new(Telnet::new(self.transport, self.peer, role, spec))
        } else {
            Box::new(Plain::new(self.transport, self.peer))
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
