//! The fleet: every device of the server, each with its running line. Makes the
//! lines match the store, and tells watches what changed.
//!
//! Reads come from memory; a change is made in the store first and shown when it
//! is durable. The store decides about conflicts, so no lock is held over a
//! commit. Bound: `limits::DEVICES_MAX`.

mod feed;

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use tokio::task::spawn_blocking;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::feed::{Changed, Feed, Gone, Revision};
use crate::{
    backend::{self, Environment},
    device::{Device, DeviceSpec, Labels, RunState, Uid},
    journal::{self, Root},
    limits,
    line::{self, Handle, Surroundings, Urgency},
    name::DeviceId,
    store::{self, Change, Conflict, Store},
    telemetry::Metrics,
};

/// Why the fleet did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such device.
    #[error("no such device")]
    NotFound,
    /// There is one of that name.
    #[error("the device exists")]
    Exists,
    /// Somebody changed it in between.
    #[error("the device was changed by somebody else")]
    Changed,
    /// There are as many as there may be.
    #[error("there are {} devices already", limits::DEVICES_MAX)]
    Limit,
    /// The operator's allow-list does not cover it.
    #[error(transparent)]
    Denied(#[from] backend::Denied),
    /// The store did not work.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The journal could not be opened.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

/// One device with its line.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As stored.
    pub device: Arc<Device>,
    /// Its running side.
    pub line: Handle,
}

/// What a new device is made of.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Its name's last part.
    pub id: DeviceId,
    /// What to select it by.
    pub labels: Labels,
    /// What its owner wants; valid.
    pub spec: DeviceSpec,
    /// The caller's name for this request.
    pub request_id: String,
}

