//! Listens for far sides. With one place, whoever has it is the link and others
//! are turned away; with more, the first opens the link and the next join it.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{Semaphore, mpsc};

use super::{
    super::{Allow, Backend, BoxFuture, Credentials, Environment, Error, Link, Place, Role},
    address,
    door::{Door, Room, Visit},
    peers::{Joining, Peers},
};
use crate::{device::TcpSpec, limits, wire};

/// A server for far sides.
pub(in super::super) struct Server {
    spec: TcpSpec,
    allow: Arc<Allow>,
    credentials: Arc<Credentials>,
    lookups: Arc<Semaphore>,
    door: Option<Door>,
    /// The link that others may join.
    open: Option<Open>,
}

/// Our ends of a link with places.
struct Open {
    places: Arc<Semaphore>,
    joining: mpsc::Sender<Joining>,
    dropped: mpsc::Receiver<String>,
}

impl Server {
    pub(in super::super) fn new(spec: TcpSpec, environment: &Environment) -> Self {
        let Environment { allow, credentials, lookups, .. } = environment.clone();
        Self { spec, allow, credentials, lookups, door: None, open: None }
    }

    async fn listen(&mut self) -> Result<Place, Error> {
        let door = match &mut self.door {
            Some(door) => door,
            none => {
                let tls = if self.spec.is_tls() {
                    let config = self.credentials.server(self.spec.credentials.as_deref());
                    Some(config.map_err(Error::Credentials)?)
                } else {
                    None
                };
                let listener = address::listen(&self.spec, &self.allow, &self.lookups).await?;
                none.insert(Door::new(listener, tls))
            }
        };
        let address = door.address().map_err(Error::Accept)?;
        Ok(Place { listen_address: Some(address.to_string()), pty_path: None })
    }

    async fn accept(&mut self) -> Result<Box<dyn Link>, Error> {
        self.open = None;
        self.listen().await?;
        let Some(door) = &mut self.door else { return Err(Error::Closed) };
        let connection = match poll_fn(|cx| door.poll(cx, Room::Some)).await {
            Visit::Arrived(connection) => connection,
            Visit::Refused(why) => return Err(Error::Refused(why)),
            Visit::Failed(error) => return Err(Error::Accept(error)),
        };
        let link = connection.link(&self.spec, wire::telnet::Role::Server);
        Ok(match self.spec.max_peers() {
            1 => link,
            more => self.share(link, more),
        })
    }

    /// A link that others can join.
    fn share(&mut self, first: Box<dyn Link>, peers: u32) -> Box<dyn Link> {
        // As many as can ever wait: who joins has a place.
        let most = limits::LINK_PEERS_MAX as usize;
        let ((joining, joins), (drops, dropped)) = (mpsc::channel(most), mpsc::channel(most));
        let places = Arc::new(Semaphore::new(peers as usize));
        let place = places.clone().try_acquire_owned().ok();
        self.open = Some(Open { places, joining, dropped });
        Box::new(Peers::new(Joining { link: first, place }, joins, drops))
    }
}

impl Backend for Server {
    fn role(&self) -> Role {
        Role::Waits
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(self.listen())
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.accept())
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let Some(door) = &mut self.door else { return Poll::Pending };
        if let Some(open) = &mut self.open
            && let Poll::Ready(Some(why)) = open.dropped.poll_recv(cx)
        {
            return Poll::Ready(why);
        }
        loop {
            let place = self.open.as_ref().and_then(|open| {
                open.places.clone().try_acquire_owned().ok().map(|place| (open, place))
            });
            let room = match &place {
                Some(_) => Room::Some,
                None => Room::None(self.spec.max_peers()),
            };
            match (door.poll(cx, room), place) {
                (Poll::Ready(Visit::Arrived(connection)), Some((open, place))) => {
                    let link = connection.link(&self.spec, wire::telnet::Role::Server);
                    // The link has ended if nobody takes it; whoever came tries again.
                    open.joining.try_send(Joining { link, place: Some(place) }).ok();
                }
                (Poll::Ready(Visit::Arrived(_)), None) => {}
                (Poll::Ready(Visit::Refused(why)), _) => return Poll::Ready(why),
                // Looked at again when the line comes round.
                (Poll::Ready(Visit::Failed(_)) | Poll::Pending, _) => return Poll::Pending,
            }
        }
    }
}
