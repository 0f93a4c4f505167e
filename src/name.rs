//! Names of devices: parsed once, then carried as a type, so that no other room
//! checks a string again or builds a path from one that was not checked.

use std::{fmt, str::FromStr, sync::Arc};

/// The collection that device names live in (AIP-122).
const COLLECTION: &str = "devices/";

/// Longest last part of a device name, in bytes: that of a DNS label, because
/// people name consoles after hosts (RFC 1035 section 2.3.4).
pub const DEVICE_ID_BYTES_MAX: usize = 63;

/// The last part of a device's name: 1 to [`DEVICE_ID_BYTES_MAX`] characters of
/// `a-z 0-9 - _ .`, the first and the last a letter or digit. It is therefore
/// also safe as one component of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

/// Why a string is not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The string does not begin with `devices/`.
    #[error("must be \"devices/\" and a device id")]
    NoCollection,
    /// The id is empty.
    #[error("must not be empty")]
    Empty,
    /// The id is longer than [`DEVICE_ID_BYTES_MAX`].
    #[error("must be at most {DEVICE_ID_BYTES_MAX} characters, not {0}")]
    TooLong(usize),
    /// A character that is not allowed, or not allowed where it stands.
    #[error(
        "must be lower-case letters, digits, '-', '_' and '.', first and last a letter or digit"
    )]
    Character,
}

impl DeviceId {
    /// Parses `devices/{device}`.
    pub fn from_resource_name(name: &str) -> Result<Self, Error> {
        name.strip_prefix(COLLECTION).ok_or(Error::NoCollection)?.parse()
    }

    /// The id alone.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `devices/{device}`.
    pub fn resource_name(&self) -> String {
        format!("{COLLECTION}{}", self.0)
    }
}

impl FromStr for DeviceId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        let bytes = id.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return Err(Error::Empty);
        };
        if bytes.len() > DEVICE_ID_BYTES_MAX {
            return Err(Error::TooLong(bytes.len()));
        }
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inner = |b: &u8| alphanumeric(b) || matches!(b, b'-' | b'_' | b'.');
        if alphanumeric(first) && alphanumeric(last) && bytes.iter().all(inner) {
            Ok(Self(id.into()))
        } else {
            Err(Error::Character)
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_hosts_are_called() {
        for good in ["a", "7", "node-7", "rack3.node_7", &"x".repeat(63)] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_what_could_leave_a_folder_or_confuse_a_reader() {
        for bad in ["", ".", "..", "a/b", "../x", "-a", "a-", "A", "ä", "a b", "a\0", ".hidden"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
        assert_eq!("x".repeat(64).parse::<DeviceId>(), Err(Error::TooLong(64)));
    }

    #[test]
    fn resource_names_go_both_ways() {
        let id = DeviceId::from_resource_name("devices/node7").unwrap();
        assert_eq!(id.resource_name(), "devices/node7");
        assert_eq!(DeviceId::from_resource_name("node7"), Err(Error::NoCollection));
        assert_eq!(DeviceId::from_resource_name("devices/"), Err(Error::Empty));
    }
}
