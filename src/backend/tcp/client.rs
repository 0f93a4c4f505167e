//! Connects to a far side: each address of the host in turn, until one takes the
//! connection and, with TLS, shows that it is the one.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use super::{
    super::{
        Allow, Backend, BoxFuture, Credentials, Environment, Error, Link, Place, Role,
        resolve::{no_address, resolve},
    },
    Connection,
    tls::Tls,
    transport::Transport,
    tune,
};
use crate::{
    device::{Peer, TcpSpec},
    limits, wire,
};

/// A client of one far side.
#[derive(Debug)]
pub(in super::super) struct Client {
    spec: TcpSpec,
    allow: Arc<Allow>,
    credentials: Arc<Credentials>,
    lookups: Arc<Semaphore>,
}

/// What TLS is to be spoken with, and with whom.
type Wanted = (Arc<ClientConfig>, ServerName<'static>);

impl Client {
    pub(in super::super) fn new(spec: TcpSpec, environment: &Environment) -> Self {
        let Environment { allow, credentials, lookups, .. } = environment.clone();
        Self { spec, allow, credentials, lookups }
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let wanted = self.wanted()?;
        let mut failed = None;
        for address in resolve(&self.spec.host, self.spec.port, &self.lookups).await? {
            // What is checked is what is connected to.
            let tried = match self.allow.address(address) {
                Ok(()) => connect(address, wanted.clone()).await,
                Err(denied) => Err(denied.into()),
            };
            match tried {
                Ok(connection) => {
                    return Ok(connection.link(&self.spec, wire::telnet::Role::Client));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| no_address(&self.spec.host)))
    }

    fn wanted(&self) -> Result<Option<Wanted>, Error> {
        if !self.spec.is_tls() {
            return Ok(None);
        }
        let config = self.credentials.client(self.spec.credentials.as_deref());
        let name = self.spec.server_name.as_ref().unwrap_or(&self.spec.host);
        let unusable = |error| Error::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
        let name = ServerName::try_from(name.clone()).map_err(unusable)?;
        Ok(Some((config.map_err(Error::Credentials)?, name)))
    }
}

async fn connect(address: SocketAddr, wanted: Option<Wanted>) -> Result<Connection, Error> {
    let connected = timeout(limits::OPEN_TIMEOUT, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")));
    let stream = connected
        .and_then(|stream| tune(&stream).map(|()| stream))
        .map_err(|source| Error::Connect { address: address.to_string(), source })?;
    let mut peer = Peer::new(address.to_string());
    let transport: Box<dyn Transport> = match wanted {
        None => Box::new(stream),
        Some((config, name)) => {
            let tls = Tls::connect(config, name, stream).await?;
            peer.description = tls.peer_name();
            Box::new(tls)
        }
    };
    Ok(Connection { transport, peer })
}

impl Backend for Client {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.connect())
    }
}