/// Every device of the server.
#[derive(Debug)]
pub struct Fleet {
    entries: RwLock<BTreeMap<DeviceId, Entry>>,
    store: store::Handle,
    journals: Arc<Root>,
    environment: Arc<Environment>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Fleet {
    /// Loads every device and starts its line. Blocks, in a runtime.
    pub fn open(
        mut store: Box<dyn Store>,
        journals: Arc<Root>,
        environment: Environment,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<(Arc<Self>, std::thread::JoinHandle<()>), Error> {
        let devices = store.load()?;
        journals.remove_others(devices.iter().map(|device| (device.id.clone(), device.uid)))?;
        let (store, thread) = store::spawn(store, metrics.clone())?;
        let fleet = Arc::new(Self {
            entries: RwLock::default(),
            store,
            journals,
            environment: Arc::new(environment),
            feed: Arc::new(Feed::new(random())),
            metrics,
            stop,
            tasks,
        });
        for device in devices {
            let retention = device.spec.journal.retention_bytes();
            let writer = fleet.journals.journal(&device.id, device.uid, retention)?;
            fleet.start(Arc::new(device), writer);
        }
        fleet.journals.all_open()?;
        Ok((fleet, thread))
    }

    /// What changed, for watches.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// One device.
    pub fn get(&self, id: &DeviceId) -> Result<Entry, Error> {
        self.entries().get(id).cloned().ok_or(Error::NotFound)
    }

    /// Up to `limit` devices that `select` takes, in the order of names, after
    /// `after`. `select` must be quick.
    pub fn list(
        &self,
        after: Option<&DeviceId>,
        limit: usize,
        mut select: impl FnMut(&Entry) -> bool,
    ) -> Vec<Entry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries();
        let range = entries.range::<DeviceId, _>((from, Bound::Unbounded));
        range.map(|(_, entry)| entry).filter(|entry| select(entry)).take(limit).cloned().collect()
    }

    /// Whether a new device could be made now. Changes nothing.
    pub fn check_create(&self, new: &NewDevice) -> Result<(), Error> {
        backend::check(&new.spec.host_interface, &self.environment.allow)?;
        let entries = self.entries();
        if entries.contains_key(&new.id) {
            return Err(Error::Exists);
        }
        if entries.len() >= limits::DEVICES_MAX {
            return Err(Error::Limit);
        }
        Ok(())
    }

    /// Makes a device, durable when this returns, and starts its line.
    pub async fn create(self: &Arc<Self>, new: NewDevice) -> Result<Entry, Error> {
        self.check_create(&new)?;
        let now = SystemTime::now();
        let device = Device {
            id: new.id,
            uid: Uid(random()),
            labels: new.labels,
            spec: new.spec,
            create_time: now,
            update_time: now,
            revision: 0,
            create_request_id: new.request_id,
        };
        // Not given up half-way when the caller goes.
        let fleet = self.clone();
        self.spawn(async move {
            let committed = fleet.store.commit(Change::Create(device.clone())).await?;
            let revision = committed.map_err(Error::from)?;
            let device = Arc::new(Device { revision, ..device });
            let (journals, opened) = (fleet.journals.clone(), device.clone());
            let writer = spawn_blocking(move || {
                journals.journal(&opened.id, opened.uid, opened.spec.journal.retention_bytes())
            });
            let writer = writer.await.map_err(|_| Error::Stopping)??;
            Ok(fleet.start(device, writer))
        })
        .await
    }

    /// Changes labels and spec of a device that is still at `device.revision`.
    pub async fn update(
        self: &Arc<Self>,
        device: Device,
        urgency: Urgency,
    ) -> Result<Entry, Error> {
        backend::check(&device.spec.host_interface, &self.environment.allow)?;
        let fleet = self.clone();
        self.spawn(async move {
            let from = device.revision;
            let mut device = Device { update_time: SystemTime::now(), ..device };
            let committed =
                fleet.store.commit(Change::Update { device: device.clone(), from }).await?;
            device.revision = committed.map_err(Error::from)?;
            let spec = device.spec.clone();
            let entry = {
                let mut entries = fleet.entries_mut();
                let entry = entries.get_mut(&device.id).ok_or(Error::NotFound)?;
                // Two updates may come back in the other order.
                if entry.device.revision < device.revision {
                    entry.device = Arc::new(device);
                }
                entry.clone()
            };
            fleet.feed.touch(&entry.device.id);
            if entry.device.spec == spec {
                entry.line.reconfigure(spec, urgency).await.map_err(|_| Error::Stopping)?;
            }
            Ok(entry)
        })
        .await
    }

    /// Asks a line to open its link now.
    pub async fn open_now(&self, entry: &Entry) -> Result<(), Error> {
        let spec = entry.device.spec.clone();
        entry.line.reconfigure(spec, Urgency::Now).await.map_err(|_| Error::Stopping)
    }

    /// Deletes a device that is still at `revision`: ends its attachments,
    /// closes its host interface and removes its journal.
    pub async fn delete(self: &Arc<Self>, id: &DeviceId, revision: u64) -> Result<(), Error> {
        let (fleet, id) = (self.clone(), id.clone());
        self.spawn(async move {
            let change = Change::Delete { id: id.clone(), from: revision };
            fleet.store.commit(change).await?.map_err(Error::from)?;
            let entry = fleet.entries_mut().remove(&id).ok_or(Error::NotFound)?;
            fleet.metrics.devices.dec();
            fleet.feed.remove(entry.device.clone());
            entry.line.delete().await;
            tracing::info!(device = %id, "deleted");
            // The device is gone whatever becomes of its files; what is left is
            // removed at the next start.
            if let Err(error) = entry.line.journal().clone().remove().await {
                tracing::warn!(device = %id, error = &error as &dyn std::error::Error, "journal not removed");
            }
            let environment = fleet.environment.clone();
            let forget = move || backend::forget(entry.device.uid, &environment);
            if let Ok(Err(error)) = spawn_blocking(forget).await {
                tracing::warn!(device = %id, %error, "notes not removed");
            }
            Ok(())
        })
        .await
    }

    /// Starts the line of a device and shows both.
    fn start(self: &Arc<Self>, device: Arc<Device>, writer: journal::Writer) -> Entry {
        let feed = self.feed.clone();
        let around = Surroundings {
            environment: self.environment.clone(),
            changed: Arc::new(move |device| feed.touch(&device.id)),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        let line = line::spawn(device.clone(), writer, around);
        let entry = Entry { device: device.clone(), line };
        self.entries_mut().insert(device.id.clone(), entry.clone());
        self.metrics.devices.inc();
        self.feed.add(&device.id);
        entry
    }

    /// Runs a change to its end, even if its caller goes away.
    async fn spawn<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks.spawn(change).await.map_err(|_| Error::Stopping)?
    }

    fn entries(&self) -> RwLockReadGuard<'_, BTreeMap<DeviceId, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<DeviceId, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    /// The same device with another run state.
    pub fn with_run_state(&self, run_state: RunState) -> Self {
        let mut device = self.clone();
        device.spec.run_state = run_state;
        device
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Exists => Self::Exists,
            Conflict::Missing => Self::NotFound,
            Conflict::Changed => Self::Changed,
        }
    }
}

/// Not a secret, but never the same twice.
fn random() -> u64 {
    fastrand::u64(1..)
}
