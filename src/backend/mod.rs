//! Backends: the code of one host interface each. One seam: prepare a place for
//! the link, open it, then read and write bytes. Reconnecting, state, the
//! journal and who may write are the line's and written once.
//!
//! Everything that a spec names (a host, a path) passes [`Allow`] first, both
//! when it is stored and again when it is used, because names change meaning.
//!
//! A new host interface is a file here, an arm in [`new`] and a variant of
//! `device::HostInterface`.

mod allow;
mod append;
mod beneath;
mod credentials;
mod descriptor;
mod dev;
mod domain_log;
mod file;
mod folder;
mod host_device;
mod left_over;
mod link;
mod null;
mod offload;
mod pipe;
mod pty;
mod resolve;
mod stdio;
mod stream;
mod tcp;
mod udp;
mod unix;

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::Semaphore;

pub use self::{
    allow::{Allow, Denied, Network, SocketFile},
    append::{Begin, WriteFault},
    beneath::{Kind, OpenError},
    credentials::{CredentialSet, Credentials, DEFAULT_CREDENTIALS, Unfit},
    domain_log::DomainLogs,
    file::LogFile,
    folder::{Folder, Identity, Removal},
    link::{Control, ControlError, Link, Read},
};
use crate::{
    device::{Endpoint, HostInterface, LogSpec, Uid},
    telemetry::Metrics,
};

/// A future that a backend returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a far side can be expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Where a socket listens.
    pub listen_address: Option<String>,
    /// The slave of a pty.
    pub pty_path: Option<String>,
}

/// Whether a link that ended is opened again at once or after a back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We open it: a far side that is down must not be hammered.
    Opens,
    /// The far side opens it: the next one is welcome at once.
    Waits,
}

/// One host interface.
pub trait Backend: Send {
    /// Who opens links.
    fn role(&self) -> Role;

    /// Makes the place for links, if that needs making; again after an error.
    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>>;

    /// Opens a link: connects, or waits for a far side. Giving the future up
    /// loses nothing.
    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>>;

    /// Turns away a far side that comes while there is a link; ready once for
    /// each, with who it was and why.
    fn poll_refuse(&mut self, _cx: &mut Context<'_>) -> Poll<String> {
        Poll::Pending
    }
}

/// What backends are given by the server.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What specs may name.
    pub allow: Arc<Allow>,
    /// What TLS is spoken with.
    pub credentials: Arc<Credentials>,
    /// Where notes about what is ours are kept: sockets, FIFOs, links; see `unix`,
    /// `pipe` and `left_over`.
    pub notes_dir: PathBuf,
    /// Name look-ups at once, so that dead DNS does not take every thread.
    pub lookups: Arc<Semaphore>,
    /// What only a backend can count.
    pub metrics: Arc<Metrics>,
    /// Threads that may be busy with files, so that a disk that hangs does not
    /// take every thread.
    pub files: Arc<Semaphore>,
    /// The logs of domains that are open.
    pub domain_logs: Arc<DomainLogs>,
}

