//! The embedded store: one redb file, `devices.redb`. Every commit is durable
//! when it returns; a half-written one is undone when the file is next opened.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Change, Conflict, Error, Revision, Store, memory::check, record};
use crate::{device::Device, name::DeviceId};

const DEVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("devices");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";
/// Grows when an older version could misread what this one writes.
const FORMAT: u64 = 1;

/// The embedded store.
#[derive(Debug)]
pub struct Redb {
    /// None while it cannot be opened again after a failed write.
    database: Option<Database>,
    path: PathBuf,
}

impl Redb {
    /// Opens the file, or makes it. A file of a newer format is left as it is.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            // Reading first: opening to write may repair, and a format that is
            // not ours is not ours to repair.
            match redb::ReadOnlyDatabase::open(path) {
                Ok(database) => {
                    let found = read_format(&database).map_err(|e| Error::database(path, e))?;
                    check_format(path, found)?;
                }
                // Left by a kill; opening to write repairs it.
                Err(DatabaseError::RepairAborted) => {}
                Err(error) => return Err(Error::open(path, error)),
            }
        }
        let database = Database::create(path).map_err(|error| Error::open(path, error))?;
        let found = read_format(&database).map_err(|error| Error::database(path, error))?;
        check_format(path, found)?;
        let store = Self { database: Some(database), path: path.to_owned() };
        if found.is_none() {
            store.initialize().map_err(|error| Error::database(path, error))?;
        }
        Ok(store)
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
        transaction.open_table(DEVICES)?;
        transaction.commit()?;
        Ok(())
    }

    fn read_devices(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(DEVICES)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (id, bytes) = row?;
            rows.push((id.value().to_owned(), bytes.value().to_owned()));
        }
        Ok(rows)
    }

    fn write(&self, changes: &[Change]) -> Result<Vec<Result<Revision, Conflict>>, WriteError> {
        let transaction = self.database()?.begin_write()?;
        let results = {
            let mut meta = transaction.open_table(META)?;
            let revision = meta.get(REVISION_KEY)?.map_or(0, |value| value.value());
            let mut table = Table { devices: transaction.open_table(DEVICES)?, revision };
            let results: Vec<_> =
                changes.iter().map(|change| table.apply(change)).collect::<Result<_, _>>()?;
            meta.insert(REVISION_KEY, table.revision)?;
            results
        };
        transaction.commit()?;
        Ok(results)
    }
}

/// Why nothing was written.
enum WriteError {
    /// A record does not read or cannot be made.
    Record(Error),
    /// The file does not work.
    File(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

/// The devices in a transaction.
struct Table<'t> {
    devices: redb::Table<'t, &'static str, &'static [u8]>,
    revision: Revision,
}

impl Table<'_> {
    /// The inner error is of this change alone.
    fn apply(&mut self, change: &Change) -> Result<Result<Revision, Conflict>, WriteError> {
        let (conditions, puts): (Vec<(&DeviceId, Option<Revision>)>, &[Device]) = match change {
            Change::Create(device) => (vec![(&device.id, None)], std::slice::from_ref(device)),
            Change::CreateAll(devices) => {
                (devices.iter().map(|device| (&device.id, None)).collect(), devices)
            }
            Change::Update { device, from } => {
                (vec![(&device.id, Some(*from))], std::slice::from_ref(device))
            }
            Change::Delete { id, from } => (vec![(id, Some(*from))], &[]),
        };
        for (id, from) in conditions {
            if let Err(conflict) = check(self.found(id)?, from) {
                return Ok(Err(conflict));
            }
        }
        for device in puts {
            self.revision += 1;
            let device = Device { revision: self.revision, ..device.clone() };
            let bytes = record::encode(&device).map_err(WriteError::Record)?;
            self.devices.insert(device.id.as_str(), bytes.as_slice())?;
        }
        if let Change::Delete { id, .. } = change {
            self.revision += 1;
            self.devices.remove(id.as_str())?;
        }
        Ok(Ok(self.revision))
    }

    fn found(&self, id: &DeviceId) -> Result<Option<Revision>, WriteError> {
        let Some(row) = self.devices.get(id.as_str())? else { return Ok(None) };
        let device = record::decode(id.as_str(), row.value()).map_err(WriteError::Record)?;
        Ok(Some(device.revision))
    }
}

