//! The section `[host_interfaces]`: what devices may name. Each fault is told
//! with its place, all at once; nothing is guessed, because this list is what a
//! security team signs off.

use std::{
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
};

use ipnet::IpNet;
use serde::Deserialize;
use toml::Value;

use crate::backend::{Allow, Network};

/// Folders in the state folder that devices may use.
const OPEN_STATE_FOLDERS: [&str; 2] = ["files", "sockets"];
/// Folder in the state folder for domain logs.
const DOMAIN_LOGS: &str = "domains";

/// As it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    networks: Vec<Value>,
    #[serde(default)]
    folders: Vec<PathBuf>,
    #[serde(default)]
    devices: Vec<PathBuf>,
    domain_logs: Option<PathBuf>,
}

impl Section {
    /// What it allows, but for the server's own files.
    pub(super) fn check(
        self,
        state_dir: &Path,
        reserved: Vec<PathBuf>,
        problems: &mut Vec<String>,
    ) -> Allow {
        let mut networks = Vec::new();
        for (at, value) in self.networks.iter().enumerate() {
            match network(value) {
                Ok(network) => networks.push(network),
                Err(faults) => problems.extend(
                    faults.iter().map(|fault| format!("host_interfaces.networks[{at}]{fault}")),
                ),
            }
        }
        let mut check = |key: String, path: &Path, open: &[&str]| {
            if let Some(fault) = path_fault(path, state_dir, open) {
                problems.push(format!("host_interfaces.{key}: {fault}"));
            }
        };
        for (at, folder) in self.folders.iter().enumerate() {
            check(format!("folders[{at}]"), folder, &OPEN_STATE_FOLDERS);
        }
        for (at, entry) in self.devices.iter().enumerate() {
            check(format!("devices[{at}]"), entry, &OPEN_STATE_FOLDERS);
        }
        if let Some(folder) = &self.domain_logs {
            check("domain_logs".to_owned(), folder, &[DOMAIN_LOGS]);
        }
        Allow {
            networks,
            folders: self.folders,
            devices: self.devices,
            domain_logs: self.domain_logs,
            reserved,
        }
    }
}

/// What devices may name in development mode: what is on this machine, or in
/// the temporary folder, or in the folders of the state folder that are made
/// for it. The rest of the state folder (store, journals, keys, notes) never.
pub(super) fn development(state_dir: &Path) -> Allow {
    let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<IpNet>().ok());
    let mut folders: Vec<_> = OPEN_STATE_FOLDERS.map(|folder| state_dir.join(folder)).into();
    folders.push(std::env::temp_dir());
    Allow {
        networks: loopback.map(Network::from).collect(),
        devices: folders.clone(),
        folders,
        domain_logs: Some(state_dir.join(DOMAIN_LOGS)),
        reserved: vec![state_dir.to_owned()],
    }
}

fn path_fault(path: &Path, state_dir: &Path, open: &[&str]) -> Option<String> {
    if !path.is_absolute() {
        Some("must be absolute".to_owned())
    } else if path.components().any(|part| part == Component::ParentDir) {
        Some("must not contain '..'".to_owned())
    } else if path.parent().is_none() {
        Some("must not be '/', which is everything".to_owned())
    } else {
        // By name, and by where it leads.
        let within = |path: &Path, state_dir: &Path| {
            let inner = path.strip_prefix(state_dir).ok()?;
            Some(!open.iter().any(|folder| inner.starts_with(folder)))
        };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let wrong = within(path, state_dir).or_else(|| within(&real(path), &real(state_dir)));
        (wrong == Some(true))
            .then(|| format!("must not be in state_dir, except in its {}", open.join(" or ")))
    }
}

/// A network, or what is wrong with it, each with the rest of its place.
fn network(value: &Value) -> Result<Network, Vec<String>> {
    let shape = "must be a network such as \"10.20.0.0/16\", \
                 or {net = \"10.20.0.0/16\", ports = \"1024-65535\"}";
    match value {
        Value::String(net) => {
            Ok(parse_net(net).map_err(|fault| vec![format!(": {fault}")])?.into())
        }
        Value::Table(table) => {
            let mut faults: Vec<_> = table
                .keys()
                .filter(|key| !["net", "ports"].contains(&key.as_str()))
                .map(|key| format!(": unknown key {key:?}, {shape}"))
                .collect();
            let net = match table.get("net") {
                Some(Value::String(net)) => parse_net(net),
                _ => Err("must be a network such as \"10.20.0.0/16\"".to_owned()),
            };
            let ports = match table.get("ports") {
                None => Ok(0..=u16::MAX),
                Some(Value::String(ports)) => parse_ports(ports),
                Some(_) => Err(PORTS.to_owned()),
            };
            faults.extend(net.as_ref().err().map(|fault| format!(".net: {fault}")));
            faults.extend(ports.as_ref().err().map(|fault| format!(".ports: {fault}")));
            match (net, ports) {
                (Ok(net), Ok(ports)) if faults.is_empty() => Ok(Network { net, ports }),
                _ => Err(faults),
            }
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => Err(vec![format!(": {shape}")]),
    }
}

fn parse_net(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| {
        format!("{text:?} is not a network: write ADDRESS/BITS, such as \"10.20.0.0/16\"")
    })?;
    if net.trunc() != net {
        return Err(format!(
            "{text:?} has an address beyond its bits: did you mean {}?",
            net.trunc()
        ));
    }
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(format!("{text:?} is IPv4 in disguise and never matches: write it as IPv4"));
    }
    Ok(net)
}

