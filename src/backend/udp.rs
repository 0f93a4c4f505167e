//! The `udp` host interface: datagrams, each one a record of output.
//!
//! With `connect` the socket is connected (connect(2)), as libvirt's is: the
//! kernel then drops what comes from anybody but the peer before it takes room in
//! the queue, so that a flood of strangers costs the peer nothing. The price is
//! that the kernel tells of unreachable peers (ICMP) as errors of later calls;
//! they end nothing here and are shown. `bind` beside it fixes the own address
//! and nothing else. With `bind` alone everybody who can reach the address and is
//! in an allowed network is heard; others are dropped, counted and named.
//!
//! A datagram is never split or joined, whoever sends between. A line of text that
//! a sender spreads over several may have another sender's in the middle.
//!
//! The link is up as soon as the socket is: datagrams have no connection, so
//! nobody needs to be there.

mod link;
mod senders;
mod socket;
mod strangers;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::Semaphore;

use self::{link::Datagrams, socket::Socket, strangers::Strangers};
use super::{
    Allow, Backend, BoxFuture, Denied, Environment, Error, Link, Place, Role, resolve::resolve,
};
use crate::{
    device::{UdpEndpoint, UdpSpec},
    telemetry::Metrics,
};

/// Loopback, where nothing is said of whom to connect to.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Every address of this host, where nothing is said of where to listen: of both
/// families, or of IPv4 where the host or the operator has no IPv6.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];

/// Datagrams.
#[derive(Debug)]
pub(super) struct Udp {
    spec: UdpSpec,
    allow: Arc<Allow>,
    lookups: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    strangers: Arc<Strangers>,
    /// Bound, and not yet a link.
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    socket: Socket,
    /// The one peer that the socket is connected to.
    peer: Option<SocketAddr>,
}

impl Udp {
    pub(super) fn new(spec: UdpSpec, environment: &Environment) -> Self {
        Self {
            spec,
            allow: environment.allow.clone(),
            lookups: environment.lookups.clone(),
            metrics: environment.metrics.clone(),
            strangers: Arc::default(),
            bound: None,
        }
    }

    async fn place(&mut self) -> Result<Place, Error> {
        let bound = match self.bound.take() {
            Some(bound) => bound,
            None => self.bind().await?,
        };
        let bound = self.bound.insert(bound);
        let address = bound.socket.local_address().map_err(Error::Broken)?;
        Ok(Place { listen_address: Some(address.to_string()), pty_path: None })
    }

    async fn connect(&mut self) -> Result<Box<dyn Link>, Error> {
        let Bound { socket, peer } = match self.bound.take() {
            Some(bound) => bound,
            None => self.bind().await?,
        };
        Ok(Box::new(Datagrams::new(
            socket,
            peer,
            self.spec.format,
            self.allow.clone(),
            self.strangers.clone(),
            self.metrics.clone(),
        )))
    }

