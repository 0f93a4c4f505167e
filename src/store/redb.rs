//! The embedded store: one redb file, `devices.redb`. Every commit is durable
//! when it returns; a half-written one is undone when the file is next opened.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Change, Conflict, Error, Revision, Store, memory::check, record};

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

    /// The inner error is of a record, the outer of the file.
    fn write(
        &self,
        changes: &[Change],
    ) -> Result<Result<Vec<Result<Revision, Conflict>>, Error>, redb::Error> {
        let transaction = self.database()?.begin_write()?;
        let mut results = Vec::with_capacity(changes.len());
        {
            let mut devices = transaction.open_table(DEVICES)?;
            let mut meta = transaction.open_table(META)?;
            let mut revision = meta.get(REVISION_KEY)?.map_or(0, |value| value.value());
            for change in changes {
                let (id, from) = match change {
                    Change::Create(device) => (&device.id, None),
                    Change::Update { device, from } => (&device.id, Some(*from)),
                    Change::Delete { id, from } => (id, Some(*from)),
                };
                let found = devices.get(id.as_str())?.map(|row| row.value().to_owned());
                let found = match found.map(|bytes| record::decode(id.as_str(), &bytes)).transpose()
                {
                    Ok(found) => found.map(|device| device.revision),
                    Err(error) => return Ok(Err(error)),
                };
                if let Err(conflict) = check(found, from) {
                    results.push(Err(conflict));
                    continue;
                }
                revision += 1;
                match change {
                    Change::Create(device) | Change::Update { device, .. } => {
                        let mut device = device.clone();
                        device.revision = revision;
                        match record::encode(&device) {
                            Ok(bytes) => drop(devices.insert(id.as_str(), bytes.as_slice())?),
                            Err(error) => return Ok(Err(error)),
                        }
                    }
                    Change::Delete { .. } => drop(devices.remove(id.as_str())?),
                }
                results.push(Ok(revision));
            }
            meta.insert(REVISION_KEY, revision)?;
        }
        transaction.commit()?;
        Ok(Ok(results))
    }
}

impl Store for Redb {
    fn load(&mut self) -> Result<Vec<crate::device::Device>, Error> {
        let rows = self.read_devices().map_err(|error| Error::database(&self.path, error))?;
        rows.iter().map(|(id, bytes)| record::decode(id, bytes)).collect()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<Revision, Conflict>>, Error> {
        if self.database.is_none() {
            self.database = Database::open(&self.path).ok();
        }
        self.write(changes).map_err(|error| {
            self.reopen();
            Error::database(&self.path, error)
        })?
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
        device::{Device, DeviceSpec, HostInterface, Labels, PtySpec, Uid},
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
        assert_eq!(loaded, [Device { revision: 5, ..a }, Device { revision: 1, ..device("b") }]);
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
