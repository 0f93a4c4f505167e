//! The fleet: every device of the server, each with its running line. Makes the
//! lines match the store, and tells watches what changed.
//!
//! Reads come from memory; a change is made in the store first and shown when it
//! is durable. The store decides about conflicts, so no lock is held over a
//! commit. Bound: `limits::DEVICES_MAX`.

mod feed;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::feed::{Changed, Feed, Gone, Revision};
use crate::{
    backend::{self, Environment},
    device::{Device, DeviceSpec, Labels, RunState, Uid},
    journal::{self, Age, Root},
    limits,
    line::{self, EndReason, Handle, Surroundings, Urgency},
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
    /// The server has no such credentials.
    #[error("spec.tcp.credentials {0}")]
    Credentials(#[from] backend::Unfit),
    /// The allow-list does not cover the file of the log.
    #[error("spec.log.file: {0}")]
    LogDenied(#[source] backend::Denied),
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

/// Which of several new devices could not be made, and why. None was.
#[derive(Debug)]
pub struct CreateFailed {
    /// Its place among them; 0 if it was none of them in particular.
    pub at: usize,
    /// Why.
    pub error: Error,
}

/// A create under way; others of the same name wait for it.
struct Creating {
    fleet: Arc<Fleet>,
    id: DeviceId,
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.fleet.creating_ids().remove(&self.id);
        self.fleet.create_ended.notify_waiters();
    }
}

/// Every device of the server.
#[derive(Debug)]
pub struct Fleet {
    /// Names of devices that are being made: at most one for each call.
    creating: Mutex<HashSet<DeviceId>>,
    create_ended: Notify,
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
        journals.set_aside_others(devices.iter().map(|device| (device.id.clone(), device.uid)))?;
        let (store, thread) = store::spawn(store, metrics.clone())?;
        let fleet = Arc::new(Self {
            creating: Mutex::default(),
            create_ended: Notify::new(),
            entries: RwLock::default(),
            store,
            journals,
            environment: Arc::new(environment),
            feed: Arc::new(Feed::new(random())),
            metrics,
            stop,
            tasks,
        });
        // All journals first: far sides must not take the descriptors that
        // reading a journal needs.
        let mut opened = Vec::with_capacity(devices.len());
        for device in devices {
            let retention = device.spec.journal.retention_bytes();
            let writer = fleet.journals.journal(&device.id, device.uid, retention, Age::Known);
            opened.push((device, writer));
        }
        for (device, writer) in opened {
            fleet.start(Arc::new(device), writer);
        }
        // Fewer guarantees, not no service.
        if let Err(error) = fleet.journals.all_open() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a kill will be taken for a power loss"
            );
        }
        Ok((fleet, thread))
    }

    /// Commits what is under way and closes the store.
    pub async fn close_store(&self) {
        self.store.close().await;
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
        let failed = self.check_create_all(std::slice::from_ref(new));
        failed.into_iter().next().map_or(Ok(()), |failed| Err(failed.error))
    }

    /// Which of several new devices could not be made now, in their order. Changes
    /// nothing.
    pub fn check_create_all(&self, new: &[NewDevice]) -> Vec<CreateFailed> {
        let entries = self.entries();
        let check = |new: &NewDevice| {
            self.check_allowed(&new.spec, None)?;
            if entries.contains_key(&new.id) { Err(Error::Exists) } else { Ok(()) }
        };
        let failed = |(at, new)| Some(CreateFailed { at, error: check(new).err()? });
        let mut failed: Vec<_> = new.iter().enumerate().filter_map(failed).collect();
        if failed.is_empty() && entries.len() + new.len() > limits::DEVICES_MAX {
            failed.push(CreateFailed { at: 0, error: Error::Limit });
        }
        failed
    }

    /// Makes a device, durable when this returns, and starts its line.
    pub async fn create(self: &Arc<Self>, new: NewDevice) -> Result<Entry, Error> {
        let made = self.create_all(vec![new]).await.map_err(|failed| failed.error)?;
        made.into_iter().next().ok_or(Error::Stopping)
    }

    /// Makes devices of different names, all or none, durable when this returns,
    /// and starts their lines.
    pub async fn create_all(
        self: &Arc<Self>,
        new: Vec<NewDevice>,
    ) -> Result<Vec<Entry>, CreateFailed> {
        if let Some(failed) = self.check_create_all(&new).into_iter().next() {
            return Err(failed);
        }
        let now = SystemTime::now();
        let device = |new: NewDevice| Device {
            id: new.id,
            uid: Uid(random()),
            labels: new.labels,
            spec: new.spec,
            create_time: now,
            update_time: now,
            revision: 0,
            create_request_id: new.request_id,
        };
        let devices: Vec<Device> = new.into_iter().map(device).collect();
        // Not given up half-way when the caller goes.
        let fleet = self.clone();
        let made = self.spawn(async move {
            // In the order of names, so that two imports never wait for each other.
            let mut ids: Vec<_> = devices.iter().map(|device| device.id.clone()).collect();
            ids.sort_unstable();
            let mut turns = Vec::with_capacity(ids.len());
            for id in &ids {
                turns.push(fleet.creating(id).await);
            }
            // First what can fail without a trace: a new journal makes no files.
            let (journals, opened) = (fleet.journals.clone(), devices.clone());
            let writers = spawn_blocking(move || {
                let journal = |device: &Device| {
                    let retention = device.spec.journal.retention_bytes();
                    journals.journal(&device.id, device.uid, retention, Age::New)
                };
                opened.iter().map(journal).collect::<Vec<_>>()
            });
            let writers = writers.await.map_err(|_| Error::Stopping)?;
            let change = match <[Device; 1]>::try_from(devices.clone()) {
                Ok([device]) => Change::Create(device),
                Err(devices) => Change::CreateAll(devices),
            };
            let last = fleet.store.commit(change).await?.map_err(Error::from)?;
            let first = last + 1 - devices.len() as u64;
            let start = |((device, writer), revision)| {
                fleet.start(Arc::new(Device { revision, ..device }), writer)
            };
            Ok(devices.into_iter().zip(writers).zip(first..).map(start).collect())
        });
        made.await.map_err(|error| CreateFailed { at: 0, error })
    }

    /// Waits for creates of the same name, so that one that comes twice finds
    /// what the first made.
    async fn creating(self: &Arc<Self>, id: &DeviceId) -> Creating {
        loop {
            let ended = self.create_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.creating_ids().insert(id.clone()) {
                return Creating { fleet: self.clone(), id: id.clone() };
            }
            ended.await;
        }
    }

    fn creating_ids(&self) -> MutexGuard<'_, HashSet<DeviceId>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a device could be changed so. Changes nothing.
    pub fn check_update(&self, current: &Device, changed: &Device) -> Result<(), Error> {
        self.check_allowed(&changed.spec, Some(&current.spec))
    }

    /// Whether the operator allows what a spec names and did not name before:
    /// what was allowed once may be stopped and labelled for ever.
    fn check_allowed(&self, spec: &DeviceSpec, before: Option<&DeviceSpec>) -> Result<(), Error> {
        let Environment { allow, credentials, .. } = &*self.environment;
        if before.is_none_or(|before| before.host_interface != spec.host_interface) {
            backend::check(&spec.host_interface, allow)?;
            backend::check_credentials(&spec.host_interface, credentials)?;
        }
        if let Some(log) = &spec.log
            && before.is_none_or(|before| before.log.as_ref() != Some(log))
        {
            backend::check_log(log, allow).map_err(Error::LogDenied)?;
        }
        Ok(())
    }

    /// Changes labels and spec of a device that is still at `device.revision`.
    pub async fn update(
        self: &Arc<Self>,
        device: Device,
        urgency: Urgency,
    ) -> Result<Entry, Error> {
        self.check_update(&self.get(&device.id)?.device, &device)?;
        let fleet = self.clone();
        self.spawn(async move {
            let from = device.revision;
            let mut device = Device { update_time: SystemTime::now(), ..device };
            let committed =
                fleet.store.commit(Change::Update { device: device.clone(), from }).await?;
            device.revision = committed.map_err(Error::from)?;
            let spec = device.spec.clone();
            let revision = device.revision;
            let entry = {
                let mut entries = fleet.entries_mut();
                let entry = entries.get_mut(&device.id).ok_or(Error::NotFound)?;
                // Two updates may come back in the other order.
                if entry.device.revision < device.revision {
                    entry.device = Arc::new(device);
                }
                fleet.feed.touch(&entry.device.id);
                entry.clone()
            };
            reconfigure(&entry, spec, revision, urgency).await?;
            Ok(entry)
        })
        .await
    }

    /// Asks a line to open its link now.
    pub async fn open_now(&self, entry: &Entry) -> Result<(), Error> {
        let device = &entry.device;
        reconfigure(entry, device.spec.clone(), device.revision, Urgency::Now).await
    }

    /// Deletes a device that is still at `revision`: ends its attachments,
    /// closes its host interface and removes its journal.
    pub async fn delete(self: &Arc<Self>, id: &DeviceId, revision: u64) -> Result<(), Error> {
        let (fleet, id) = (self.clone(), id.clone());
        self.spawn(async move {
            let change = Change::Delete { id: id.clone(), from: revision };
            fleet.store.commit(change).await?.map_err(Error::from)?;
            let entry = {
                let mut entries = fleet.entries_mut();
                let entry = entries.remove(&id).ok_or(Error::NotFound)?;
                fleet.feed.remove(entry.device.clone());
                entry
            };
            fleet.metrics.devices.dec();
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
        let mut entries = self.entries_mut();
        entries.insert(device.id.clone(), entry.clone());
        self.feed.add(&device.id);
        drop(entries);
        self.metrics.devices.inc();
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

/// Makes a line follow its spec. The change is stored already: a line that is
/// down for good, or a server that stops, does not undo it.
async fn reconfigure(
    entry: &Entry,
    spec: DeviceSpec,
    revision: u64,
    urgency: Urgency,
) -> Result<(), Error> {
    match entry.line.reconfigure(spec, revision, urgency).await {
        Err(line::Error::Ended(EndReason::DeviceDeleted)) => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Not a secret, but never the same twice.
fn random() -> u64 {
    fastrand::u64(1..)
}
