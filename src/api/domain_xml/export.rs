//! ExportDomainXml: devices to character devices of a document.

use super::{
    guest::{self, Guest},
    import::host_side,
};
use crate::{
    api::{Api, authorize::device_id, convert::DOMAIN_LABEL, status::Error},
    auth::Action,
    device::{
        Endpoint, Fault, HostInterface, Protocol, ReconnectPolicy, ReconnectSpec, Switch, TcpSpec,
        UdpSpec,
    },
    fleet::Entry,
    libvirt::{
        self, CharDevice, Flavour, Mode, OsType, Reconnect, Source, Style, Target, UdpBind,
        UdpSource, UnixSource,
    },
    limits,
    pb::{self, export_domain_xml_request as request},
};

/// Writes devices.
pub(in crate::api) fn serve(
    api: &Api,
    extensions: &http::Extensions,
    asked: &pb::ExportDomainXmlRequest,
) -> Result<pb::ExportDomainXmlResponse, Error> {
    let caller = api.authorize(extensions, Action::List, None)?;
    let flavour = match request::Flavor::try_from(asked.flavor) {
        Ok(request::Flavor::Unspecified | request::Flavor::Stored) => Flavour::Stored,
        Ok(request::Flavor::Live) => Flavour::Live,
        Err(_) => {
            let problem = format!("{} is not a value that this server knows", asked.flavor);
            return Err(Error::Fields(vec![Fault::new("flavor", problem)]));
        }
    };
    let fleet = &api.inner.fleet;
    let mut entries = match &asked.what {
        Some(request::What::Device(name)) => {
            let id = device_id("device", name)?;
            api.may(&caller, Action::Get, Some(&id))?;
            vec![fleet.get(&id).map_err(|error| Error::Fleet(error, id))?]
        }
        Some(request::What::Domain(domain)) if !domain.is_empty() => {
            fleet.list(None, limits::DEVICES_MAX, |entry| belongs(entry, domain))
        }
        _ => {
            let problem = "must be given, or else `device`";
            return Err(Error::Fields(vec![Fault::new("domain", problem)]));
        }
    };
    if entries.is_empty() {
        return Err(Error::DomainNotFound);
    }
    // Those that were not imported come last, in the order of names.
    let place = |entry: &Entry| entry.device.spec.libvirt.as_ref().map_or(u32::MAX, |l| l.index);
    entries.sort_by_key(place);
    let first = entries.first().and_then(|entry| entry.device.spec.libvirt.as_ref());
    let os_type = first.and_then(guest::os_type).unwrap_or(OsType::Hvm);
    let (mut devices, mirrors): (Vec<_>, Vec<_>) = entries.iter().map(char_device).unzip();
    // The first console, as libvirt counts them.
    devices.splice(0..0, mirrors.into_iter().flatten().take(1));
    let settled = libvirt::settle(devices, os_type).map_err(|faults| {
        let told = faults.into_iter().map(|fault| Fault::new("domain", fault.to_string()));
        Error::Fields(told.collect())
    })?;
    Ok(pb::ExportDomainXmlResponse { xml: libvirt::write(&settled, Style::Indented, flavour) })
}

fn belongs(entry: &Entry, domain: &str) -> bool {
    match &entry.device.spec.libvirt {
        Some(libvirt) => libvirt.domain == domain,
        None => entry.device.labels.get(DOMAIN_LABEL).is_some_and(|label| label == domain),
    }
}

/// A device with the guest's side that it came with, or a serial's, and the
/// console that mirrors it if that must be said.
fn char_device(entry: &Entry) -> (CharDevice, Option<CharDevice>) {
    let spec = &entry.device.spec;
    let libvirt = spec.libvirt.as_ref();
    let guest = libvirt.and_then(|libvirt| guest::from_text(&libvirt.guest).ok());
    let Guest { mut device, mirror } = guest.unwrap_or_else(|| {
        let serial = Target::Serial { kind: None, model: None, port: None };
        Guest { device: CharDevice::new(Source::Null, serial), mirror: None }
    });
    // A source that still means what the spec says stays as it was written:
    // libvirt has several ways to say the same.
    if !means(&device, &spec.host_interface, &spec.reconnect) {
        device.source = source(&spec.host_interface, &spec.reconnect);
    }
    if let Source::Pty { path } = &mut device.source {
        *path = entry.line.status().link.pty_path;
    }
    device.log = spec.log.as_ref().map(|log| libvirt::Log {
        file: log.file.to_string_lossy().into_owned(),
        append: said(log.append),
    });
    (device, mirror)
}

