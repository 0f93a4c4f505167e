//! The `unix` host interface: a stream socket, as client and as server.
//!
//! A server that was killed leaves its socket file behind and must be able to
//! take the path again, yet nothing that is not ours may ever be deleted. So
//! each socket that is made is noted (device, inode and change time of the
//! file) in the state folder, and only a file that matches its note, and that
//! nobody listens on, is taken for our left-over.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    net::{UnixListener, UnixStream},
    task::spawn_blocking,
    time::timeout,
};

use super::{Allow, Backend, BoxFuture, Error, Link, Place, Role, remove_if_there, stream::Stream};
use crate::{device::Peer, limits};

/// Only the server's own user may connect unless the operator changes it.
const SOCKET_MODE: u32 = 0o600;

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
        let real = spawn_blocking(move || allow.resolve(&path)).await;
        let real = real.map_err(|error| failed(io::Error::other(error)))??.map_err(failed)?;
        let connecting = timeout(limits::OPEN_TIMEOUT, UnixStream::connect(&real)).await;
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
    path: PathBuf,
    note: PathBuf,
    allow: Arc<Allow>,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    note: PathBuf,
}

impl Server {
    pub(super) fn new(path: PathBuf, note: PathBuf, allow: Arc<Allow>) -> Self {
        Self { path, note, allow, socket: None }
    }

    async fn listen(&mut self) -> Result<Place, Error> {
        if self.socket.is_none() {
            let (allow, path, note) = (self.allow.clone(), self.path.clone(), self.note.clone());
            let made = spawn_blocking(move || make(&allow, &path, &note)).await;
            let failed = |error| Error::Bind {
                address: self.path.display().to_string(),
                source: io::Error::other(error),
            };
            let (listener, path) = made.map_err(failed)??;
            let failed = |source| Error::Bind { address: self.path.display().to_string(), source };
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            self.socket = Some(Socket { listener, path, note: self.note.clone() });
        }
        Ok(Place { listen_address: Some(self.path.display().to_string()), pty_path: None })
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

impl Drop for Socket {
    fn drop(&mut self) {
        // Only while it is still the one we made.
        if is_noted(&self.path, &self.note) && fs::remove_file(&self.path).is_ok() {
            remove_if_there(&self.note).ok();
        }
    }
}

/// Makes the socket, in place of our own left-over if there is one. Blocks.
fn make(
    allow: &Allow,
    path: &Path,
    note: &Path,
) -> Result<(std::os::unix::net::UnixListener, PathBuf), Error> {
    let failed = |source| Error::Bind { address: path.display().to_string(), source };
    let real = allow.resolve_parent(path)?.map_err(failed)?;
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let listener = match std::os::unix::net::UnixListener::bind(&real) {
        Err(error) if taken(&error) => {
            if !is_noted(&real, note) || std::os::unix::net::UnixStream::connect(&real).is_ok() {
                return Err(Error::PathExists { path: path.to_owned() });
            }
            fs::remove_file(&real).map_err(failed)?;
            std::os::unix::net::UnixListener::bind(&real).map_err(failed)?
        }
        result => result.map_err(failed)?,
    };
    fs::set_permissions(&real, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let identity = identity(&real).map_err(failed)?;
    if let Some(folder) = note.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(note, identity).map_err(failed)?;
    Ok((listener, real))
}

/// What tells one socket file from another at the same path.
fn identity(path: &Path) -> io::Result<String> {
    let file = fs::symlink_metadata(path)?;
    if !file.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a socket"));
    }
    Ok(format!("{} {} {}.{:09}\n", file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}

fn is_noted(path: &Path, note: &Path) -> bool {
    match (identity(path), fs::read_to_string(note)) {
        (Ok(identity), Ok(noted)) => identity == noted,
        _ => false,
    }
}