const PORTS: &str = "must be a port or a range of them, such as \"23\" or \"1024-65535\"";

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| {
        let digits =
            (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(PORTS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<Allow, Vec<String>> {
        let section: Section = toml::from_str(text).unwrap();
        let mut problems = Vec::new();
        let allow = section.check(Path::new("/var/lib/lineman"), vec![], &mut problems);
        if problems.is_empty() { Ok(allow) } else { Err(problems) }
    }

    #[test]
    fn nothing_is_allowed_by_saying_nothing() {
        assert_eq!(check("").unwrap(), Allow::default());
    }

    #[test]
    fn everything_that_can_be_said() {
        let allow = check(
            r#"
            networks = ["10.20.0.0/16", {net = "192.0.2.0/24", ports = "1024-65535"},
                        {net = "::1/128", ports = "23"}, {net = "fd00::/8"}]
            folders = ["/run/lineman", "/var/lib/lineman/sockets", "/var/lib"]
            devices = ["/dev/serial/by-id", "/dev/ttyUSB0"]
            domain_logs = "/var/log/lineman/domains"
            "#,
        )
        .unwrap();
        let ports: Vec<_> = allow.networks.iter().map(|network| network.ports.clone()).collect();
        assert_eq!(ports, [0..=65535, 1024..=65535, 23..=23, 0..=65535]);
        assert_eq!((allow.folders.len(), allow.devices.len()), (3, 2));
        assert_eq!(allow.domain_logs(), Ok(Path::new("/var/log/lineman/domains")));
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_place() {
        let problems = check(
            r#"
            networks = ["10.20.0.1/16", "ten", 7, {net = "::1/128", ports = "9-1", port = "1"},
                        {ports = "65536"}, "::ffff:10.0.0.0/104", {net = "10.0.0.0/8", ports = 23}]
            folders = ["run", "/run/../etc", "/", "/var/lib/lineman/journal", "/var/lib/lineman"]
            devices = ["ttyUSB0", "/dev/../etc"]
            domain_logs = "/var/lib/lineman/dev"
            "#,
        )
        .unwrap_err();
        let told = problems.join("\n");
        for fault in [
            "networks[0]: \"10.20.0.1/16\" has an address beyond its bits: did you mean 10.20.0.0/16?",
            "networks[1]: \"ten\" is not a network",
            "networks[2]: must be a network such as",
            "networks[3]: unknown key \"port\"",
            "networks[3].ports: must be a port or a range",
            "networks[4].net: must be a network",
            "networks[4].ports: must be a port",
            "networks[5]: \"::ffff:10.0.0.0/104\" is IPv4 in disguise",
            "networks[6].ports: must be a port",
            "folders[0]: must be absolute",
            "folders[1]: must not contain '..'",
            "folders[2]: must not be '/'",
            "folders[3]: must not be in state_dir, except in its files or sockets",
            "folders[4]: must not be in state_dir",
            "devices[0]: must be absolute",
            "devices[1]: must not contain '..'",
            "domain_logs: must not be in state_dir, except in its domains",
        ] {
            assert!(told.contains(&format!("host_interfaces.{fault}")), "{fault} in\n{told}");
        }
        assert_eq!(problems.len(), 17, "{told}");
    }

    #[test]
    fn a_link_into_the_state_folder_is_in_the_state_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (state, link) = (dir.path().join("state"), dir.path().join("link"));
        std::fs::create_dir_all(state.join("journal")).unwrap();
        std::os::unix::fs::symlink(&state, &link).unwrap();
        assert!(path_fault(&link.join("journal"), &state, &["files"]).is_some());
        assert!(path_fault(&state.join("journal"), &link, &["files"]).is_some());
        assert!(path_fault(&link.join("files"), &state, &["files"]).is_none());
    }

    #[test]
    fn development_mode_covers_no_file_of_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let allow = development(&state);
        for own in
            ["devices.redb", "dev/ca.key", "journal/a@0/x.log", "notes/1", "new", "domains/x"]
        {
            assert!(allow.path_as_written(&state.join(own)).is_err(), "{own}");
        }
        for open in ["sockets/a", "files/a/b", "../x"] {
            let path = state.join(open);
            let path = if open.starts_with("..") { dir.path().join("x") } else { path };
            assert!(allow.path_as_written(&path).is_ok(), "{open}");
        }
        assert!(allow.address("[::1]:1".parse().unwrap()).is_ok());
        assert!(allow.address("0.0.0.0:1".parse().unwrap()).is_err());
        assert!(allow.device_as_written(Path::new("/dev/ttyS0")).is_err());
    }

    proptest! {
        #[test]
        fn ports_are_read_as_written(a: u16, b: u16) {
            let (first, last) = (a.min(b), a.max(b));
            prop_assert_eq!(parse_ports(&format!("{first}-{last}")), Ok(first..=last));
            prop_assert_eq!(parse_ports(&first.to_string()), Ok(first..=first));
            if first < last {
                let backwards = format!("{last}-{first}");
                prop_assert!(parse_ports(&backwards).is_err());
            }
        }

        #[test]
        fn what_is_no_port_is_refused(text in "[^0-9]*|[0-9]{6,}|[0-9]{1,3}[ +-]+|-[0-9]*") {
            prop_assert!(parse_ports(&text).is_err());
        }
    }
}
