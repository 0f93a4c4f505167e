//! Ports of far sides. A program is told port 0 and the kernel is asked which
//! one it got, so that no other program can have taken it meanwhile.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use super::{Background, until};

/// Below the ports that Linux gives out by itself (from 32768 on), so that no
/// connection of anybody takes one in the time between.
const UNASKED: Range<u16> = 16_384..32_768;

/// A port for who must name it before it is used. Nobody here listens on it, nor
/// uses it for UDP, nor is it given out twice; but it is not held: another
/// program may still take it, and a test that can start again does so.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| fastrand::u16(UNASKED).into());
    loop {
        let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
            Some(if UNASKED.contains(&(port + 1)) { port + 1 } else { UNASKED.start })
        });
        let (Ok(port) | Err(port)) = next;
        let address = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// What a program's port is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Port {
    Listening,
    Datagrams,
}

/// Waits until the program has such a port, and tells it.
pub(super) async fn port_of(program: &mut Background, kind: Port) -> u16 {
    until(&format!("{kind:?} port of a program"), || {
        let port = find(program.id(), kind);
        if port.is_none()
            && let Some(code) = program.has_ended()
        {
            panic!("a far side ended with {code}: {}", program.stderr());
        }
        port
    })
    .await
}

fn find(process: u32, kind: Port) -> Option<u16> {
    let (table, state) = match kind {
        Port::Listening => ("tcp", "0A"),
        Port::Datagrams => ("udp", ""),
    };
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .ok()?
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect();
    let tables = [table.to_owned(), format!("{table}6")];
    let tables: String = tables
        .iter()
        .filter_map(|name| fs::read_to_string(format!("/proc/net/{name}")).ok())
        .collect();
    tables.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let mine = sockets.contains(&format!("socket:[{}]", fields.get(9)?));
        (mine && fields[3].starts_with(state)).then(|| u16::from_str_radix(port, 16).ok())?
    })
}
