//! The composition root: builds the rooms, and takes them down in order.
//!
//! ```text
//! stop ─┬─ lines (each with its attachments)       tasks: lines, input readers,
//!       └─ watches, reads                                 changes in progress
//! net::Server ── accept loop, connections
//! store thread · journal scribes and their watches
//! ```
//!
//! Stop order: not serving in health; no more connections; lines end and tell
//! their attachers; connections drain to a deadline; journals are closed and
//! synced; the store ends.

use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{self, Api},
    auth::Auth,
    backend::Environment,
    config::Config,
    fleet::{self, Fleet},
    journal::{self, Root},
    limits,
    net::{self, Listener},
    store::{self, Redb},
    telemetry::Metrics,
};

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder could not be made.
    #[error("cannot make {path}")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is not ours to listen on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// See [`net::TlsError`].
    #[error(transparent)]
    Tls(#[from] net::TlsError),
    /// See [`store::Error`].
    #[error(transparent)]
    Store(#[from] store::Error),
    /// See [`journal::Error`].
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// See [`fleet::Error`].
    #[error(transparent)]
    Fleet(#[from] fleet::Error),
    /// The API's description is damaged.
    #[error("the API's own description cannot be read")]
    Schema(#[from] prost_reflect::DescriptorError),
    /// The API's description cannot be served.
    #[error("the API's own description cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The program is being torn down.
    #[error("a start-up task was given up")]
    GivenUp,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    net: net::Server,
    health: tonic_health::server::HealthReporter,
    stop: CancellationToken,
    tasks: TaskTracker,
    fleet: Arc<Fleet>,
    journals: Arc<Root>,
    store: JoinHandle<()>,
}

impl Server {
    /// Starts everything; when this returns, the server answers.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new());
        let tls = net::server_config(&config.certificate, &config.key)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // The address first: two servers on one address must not both touch a
        // store before one of them finds out.
        let listener = Listener::bind(config.listen)
            .await
            .map_err(|source| Error::Listen { address: config.listen, source })?;
        let address = listener.address();

        let opening = {
            let (metrics, stop, tasks) = (metrics.clone(), stop.clone(), tasks.clone());
            let (state_dir, allow) = (config.state_dir.clone(), config.allow.clone());
            let credentials = Arc::new(config.credentials.clone());
            move || {
                make_private_dir(&state_dir)?;
                // For what devices make on this host.
                for folder in ["files", "sockets"] {
                    make_private_dir(&state_dir.join(folder))?;
                }
                if let Ok(folder) = allow.domain_logs() {
                    make_private_dir(folder)?;
                }
                let store = Redb::open(&state_dir.join("devices.redb"))?;
                let journal =
                    journal::Config { dir: state_dir.join("journal"), framer: api::output_header };
                let journals = Arc::new(Root::open(journal, metrics.clone())?);
                let environment = Environment {
                    allow: Arc::new(allow),
                    credentials,
                    notes_dir: state_dir.join("notes"),
                    lookups: Arc::new(Semaphore::new(limits::LOOKUPS_MAX)),
                    files: Arc::new(Semaphore::new(limits::FILE_THREADS_MAX)),
                    domain_logs: Arc::default(),
                    metrics: metrics.clone(),
                };
                let (fleet, thread) = Fleet::open(
                    Box::new(store),
                    journals.clone(),
                    environment,
                    metrics,
                    stop,
                    tasks,
                )?;
                Ok::<_, Error>((fleet, thread, journals))
            }
        };
        let (fleet, store, journals) =
            spawn_blocking(opening).await.map_err(|_| Error::GivenUp)??;
        let auth = Arc::new(Auth::new(config.tokens));
        let api = Api::new(fleet.clone(), auth, metrics.clone(), stop.clone(), tasks.clone())?;
        let (router, health) = api::router(api)?;
        for service in SERVICES {
            health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
        }
        let net = net::Server::start(listener, router, tls, config.caps, metrics);
        tracing::info!(%address, state_dir = %config.state_dir.display(), "serving");
        Ok(Self { address, net, health, stop, tasks, fleet, journals, store })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in order. Dropping the future stops at once.
    pub async fn stop(self) {
        tracing::info!("stopping");
        for service in SERVICES {
            self.health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
        self.net.stop_accepting();
        self.stop.cancel();
        if !self.net.drain(limits::DRAIN_TIMEOUT).await {
            tracing::warn!(
                "connections were cut: they did not end within {:?}",
                limits::DRAIN_TIMEOUT
            );
        }
        self.tasks.close();
        if timeout(limits::DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::error!(tasks = self.tasks.len(), "tasks did not end");
        }
        self.fleet.close_store().await;
        let (journals, store) = (self.journals, self.store);
        let close = spawn_blocking(move || {
            journals.close();
            if store.join().is_err() {
                tracing::error!("the store's thread panicked");
            }
        });
        if close.await.is_err() {
            tracing::error!("closing journals and store failed");
        }
        tracing::info!("stopped");
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What health tells about: the server as a whole, and each service.
const SERVICES: [&str; 3] = ["", "lineman.v1.DeviceService", "lineman.v1.ConsoleService"];

fn make_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;

    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Folder { path: path.to_owned(), source })
}