    /// The first pair of addresses that is allowed and works.
    async fn bind(&self) -> Result<Bound, Error> {
        let mut last = None;
        for (own, peer) in self.pairs().await? {
            match self.try_pair(own, peer) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.no_pair()))
    }

    /// Own addresses, each with one of the peer's that can be reached from it.
    async fn pairs(&self) -> Result<Vec<(SocketAddr, Option<SocketAddr>)>, Error> {
        let peers = match &self.spec.connect {
            Some(connect) => Some(self.addresses(connect, LOOPBACK).await?),
            None => None,
        };
        Ok(match (&self.spec.bind, peers) {
            (None, None) => Vec::new(),
            (None, Some(peers)) => {
                peers.into_iter().map(|peer| (anywhere(peer, 0), Some(peer))).collect()
            }
            (Some(bind), None) => {
                let owns = self.addresses(bind, ANYWHERE).await?;
                owns.into_iter().map(|own| (own, None)).collect()
            }
            (Some(bind), Some(peers)) if bind.host.is_empty() => {
                peers.into_iter().map(|peer| (anywhere(peer, bind.port), Some(peer))).collect()
            }
            (Some(bind), Some(peers)) => {
                let owns = self.addresses(bind, ANYWHERE).await?;
                let both = owns.iter().flat_map(|own| peers.iter().map(|peer| (*own, *peer)));
                both.filter_map(|(own, peer)| Some((own, Some(seen_from(own, peer)?)))).collect()
            }
        })
    }

    async fn addresses(
        &self,
        endpoint: &UdpEndpoint,
        unsaid: [IpAddr; 2],
    ) -> Result<Vec<SocketAddr>, Error> {
        if endpoint.host.is_empty() {
            return Ok(unsaid.map(|ip| SocketAddr::new(ip, endpoint.port)).into());
        }
        resolve(&endpoint.host, endpoint.port, &self.lookups).await
    }

    fn try_pair(&self, own: SocketAddr, peer: Option<SocketAddr>) -> Result<Bound, Error> {
        // What is checked is what is used.
        if let Some(peer) = peer {
            self.allow.address(peer)?;
        }
        if self.spec.bind.is_some() {
            self.allow.address(own)?;
        }
        let failed = |source| Error::Bind { address: own.to_string(), source };
        let socket = Socket::bind(own).map_err(failed)?;
        let connect = |peer: SocketAddr| {
            let failed = |source| Error::Connect { address: peer.to_string(), source };
            socket.connect(peer).map_err(failed)
        };
        let peer = peer.map(connect).transpose()?;
        Ok(Bound { socket, peer })
    }

    fn no_pair(&self) -> Error {
        let host = |endpoint: &Option<UdpEndpoint>| {
            endpoint.as_ref().map(|endpoint| endpoint.host.clone()).unwrap_or_default()
        };
        let bind = host(&self.spec.bind);
        let source =
            io::Error::other(format!("it has no address that can be reached from {bind:?}"));
        Error::Resolve { host: host(&self.spec.connect), source }
    }
}

impl Backend for Udp {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(self.place())
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.connect())
    }

    /// Those that the link has just turned away: it was asked before this is, by
    /// the same task, so nothing needs to be woken.
    fn poll_refuse(&mut self, _cx: &mut Context<'_>) -> Poll<String> {
        match self.strangers.next_untold() {
            // It came between bind(2) and connect(2).
            Some(address) if self.spec.connect.is_some() => {
                Poll::Ready(format!("{address}: only the peer of connect is heard"))
            }
            Some(address) => Poll::Ready(format!(
                "{address}: host_interfaces.networks allows no network that holds it"
            )),
            None => Poll::Pending,
        }
    }
}

/// Whether the operator allows what a spec names, as far as that can be said
/// before it is used.
pub(super) fn check(spec: &UdpSpec, allow: &Allow) -> Result<(), Denied> {
    let check = |endpoint: &Option<UdpEndpoint>, unsaid: [IpAddr; 2]| {
        let Some(UdpEndpoint { host, port }) = endpoint else { return Ok(()) };
        if host.is_empty() {
            let [first, second] = unsaid.map(|ip| allow.address(SocketAddr::new(ip, *port)));
            return first.or(second);
        }
        match host.parse() {
            Ok(ip) => allow.address(SocketAddr::new(ip, *port)),
            Err(_) => allow.some_network(),
        }
    };
    check(&spec.connect, LOOPBACK)?;
    check(&spec.bind, ANYWHERE)
}

/// Every address of the family that `peer` has.
fn anywhere(peer: SocketAddr, port: u16) -> SocketAddr {
    let ip = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, port)
}

/// How a socket at `own` writes the peer's address, if it can reach it: one at
/// `::` reaches IPv4 too.
fn seen_from(own: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
    match (own, peer) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => {
            Some(peer)
        }
        (SocketAddr::V6(own), SocketAddr::V4(peer)) if own.ip().is_unspecified() => {
            Some(SocketAddr::new(peer.ip().to_ipv6_mapped().into(), peer.port()))
        }
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests;
