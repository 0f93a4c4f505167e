//! What devices may name on this host: networks, folders and host devices, by
//! the operator's list. Denies unless allowed. A refusal names the rule that is
//! missing, never whether a file or host exists.
//!
//! A path is checked twice: as it is written when a spec is stored, and where it
//! leads when it is opened. The second check and the opening are one act of the
//! kernel (`beneath`), so nothing can be swapped in between.
//!
//! The server's own files (state, configuration, keys, tokens) are never
//! allowed, whatever folder holds them: a device that could write the journal
//! of another, or the store, would own the server.

use std::{
    ffi::OsStr,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use ipnet::IpNet;
use rustix::fs::OFlags;

use super::{
    beneath::{Found, Kind, Links, Miss, OpenError, Reserved, find, open_root},
    folder::Folder,
    host_device,
};

/// Addresses and ports of them that sockets may reach or listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The addresses.
    pub net: IpNet,
    /// The ports, 0 to 65535. A server that asks for port 0 gets any free one
    /// and so needs 0 to be in here.
    pub ports: RangeInclusive<u16>,
}

impl From<IpNet> for Network {
    /// All ports.
    fn from(net: IpNet) -> Self {
        Self { net, ports: 0..=u16::MAX }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ports {}-{}", self.net, self.ports.start(), self.ports.end())
    }
}

/// What devices may name. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Networks that sockets may reach or listen in.
    pub networks: Vec<Network>,
    /// Folders below which sockets, pipes, files and links to ptys may be.
    pub folders: Vec<PathBuf>,
    /// Host devices, and folders below which they may be.
    pub devices: Vec<PathBuf>,
    /// Where output that belongs to a domain is logged.
    pub domain_logs: Option<PathBuf>,
    /// The server's own files and folders. They win over what is allowed above
    /// them; a folder that is allowed below them wins over them.
    pub reserved: Vec<PathBuf>,
}

/// The operator's list does not cover something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// An address.
    #[error("host_interfaces.networks allows no network that holds {0}")]
    Address(SocketAddr),
    /// Any address.
    #[error("host_interfaces.networks allows no network")]
    AnyAddress,
    /// A path.
    #[error("host_interfaces.folders allows no folder that holds the path")]
    Path,
    /// A host device.
    #[error("host_interfaces.devices allows no device or folder that the path is in")]
    Device,
    /// Domain logs.
    #[error("host_interfaces.domain_logs names no folder for domain logs")]
    DomainLogs,
    /// Our own files.
    #[error("host_interfaces.folders never covers the server's own files")]
    Reserved,
}

impl Denied {
    /// The key of the configuration that would allow it.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::AnyAddress => "host_interfaces.networks",
            Self::Path | Self::Reserved => "host_interfaces.folders",
            Self::Device => "host_interfaces.devices",
            Self::DomainLogs => "host_interfaces.domain_logs",
        }
    }
}

impl Allow {
    /// Whether a socket may be at `address`.
    pub fn address(&self, address: SocketAddr) -> Result<(), Denied> {
        let denied = || Denied::Address(address);
        // ::ffff:10.0.0.1 is 10.0.0.1, whatever it is called.
        let ip = address.ip().to_canonical();
        let allowed = if ip.is_unspecified() {
            // Every address of this host; for `::`, of both families.
            let all = |ip: IpAddr| {
                self.covers(address.port(), |net| net.prefix_len() == 0 && net.contains(&ip))
            };
            all(ip) && (ip.is_ipv4() || all(Ipv4Addr::UNSPECIFIED.into()))
        } else {
            self.covers(address.port(), |net| net.contains(&ip))
        };
        if allowed { Ok(()) } else { Err(denied()) }
    }

    fn covers(&self, port: u16, holds: impl Fn(&IpNet) -> bool) -> bool {
        self.networks.iter().any(|network| network.ports.contains(&port) && holds(&network.net))
    }

