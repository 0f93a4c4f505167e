//! Names to addresses, for every host interface that has them.
//!
//! A thing of its own because the operating system's look-up blocks a thread for
//! as long as dead DNS lets it: at most `limits::LOOKUPS_MAX` at once, and nobody
//! waits longer than `limits::OPEN_TIMEOUT` for one. What is found is for the
//! caller to check: a name may mean something else each time.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::lookup_host, sync::Semaphore, time::timeout};

use super::Error;
use crate::limits;

/// The addresses of a host, at least one, in the order in which they are to be
/// tried.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    lookups: &Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (name, permit) = ((host.to_owned(), port), lookups.clone().acquire_owned());
    let looking = async move {
        let permit = permit.await.map_err(io::Error::other)?;
        // A task of its own: the look-up keeps its place until it has really
        // ended, also when nobody waits for it any more.
        tokio::spawn(async move {
            let _permit = permit;
            lookup_host(name).await.map(Iterator::collect::<Vec<_>>)
        })
        .await
        .map_err(io::Error::other)?
    };
    match timeout(limits::OPEN_TIMEOUT, looking).await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(no_address(host)),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(source)) => Err(Error::Resolve { host: host.to_owned(), source }),
        Err(_) => Err(Error::TimedOut(limits::OPEN_TIMEOUT)),
    }
}

/// There is such a host, and no way to reach it.
pub(super) fn no_address(host: &str) -> Error {
    let source = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    Error::Resolve { host: host.to_owned(), source }
}