impl Store for Redb {
    fn load(&mut self) -> Result<Vec<Device>, Error> {
        let rows = self.read_devices().map_err(|error| Error::database(&self.path, error))?;
        rows.iter().map(|(id, bytes)| record::decode(id, bytes)).collect()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<Revision, Conflict>>, Error> {
        if self.database.is_none() {
            self.database = Database::open(&self.path).ok();
        }
        self.write(changes).map_err(|error| match error {
            WriteError::Record(error) => error,
            WriteError::File(error) => {
                self.reopen();
                Error::database(&self.path, error)
            }
        })
    }
}

impl Redb {
    /// redb refuses everything after its first failed write: opened again, the
    /// store heals when the disk does.
    fn reopen(&mut self) {
        let Some(database) = self.database.take() else { return };
        drop(database);
        match Database::open(&self.path) {
            Ok(database) => self.database = Some(database),
            Err(error) => {
                tracing::error!(store = %self.path.display(), %error, "store cannot be opened again")
            }
        }
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

impl Error {
    fn database(path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::Database { path: path.to_owned(), source: Box::new(source.into()) }
    }

    fn open(path: &Path, error: DatabaseError) -> Self {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            Self::InUse { path: path.to_owned() }
        } else {
            Self::database(path, error)
        }
    }
}

fn read_format(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(table) => Ok(table.get(FORMAT_KEY)?.map(|value| value.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn check_format(path: &Path, found: Option<u64>) -> Result<(), Error> {
    match found {
        Some(found) if found > FORMAT => {
            Err(Error::Newer { path: path.to_owned(), found, known: FORMAT })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::{DeviceSpec, HostInterface, Labels, PtySpec, Uid},
        store::Memory,
    };

    fn device(id: &str) -> Device {
        Device {
            id: id.parse().unwrap(),
            uid: Uid(7),
            labels: Labels::from([("rack".into(), "3".into())]),
            spec: DeviceSpec {
                description: "a \"note\"".into(),
                run_state: Default::default(),
                host_interface: HostInterface::Pty(PtySpec::default()),
                journal: Default::default(),
                input: Default::default(),
                reconnect: Default::default(),
                log: None,
                libvirt: None,
            },
            create_time: std::time::UNIX_EPOCH + std::time::Duration::new(5, 7),
            update_time: std::time::UNIX_EPOCH,
            revision: 0,
            create_request_id: "r".into(),
        }
    }

    fn conditions_hold(store: &mut dyn Store) {
        let (a, b) = (device("a"), device("b"));
        let results = store.commit(&[Change::Create(b), Change::Create(a.clone())]).unwrap();
        assert_eq!(results, [Ok(1), Ok(2)]);
        let id = a.id.clone();
        let results = store.commit(&[
            Change::Create(a.clone()),
            Change::Update { device: a.clone(), from: 1 },
            Change::Update { device: a.clone(), from: 2 },
            Change::Update { device: device("c"), from: 2 },
            Change::Delete { id: id.clone(), from: 2 },
            Change::Delete { id: id.clone(), from: 3 },
            Change::Create(a.clone()),
        ]);
        assert_eq!(
            results.unwrap(),
            [
                Err(Conflict::Exists),
                Err(Conflict::Changed),
                Ok(3),
                Err(Conflict::Missing),
                Err(Conflict::Changed),
                Ok(4),
                Ok(5),
            ]
        );
        let loaded = store.load().unwrap();
        assert_eq!(
            loaded,
            [Device { revision: 5, ..a.clone() }, Device { revision: 1, ..device("b") }]
        );

        // All or none, each with a revision of its own.
        let all = |ids: &[&str]| Change::CreateAll(ids.iter().map(|id| device(id)).collect());
        let results = store.commit(&[all(&["c", "a", "d"]), all(&["c", "d"])]);
        assert_eq!(results.unwrap(), [Err(Conflict::Exists), Ok(7)]);
        let loaded: Vec<_> =
            store.load().unwrap().into_iter().map(|d| (d.id.to_string(), d.revision)).collect();
        let expected = [("a", 5), ("b", 1), ("c", 6), ("d", 7)];
        assert_eq!(loaded, expected.map(|(id, revision)| (id.to_owned(), revision)));
    }

    #[test]
    fn changes_are_conditional_in_either_store() {
        conditions_hold(&mut Memory::default());
        let dir = tempfile::tempdir().unwrap();
        conditions_hold(&mut Redb::open(&dir.path().join("devices.redb")).unwrap());
    }

    #[test]
    fn devices_survive_and_two_processes_do_not_share_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.redb");
        let mut store = Redb::open(&path).unwrap();
        store.commit(&[Change::Create(device("a"))]).unwrap();
        assert!(matches!(Redb::open(&path), Err(Error::InUse { .. })));
        drop(store);
        assert_eq!(Redb::open(&path).unwrap().load().unwrap().len(), 1);
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.redb");
        let store = Redb::open(&path).unwrap();
        let transaction = store.database().unwrap().begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(FORMAT_KEY, FORMAT + 1).unwrap();
        transaction.commit().unwrap();
        drop(store);
        let before = std::fs::read(&path).unwrap();
        let error = Redb::open(&path).unwrap_err();
        assert!(error.to_string().contains("use the version that wrote it"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
