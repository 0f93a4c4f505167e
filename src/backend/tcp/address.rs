//! Where to listen: a name is looked up each time, because it changes meaning, and
//! what is checked against the allow-list is the very address that is used.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, sync::Semaphore};

use super::super::{
    Allow, Denied, Error,
    resolve::{no_address, resolve},
};
use crate::device::TcpSpec;

/// Far sides that wait in the kernel until we look.
const BACKLOG: i32 = 16;

/// What "all addresses" may be: of both families, or else of IPv4.
pub(super) fn all(port: u16, allow: &Allow) -> Result<Vec<SocketAddr>, Denied> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    allow.address(v4)?;
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    Ok(allow.address(v6).map_or(vec![v4], |()| vec![v6, v4]))
}

/// Listens where the spec says, as far as the operator allows.
pub(super) async fn listen(
    spec: &TcpSpec,
    allow: &Allow,
    lookups: &Arc<Semaphore>,
) -> Result<TcpListener, Error> {
    if !spec.host.is_empty() {
        let found = resolve(&spec.host, spec.port, lookups).await?;
        let address = *found.first().ok_or_else(|| no_address(&spec.host))?;
        allow.address(address)?;
        return bind(address).map_err(|source| told(address, source));
    }
    let mut failed = None;
    for address in all(spec.port, allow)? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            // A port that is taken in one family is taken.
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                return Err(told(address, source));
            }
            // A kernel without IPv6.
            Err(source) => failed = Some(told(address, source)),
        }
    }
    Err(failed.unwrap_or(Error::Closed))
}

fn told(address: SocketAddr, source: io::Error) -> Error {
    Error::Bind { address: address.to_string(), source }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // All addresses are those of both families, whatever the host's default.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}
