//! The `unix` host interface: a stream socket, as client and as server.
//!
//! A server that was killed leaves its socket file behind and must be able to
//! take the path again; see `left_over` for what may be replaced.

use std::{
    io,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::fs::{Gid, Mode};
use tokio::{
    net::{UnixListener, UnixStream},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Allow, Backend, BoxFuture, Error, Kind, Link, OpenError, Place, Role,
    left_over::{Made, Own, remove_left_over},
    stream::Stream,
};
use crate::{
    device::{Peer, UnixSpec},
    limits,
};

/// Only the server's own user may connect, unless the spec says otherwise.
const SOCKET_MODE: u32 = 0o600;
/// Far sides that wait in the kernel while we turn others away.
const BACKLOG: i32 = 16;

/// Connects to a far side.
#[derive(Debug)]
pub(super) struct Client {
    path: PathBuf,
    allow: Arc<Allow>,
}

impl Client {
    pub(super) fn new(path: PathBuf, allow: Arc<Allow>) -> Self {
        Self { path, allow }
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let (allow, path) = (self.allow.clone(), self.path.clone());
        let failed = |source| Error::Connect { address: self.path.display().to_string(), source };
        let found = spawn_blocking(move || allow.open_socket(&path)).await;
        let found = match found.map_err(|error| failed(io::Error::other(error)))? {
            // Not there yet is what every far side is at first.
            Err(OpenError::Io { source, .. }) => return Err(failed(source)),
            result => result?,
        };
        let connecting = timeout(limits::OPEN_TIMEOUT, UnixStream::connect(found.address())).await;
        let stream =
            connecting.map_err(|_| Error::TimedOut(limits::OPEN_TIMEOUT))?.map_err(failed)?;
        let peer = Peer::new(self.path.display().to_string());
        Ok(Box::new(Stream::new(stream, Some(peer))))
    }
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

/// Waits for a far side.
#[derive(Debug)]
pub(super) struct Server {
    spec: UnixSpec,
    note: PathBuf,
    allow: Arc<Allow>,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    /// Behind the listener: it must be closed before the file goes.
    _file: Own,
}

impl Server {
    pub(super) fn new(spec: UnixSpec, note: PathBuf, allow: Arc<Allow>) -> Self {
        Self { spec, note, allow, socket: None }
    }

    async fn listen(&mut self) -> Result<Place, Error> {
        let address = self.spec.path.display().to_string();
        if self.socket.is_none() {
            let (allow, spec, note) = (self.allow.clone(), self.spec.clone(), self.note.clone());
            let made = spawn_blocking(move || make(&allow, &spec, &note)).await;
            let failed = |source| Error::Bind { address: address.clone(), source };
            let (listener, file) = made.map_err(|error| failed(io::Error::other(error)))??;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            self.socket = Some(Socket { listener, _file: file });
        }
        Ok(Place { listen_address: Some(address), pty_path: None })
    }

    async fn accept(&mut self) -> Result<Box<dyn Link>, Error> {
        self.listen().await?;
        let Some(socket) = &self.socket else {
            return Err(Error::Closed);
        };
        let (stream, _unnamed) = socket.listener.accept().await.map_err(Error::Accept)?;
        let peer = credentials(&stream).map(Peer::new);
        Ok(Box::new(Stream::new(stream, peer)))
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
        let Some(socket) = &self.socket else {
            return Poll::Pending;
        };
        match ready!(socket.listener.poll_accept(cx)) {
            Ok((turned_away, _unnamed)) => {
                let who = credentials(&turned_away).unwrap_or_default();
                Poll::Ready(format!("{who}: another far side is connected"))
            }
            Err(_) => Poll::Pending,
        }
    }
}

/// Who is on the other end (unix(7), SO_PEERCRED).
fn credentials(stream: &UnixStream) -> Option<String> {
    let peer = stream.peer_cred().ok()?;
    let (uid, gid) = (peer.uid(), peer.gid());
    Some(match peer.pid() {
        Some(pid) => format!("pid {pid}, uid {uid}, gid {gid}"),
        None => format!("uid {uid}, gid {gid}"),
    })
}

/// Makes the socket, in place of our own left-over if there is one. Blocks.
fn make(allow: &Allow, spec: &UnixSpec, note: &Path) -> Result<(StdListener, Own), Error> {
    let path = &spec.path;
    // Before anything is there to be removed again.
    let group = spec.group.as_deref().map(group).transpose()?;
    let failed = |source| Error::Bind { address: path.display().to_string(), source };
    let folder = allow.open_folder(path)?;
    let socket = match folder.bind_unix() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_left_over(&folder, note)?;
            folder.bind_unix().map_err(failed)?
        }
        result => result.map_err(failed)?,
    };
    // From here on a failure removes what was made.
    let identity = folder.identity().map_err(failed)?;
    let mut made = Made::new(folder, identity);
    // Who may connect: mode bits, and the group that they are for if it is not
    // the server's own.
    let mode = Mode::from_raw_mode(spec.socket_mode.unwrap_or(SOCKET_MODE));
    made.change(|folder| folder.set_access(Kind::Socket, mode, group))?;
    let own = made.note(note).map_err(failed)?;
    // Only now can anybody connect.
    rustix::net::listen(&socket, BACKLOG).map_err(|errno| failed(errno.into()))?;
    Ok((StdListener::from(socket), own))
}

/// A group by its number or its name.
fn group(group: &str) -> Result<Gid, Error> {
    let unknown = |source| Error::Group { group: group.to_owned(), source };
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = nix::unistd::Group::from_name(group).map_err(|errno| unknown(errno.into()))?;
    let missing = || unknown(io::Error::new(io::ErrorKind::NotFound, "there is no such group"));
    found.map(|found| Gid::from_raw(found.gid.as_raw())).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &Path) -> UnixSpec {
        UnixSpec { path: path.to_owned(), ..UnixSpec::default() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_removal_of_the_old_socket_never_meets_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let allow = Arc::new(Allow { folders: vec![dir.path().to_owned()], ..Allow::default() });
        let (path, note) = (dir.path().join("a.sock"), dir.path().join("note"));
        for _ in 0..500 {
            // The one before is still being removed.
            let mut server = Server::new(spec(&path), note.clone(), allow.clone());
            server.listen().await.unwrap();
            UnixStream::connect(&path).await.unwrap();
        }
    }

    #[test]
    fn without_a_runtime_the_socket_is_removed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let allow = Allow { folders: vec![dir.path().to_owned()], ..Allow::default() };
        let (path, note) = (dir.path().join("a.sock"), dir.path().join("note"));
        let made = make(&allow, &spec(&path), &note).unwrap();
        assert!(path.exists());
        drop(made);
        assert!(!path.exists());
    }
}
