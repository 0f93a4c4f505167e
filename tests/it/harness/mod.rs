//! What the stories share: the server as a process, a client, far sides, and
//! waiting for conditions instead of for time.

mod attacher;
mod client;
mod peers;
mod raw;
mod server;
mod wait;

pub(crate) use self::{
    attacher::{Attacher, start},
    client::{Client, bind_tcp, connect_tcp, device, pty, reason, unix, violations},
    peers::{Process, UBoot, peer, tool},
    raw::{metric, tls},
    server::Server,
    wait::{DEADLINE, soon, until, until_async},
};
