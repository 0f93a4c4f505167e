//! What devices may name on this host: networks and folders, by the operator's
//! list. Denies unless allowed. A refusal names the rule that is missing, never
//! whether a file or host exists.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

/// What devices may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Networks that sockets may reach or listen in.
    pub networks: Vec<IpNet>,
    /// Folders, and all below them, in which sockets may be.
    pub folders: Vec<PathBuf>,
}

/// The operator's list does not cover something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// An address.
    #[error("{0} is not in a network that host_interfaces.networks allows")]
    Address(SocketAddr),
    /// Any address.
    #[error("host_interfaces.networks allows no network")]
    AnyAddress,
    /// A path.
    #[error("the path is not in a folder that host_interfaces.folders allows")]
    Path,
}

impl Allow {
    /// Whether a socket may be at `address`.
    pub fn address(&self, address: SocketAddr) -> Result<(), Denied> {
        // ::ffff:10.0.0.1 is 10.0.0.1, whatever it is called.
        let ip = address.ip().to_canonical();
        if self.networks.iter().any(|network| network.contains(&ip)) {
            Ok(())
        } else {
            Err(Denied::Address(address))
        }
    }

    /// Whether any address is allowed, for a name that is looked up later.
    pub fn some_network(&self) -> Result<(), Denied> {
        if self.networks.is_empty() { Err(Denied::AnyAddress) } else { Ok(()) }
    }

    /// Whether a path is in an allowed folder, taking it as it is written.
    pub fn path_as_written(&self, path: &Path) -> Result<(), Denied> {
        let straight = !path.components().any(|c| c == std::path::Component::ParentDir);
        if straight && self.folders.iter().any(|folder| path.starts_with(folder)) {
            Ok(())
        } else {
            Err(Denied::Path)
        }
    }

    /// The path with its folder's symbolic links followed, if that is still in
    /// an allowed folder. Blocks.
    pub fn resolve_parent(&self, path: &Path) -> Result<io::Result<PathBuf>, Denied> {
        self.path_as_written(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Denied::Path);
        };
        let real = match parent.canonicalize() {
            Ok(real) => real,
            Err(error) => return Ok(Err(error)),
        };
        self.real(&real)?;
        Ok(Ok(real.join(name)))
    }

    /// The path with all symbolic links followed, if that is still in an
    /// allowed folder. Blocks.
    pub fn resolve(&self, path: &Path) -> Result<io::Result<PathBuf>, Denied> {
        self.path_as_written(path)?;
        match path.canonicalize() {
            Ok(real) => self.real(&real).map(|()| Ok(real)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn real(&self, real: &Path) -> Result<(), Denied> {
        let inside =
            |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        if self.folders.iter().any(inside) { Ok(()) } else { Err(Denied::Path) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn denies_unless_allowed() {
        let nothing = Allow::default();
        let address = "127.0.0.1:23".parse().unwrap();
        assert_eq!(nothing.address(address), Err(Denied::Address(address)));
        assert_eq!(nothing.some_network(), Err(Denied::AnyAddress));
        assert_eq!(nothing.path_as_written(Path::new("/tmp/x")), Err(Denied::Path));
    }

    #[test]
    fn addresses_are_what_they_mean() {
        let allow = Allow { networks: vec!["127.0.0.0/8".parse().unwrap()], folders: vec![] };
        assert!(allow.address("127.0.0.9:1".parse().unwrap()).is_ok());
        assert!(allow.address("[::ffff:127.0.0.1]:1".parse().unwrap()).is_ok());
        assert!(allow.address("[::ffff:10.0.0.1]:1".parse().unwrap()).is_err());
        assert!(allow.address("0.0.0.0:1".parse().unwrap()).is_err());
    }

    #[test]
    fn symbolic_links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "").unwrap();
        symlink(&outside, inside.join("folder")).unwrap();
        symlink(outside.join("secret"), inside.join("file")).unwrap();
        let allow = Allow { networks: vec![], folders: vec![inside.clone()] };
        assert!(allow.resolve_parent(&inside.join("a.sock")).unwrap().is_ok());
        assert_eq!(allow.resolve_parent(&inside.join("folder/a.sock")).err(), Some(Denied::Path));
        assert_eq!(allow.resolve(&inside.join("file")).err(), Some(Denied::Path));
        assert_eq!(allow.resolve(&inside.join("../out/secret")).err(), Some(Denied::Path));
        // What is not there is an error of its own, told only inside the folder.
        assert!(allow.resolve(&inside.join("missing")).unwrap().is_err());
    }
}