/// Why a link could not be opened or was lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's allow-list does not cover it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Something on this host could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file could not be written.
    #[error("cannot write {path}, because {fault}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What kind of failure it is.
        fault: WriteFault,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host name could not be looked up.
    #[error("cannot look up host {host}")]
    Resolve {
        /// As in the spec.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing at the address took the connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address is not ours to listen on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket was to be given to a group that is not there.
    #[error("cannot give the socket to group {group}")]
    Group {
        /// As in the spec.
        group: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no FIFO.
    #[error("there is no FIFO: neither {path}.in with {path}.out, nor {path}")]
    NoFifo {
        /// As in the spec.
        path: PathBuf,
    },
    /// What is open has lost its name.
    #[error("{path} was deleted or replaced")]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not our own left-over stands at the path.
    #[error("{path} exists and is not what this device left behind")]
    NotOurs {
        /// The path.
        path: PathBuf,
    },
    /// Somebody has a port to himself.
    #[error("{path} is in use by another program or device")]
    InUse {
        /// The port.
        path: PathBuf,
    },
    /// A port was not set as asked.
    #[error("cannot set {path}")]
    Settings {
        /// The port.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A parallel port that expects us to speak IEEE 1284.
    #[error(
        "{path} is a raw parallel port (ppdev), which needs a program that drives its wires; use \
         the printer port /dev/lpN of the same connector"
    )]
    RawParallel {
        /// The port.
        path: PathBuf,
    },
    /// The hardware of a port, or the other end of a terminal, is gone.
    #[error("the port hung up: it was unplugged, or its other end has gone")]
    HungUp,
    /// A connection could not be taken.
    #[error("cannot accept a connection")]
    Accept(#[source] io::Error),
    /// A pseudo terminal could not be made.
    #[error("cannot make a pseudo terminal")]
    Pty(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The far side closed the connection.
    #[error("the far side closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The credentials in the spec cannot be used.
    #[error("spec.tcp.credentials {0}")]
    Credentials(Unfit),
    /// TLS was not agreed on, or broken off.
    #[error("TLS")]
    Tls(#[source] io::Error),
    /// The connection ended, but TLS did not: somebody may have cut it.
    #[error(
        "the far side closed the connection without ending TLS; what it said last may be missing"
    )]
    Truncated,
    /// A far side was turned away before there was a link; others are awaited.
    #[error("{0}")]
    Refused(String),
}

/// The error and its causes in one line, for status and log.
pub fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The backend of a device's host interface.
pub fn new(spec: &HostInterface, uid: Uid, environment: &Environment) -> Box<dyn Backend> {
    let allow = environment.allow.clone();
    match spec {
        HostInterface::Null {} => Box::new(null::Null),
        HostInterface::File(file) => Box::new(file::File::new(file, environment)),
        HostInterface::Stdio(stdio) => Box::new(stdio::Stdio::new(stdio, uid, environment)),
        HostInterface::Pipe(pipe) => Box::new(pipe::Pipe::new(pipe.clone(), uid, environment)),
        HostInterface::Udp(udp) => Box::new(udp::Udp::new(udp.clone(), environment)),
        HostInterface::Dev(dev) => Box::new(dev::Dev::new(dev.clone(), allow)),
        HostInterface::Pty(pty) => {
            let note = environment.notes_dir.join(uid.to_string());
            Box::new(pty::Pty::new(pty.clone(), note, allow))
        }
        HostInterface::Tcp(tcp) => match tcp.mode {
            Endpoint::Connect => Box::new(tcp::Client::new(tcp.clone(), environment)),
            Endpoint::Bind => Box::new(tcp::Server::new(tcp.clone(), environment)),
        },
        HostInterface::Unix(unix) => match unix.mode {
            Endpoint::Connect => Box::new(unix::Client::new(unix.path.clone(), allow)),
            Endpoint::Bind => {
                let note = environment.notes_dir.join(uid.to_string());
                Box::new(unix::Server::new(unix.clone(), note, allow))
            }
        },
    }
}

/// Whether the operator lets a spec name what it names, as far as that can be
/// said before it is used.
pub fn check(spec: &HostInterface, allow: &Allow) -> Result<(), Denied> {
    match spec {
        HostInterface::Null {} => Ok(()),
        HostInterface::Pipe(pipe) => allow.path_as_written(&pipe.path),
        HostInterface::Udp(udp) => udp::check(udp, allow),
        HostInterface::File(file) => allow.path_as_written(&file.path),
        HostInterface::Stdio(_) => allow.domain_logs().map(drop),
        HostInterface::Dev(dev) => allow.device_as_written(&dev.path),
        HostInterface::Pty(pty) => {
            pty.link.as_deref().map_or(Ok(()), |link| allow.path_as_written(link))
        }
        HostInterface::Tcp(tcp) => tcp::check(tcp, allow),
        HostInterface::Unix(unix) => allow.path_as_written(&unix.path),
    }
}

/// The same for the copy of a console's bytes.
pub fn check_log(log: &LogSpec, allow: &Allow) -> Result<(), Denied> {
    allow.path_as_written(&log.file)
}

/// Whether the server has the credentials that a spec names, good for what it
/// wants them for.
pub fn check_credentials(spec: &HostInterface, credentials: &Credentials) -> Result<(), Unfit> {
    match spec {
        HostInterface::Tcp(tcp) if tcp.is_tls() => {
            let name = tcp.credentials.as_deref();
            match tcp.mode {
                Endpoint::Connect => credentials.client(name).map(drop),
                Endpoint::Bind => credentials.server(name).map(drop),
            }
        }
        HostInterface::Null {}
        | HostInterface::Stdio(_)
        | HostInterface::File(_)
        | HostInterface::Pty(_)
        | HostInterface::Dev(_)
        | HostInterface::Pipe(_)
        | HostInterface::Tcp(_)
        | HostInterface::Udp(_)
        | HostInterface::Unix(_) => Ok(()),
    }
}

/// What is left of a device that was deleted: its notes, and the FIFOs that were
/// made for it. Blocks.
pub fn forget(uid: Uid, environment: &Environment) -> io::Result<()> {
    let fifos = pipe::forget(uid, environment);
    remove_if_there(&environment.notes_dir.join(uid.to_string()))?;
    fifos
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
