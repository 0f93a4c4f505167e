//! A store that forgets: for tests and for embedding.

use std::collections::BTreeMap;

use super::{Change, Conflict, Error, Revision, Store};
use crate::{device::Device, name::DeviceId};

/// A store that forgets.
#[derive(Debug, Default)]
pub struct Memory {
    devices: BTreeMap<DeviceId, Device>,
    revision: Revision,
}

impl Store for Memory {
    fn load(&mut self) -> Result<Vec<Device>, Error> {
        Ok(self.devices.values().cloned().collect())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<Revision, Conflict>>, Error> {
        Ok(changes.iter().map(|change| self.apply(change)).collect())
    }
}

impl Memory {
    fn apply(&mut self, change: &Change) -> Result<Revision, Conflict> {
        let found = |id: &DeviceId| self.devices.get(id).map(|device| device.revision);
        match change {
            Change::Create(device) => {
                check(found(&device.id), None)?;
                self.put(device);
            }
            Change::CreateAll(devices) => {
                for device in devices {
                    check(found(&device.id), None)?;
                }
                for device in devices {
                    self.put(device);
                }
            }
            Change::Update { device, from } => {
                check(found(&device.id), Some(*from))?;
                self.put(device);
            }
            Change::Delete { id, from } => {
                check(found(id), Some(*from))?;
                self.revision += 1;
                self.devices.remove(id);
            }
        }
        Ok(self.revision)
    }

    fn put(&mut self, device: &Device) {
        self.revision += 1;
        let device = Device { revision: self.revision, ..device.clone() };
        self.devices.insert(device.id.clone(), device);
    }
}

/// Whether a change that expects `from` (nothing, for a create) fits what is
/// there.
pub(super) fn check(found: Option<Revision>, from: Option<Revision>) -> Result<(), Conflict> {
    match (found, from) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Conflict::Exists),
        (None, Some(_)) => Err(Conflict::Missing),
        (Some(found), Some(from)) if found == from => Ok(()),
        (Some(_), Some(_)) => Err(Conflict::Changed),
    }
}
