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
        let within = path.strip_prefix(state_dir).ok()?;
        let fine = open.iter().any(|folder| within.starts_with(folder));
        (!fine).then(|| format!("must not be in state_dir, except in its {}", open.join(" or ")))
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
        _ => Err(vec![format!(": {shape}")]),
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
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(PORTS.to_owned()),
    }
}
