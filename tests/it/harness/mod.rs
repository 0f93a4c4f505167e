//! What the stories share: the server as a process, a client, far sides, and
//! waiting for conditions instead of for time.

mod attacher;
mod client;
mod command;
mod files;
mod gathered;
mod peers;
mod raw;
mod server;
mod terminal;
mod wait;

pub(crate) use self::{
    attacher::{Attacher, start},
    client::{Client, bind_tcp, connect_tcp, device, pty, reason, unix, violations},
    command::{Background, Outcome, run},
    files::{
        Disk, condition, file, holds, log, null, numbered_lines, send_all, send_some, stdio,
        with_log,
    },
    gathered::Gathered,
    peers::{Process, UBoot, peer, tool},
    raw::{metric, tls},
    server::{LINEMAN, Server},
    terminal::{FarSide, Terminal},
    wait::{soon, until, until_async},
};