    /// Whether datagrams from `ip` may be heard. Its port is whatever the sender
    /// was given and says nothing, so ports in the list do not count.
    pub fn sender(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.net.contains(&ip))
    }

    /// Whether any address is allowed, for a name that is looked up later.
    pub fn some_network(&self) -> Result<(), Denied> {
        if self.networks.is_empty() { Err(Denied::AnyAddress) } else { Ok(()) }
    }

    /// Whether a path is below an allowed folder, taking it as it is written.
    pub fn path_as_written(&self, path: &Path) -> Result<(), Denied> {
        self.folders_above(path).map(drop)
    }

    /// Whether a host device is in the list, taking its path as it is written.
    pub fn device_as_written(&self, path: &Path) -> Result<(), Denied> {
        if self.lists_device(path) { Ok(()) } else { Err(Denied::Device) }
    }

    pub(super) fn lists_device(&self, path: &Path) -> bool {
        self.devices_above(path).next().is_some()
    }

    /// The entries of the list that are a path or hold it.
    pub(super) fn devices_above(&self, path: &Path) -> impl Iterator<Item = &Path> {
        let straight = is_straight(path);
        let entries = self.devices.iter().map(PathBuf::as_path);
        entries.filter(move |entry| straight && path.starts_with(entry) && !self.hides(entry, path))
    }

    /// Whether one of our own files stands between a folder and a path.
    fn hides(&self, folder: &Path, path: &Path) -> bool {
        self.reserved.iter().any(|own| path.starts_with(own) && own.starts_with(folder))
    }

    /// Whether links below a folder are followed. Where our own files are, they
    /// are not, or an error at the end of one would tell what is among them.
    pub(super) fn links_below(&self, folder: &Path) -> Links {
        let holds = |folder: &Path| {
            self.reserved.iter().any(|own| {
                own.starts_with(folder)
                    || own.canonicalize().is_ok_and(|own| own.starts_with(folder))
            })
        };
        if holds(folder) || folder.canonicalize().is_ok_and(|folder| holds(&folder)) {
            Links::Refused
        } else {
            Links::Beneath
        }
    }

    /// The folder for domain logs.
    pub fn domain_logs(&self) -> Result<&Path, Denied> {
        self.domain_logs.as_deref().ok_or(Denied::DomainLogs)
    }

    /// The allowed folders that hold a path, the nearest first; never none.
    fn folders_above(&self, path: &Path) -> Result<Vec<&Path>, Denied> {
        if !is_straight(path) {
            return Err(Denied::Path);
        }
        let holds = |folder: &&Path| path.starts_with(folder) && path != *folder;
        let mut folders: Vec<_> = self.folders.iter().map(PathBuf::as_path).filter(holds).collect();
        if folders.is_empty() {
            return Err(Denied::Path);
        }
        folders.retain(|folder| !self.hides(folder, path));
        if folders.is_empty() {
            return Err(Denied::Reserved);
        }
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.as_os_str().len()));
        Ok(folders)
    }

    /// The folder that holds a path, held by a descriptor: everything that is
    /// done through it is done there, whatever is renamed meanwhile. Links on
    /// the way are followed while they stay below the allowed folder; not at
    /// all if that holds files of the server's own. Blocks.
    pub fn open_folder(&self, path: &Path) -> Result<Folder, OpenError> {
        let name = path.file_name().ok_or(Denied::Path)?;
        self.below(path, |root, relative, links| {
            let parent = relative.parent().unwrap_or(Path::new(""));
            let fd = find(root, parent, OFlags::DIRECTORY, links)?;
            let reserved = Reserved::look(&self.reserved);
            if reserved.on_the_way(&fd, root).map_err(Miss::Failed)? {
                return Ok(Err(Denied::Reserved));
            }
            Ok(Ok(Folder::new(fd, name.to_owned(), path.to_owned(), reserved)))
        })
    }

    /// The socket at a path, to connect to. It may be a link, as those on the
    /// way may. Blocks.
    pub fn open_socket(&self, path: &Path) -> Result<SocketFile, OpenError> {
        let found = self.below(path, |root, relative, links| {
            let found = find(root, relative, OFlags::empty(), links)?;
            Found::new(found).map(Ok).map_err(Miss::Failed)
        })?;
        let kind = found.kind();
        if kind != Kind::Socket {
            let path = path.to_owned();
            return Err(OpenError::Kind { path, found: kind, wanted: Kind::Socket });
        }
        Ok(SocketFile(found))
    }

    /// The folder for domain logs, to open the log `name` in. Blocks.
    pub fn open_domain_logs(&self, name: &OsStr) -> Result<Folder, OpenError> {
        let logs = self.domain_logs()?;
        let path = logs.join(name);
        // A name that is a path would leave the folder.
        if path.parent() != Some(logs) || path.file_name() != Some(name) {
            return Err(Denied::DomainLogs.into());
        }
        let fd = open_root(logs).map_err(|miss| miss.told(&path, Denied::DomainLogs))?;
        Ok(Folder::new(fd, name.to_owned(), path, Reserved::look(&self.reserved)))
    }

    /// Opens a host device; `flags` say for reading, writing or both. Links in
    /// the path are followed: to what the list names, and to a terminal below
    /// `/dev`. The device never becomes our terminal, and never makes us wait
    /// (it is opened with `O_NOCTTY` and `O_NONBLOCK`). Blocks.
    pub fn open_device(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
        self.device_as_written(path)?;
        host_device::open(self, path, flags)
    }

    /// Does something below the nearest allowed folder that the path does not
    /// lead out of.
    fn below<T>(
        &self,
        path: &Path,
        mut with: impl FnMut(&OwnedFd, &Path, Links) -> Result<Result<T, Denied>, Miss>,
    ) -> Result<T, OpenError> {
        for folder in self.folders_above(path)? {
            let relative = path.strip_prefix(folder).map_err(|_| Denied::Path)?;
            match open_root(folder).and_then(|root| with(&root, relative, self.links_below(folder)))
            {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(denied)) => return Err(denied.into()),
                Err(Miss::LeadsOut) => {}
                Err(miss) => return Err(miss.told(path, Denied::Path)),
            }
        }
        Err(Denied::Path.into())
    }
}

/// Absolute, and without `..`, which means something else where links are.
fn is_straight(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// A socket file that was found, to connect to.
#[derive(Debug)]
pub struct SocketFile(Found);

impl SocketFile {
    /// The path to connect to: leads to this very file for as long as this
    /// lives, and always fits into a socket address.
    pub fn address(&self) -> PathBuf {
        self.0.pinned()
    }
}

#[cfg(test)]
mod tests;
