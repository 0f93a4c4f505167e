//! A device as the store writes it: JSON, so that a store can be read by hand in
//! an emergency, and unknown fields are refused rather than lost.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    device::{Device, DeviceSpec, Labels, Uid},
    name::DeviceId,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    uid: Uid,
    labels: Labels,
    spec: DeviceSpec,
    /// Since the Unix epoch.
    create_time: Duration,
    update_time: Duration,
    revision: u64,
    #[serde(default)]
    create_request_id: String,
}

pub(super) fn encode(device: &Device) -> Result<Vec<u8>, Error> {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        uid: device.uid,
        labels: device.labels.clone(),
        spec: device.spec.clone(),
        create_time: since(device.create_time),
        update_time: since(device.update_time),
        revision: device.revision,
        create_request_id: device.create_request_id.clone(),
    };
    serde_json::to_vec(&record).map_err(|source| damaged(device.id.as_str(), source))
}

pub(super) fn decode(id: &str, bytes: &[u8]) -> Result<Device, Error> {
    let record: Record = serde_json::from_slice(bytes).map_err(|source| damaged(id, source))?;
    let name = |error| damaged(id, serde::de::Error::custom(error));
    Ok(Device {
        id: id.parse::<DeviceId>().map_err(name)?,
        uid: record.uid,
        labels: record.labels,
        spec: record.spec,
        create_time: UNIX_EPOCH + record.create_time,
        update_time: UNIX_EPOCH + record.update_time,
        revision: record.revision,
        create_request_id: record.create_request_id,
    })
}

fn damaged(id: &str, source: serde_json::Error) -> Error {
    Error::Damaged { id: id.to_owned(), source }
}