fn means(device: &CharDevice, host_interface: &HostInterface, reconnect: &ReconnectSpec) -> bool {
    let (domain, credentials) = match host_interface {
        HostInterface::Stdio(stdio) => (stdio.domain.as_str(), ""),
        HostInterface::Tcp(tcp) => ("", tcp.credentials.as_deref().unwrap_or_default()),
        HostInterface::Null {}
        | HostInterface::File(_)
        | HostInterface::Pty(_)
        | HostInterface::Dev(_)
        | HostInterface::Pipe(_)
        | HostInterface::Udp(_)
        | HostInterface::Unix(_) => ("", ""),
    };
    host_side(device, domain, credentials)
        .is_ok_and(|(host, re)| host == *host_interface && re == *reconnect)
}

fn source(host_interface: &HostInterface, reconnect: &ReconnectSpec) -> Source {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match host_interface {
        HostInterface::Null {} => Source::Null,
        HostInterface::Stdio(_) => Source::Stdio,
        HostInterface::File(file) => {
            Source::File { path: text(&file.path), append: said(file.append) }
        }
        HostInterface::Pty(_) => Source::Pty { path: None },
        HostInterface::Dev(dev) => Source::Dev { path: text(&dev.path) },
        HostInterface::Pipe(pipe) => Source::Pipe { path: text(&pipe.path) },
        HostInterface::Tcp(tcp) => Source::Tcp(tcp_source(tcp, reconnect)),
        HostInterface::Udp(udp) => Source::Udp(udp_source(udp)),
        HostInterface::Unix(unix) => Source::Unix(Some(UnixSource {
            mode: mode(unix.mode),
            path: text(&unix.path),
            reconnect: reconnect_of(unix.mode, reconnect),
        })),
    }
}

fn tcp_source(tcp: &TcpSpec, reconnect: &ReconnectSpec) -> libvirt::TcpSource {
    libvirt::TcpSource {
        mode: mode(tcp.mode),
        host: tcp.host.clone(),
        service: tcp.port.to_string(),
        tls: said(tcp.tls),
        reconnect: reconnect_of(tcp.mode, reconnect),
        protocol: match tcp.protocol {
            Protocol::Raw => libvirt::Protocol::Raw,
            Protocol::Telnet => libvirt::Protocol::Telnet,
            Protocol::Telnets => libvirt::Protocol::Telnets,
            Protocol::Tls => libvirt::Protocol::Tls,
        },
    }
}

/// libvirt has no word for a socket that only hears; its peer is then port 0.
fn udp_source(udp: &UdpSpec) -> UdpSource {
    let host = |host: &String| Some(host.clone()).filter(|host| !host.is_empty());
    UdpSource {
        host: udp.connect.as_ref().and_then(|peer| host(&peer.host)),
        service: udp.connect.as_ref().map_or(0, |peer| peer.port).to_string(),
        bind: udp.bind.as_ref().map(|bind| UdpBind {
            host: host(&bind.host),
            service: Some(bind.port).filter(|port| *port != 0).map(|port| port.to_string()),
        }),
    }
}

fn mode(endpoint: Endpoint) -> Mode {
    match endpoint {
        Endpoint::Connect => Mode::Connect,
        Endpoint::Bind => Mode::Bind,
    }
}

fn said(switch: Switch) -> Option<bool> {
    match switch {
        Switch::Unsaid => None,
        Switch::On => Some(true),
        Switch::Off => Some(false),
    }
}

/// libvirt has none where the far side connects.
fn reconnect_of(mode: Endpoint, reconnect: &ReconnectSpec) -> Option<Reconnect> {
    match (mode, reconnect.policy) {
        (Endpoint::Bind, _) | (_, ReconnectPolicy::Backoff) => None,
        (Endpoint::Connect, ReconnectPolicy::Never) => Some(Reconnect::No),
        (Endpoint::Connect, ReconnectPolicy::Interval) => {
            let seconds = reconnect.min_delay().as_secs();
            Some(Reconnect::Every { timeout_seconds: u32::try_from(seconds).unwrap_or(u32::MAX) })
        }
    }
}
