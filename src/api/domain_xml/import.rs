//! ImportDomainXml: character devices of a document to new devices.

use std::{collections::BTreeMap, time::Duration};

use super::guest::{self, Guest};
use crate::{
    api::{Api, convert, convert::DOMAIN_LABEL, status::Error},
    auth::Action,
    device::{
        self, DevKind, DevSpec, DeviceSpec, Endpoint, Fault, FileSpec, HostInterface, InputSpec,
        JournalSpec, Labels, LibvirtSpec, LogSpec, PipeSpec, Protocol, PtySpec, ReconnectPolicy,
        ReconnectSpec, RunState, SinglePipe, StdioSpec, Switch, TcpSpec, UdpEndpoint, UdpFormat,
        UdpSpec, UnixSpec,
    },
    fleet::{CreateFailed, NewDevice},
    libvirt::{
        self, ChannelTarget, CharDevice, Element, Mode, Position, Reconnect, Role, Source, Support,
        Target,
    },
    limits,
    name::DeviceId,
    pb,
};

/// Makes the devices of a document.
pub(in crate::api) async fn serve(
    api: &Api,
    extensions: &http::Extensions,
    request: pb::ImportDomainXmlRequest,
) -> Result<pb::ImportDomainXmlResponse, Error> {
    let caller = api.authorize(extensions, Action::Create, None)?;
    let (os_type, found) = read(&request)?;
    let domain =
        if request.domain.is_empty() { found.name.clone() } else { Some(request.domain.clone()) };
    let Some(domain) = domain else {
        let problem = "must be given: the XML has no <name>";
        return Err(Error::Fields(vec![Fault::new("domain", problem)]));
    };
    check(&domain, &request)?;
    let must_say_mirror = found.must_say_mirror();
    let import = Import { domain, os_type, must_say_mirror, request: &request };
    let (mut new, mut faults) = (Vec::new(), Vec::new());
    let mut count = BTreeMap::new();
    for (at, device) in found.devices.iter().filter(|d| d.role == Role::Device).enumerate() {
        let place: &mut u32 = count.entry(device.element().as_str()).or_default();
        let id = import.id(device.element(), *place)?;
        match import.device(device, id, at, *place) {
            Ok(device) => new.push(device),
            Err(problems) => faults.extend(problems),
        }
        *place += 1;
    }
    if new.is_empty() && faults.is_empty() {
        let problem = "there is no console, serial, parallel or channel";
        faults.push(Fault::new("xml", problem));
    }
    if !faults.is_empty() {
        return Err(Error::Xml(faults));
    }
    for new in &new {
        api.may(&caller, Action::Create, Some(&new.id))?;
    }
    let ids: Vec<DeviceId> = new.iter().map(|new| new.id.clone()).collect();
    let failed = |failed: CreateFailed| Some((ids.get(failed.at)?.clone(), failed.error));
    let fleet = &api.inner.fleet;
    let refused: Vec<_> = fleet.check_create_all(&new).into_iter().filter_map(failed).collect();
    if !refused.is_empty() {
        return Err(Error::NotMade(refused));
    }
    let devices = if request.validate_only {
        new.into_iter().map(convert::preview).collect()
    } else {
        // Somebody may have been faster since.
        let made = fleet.create_all(new).await;
        let made = made.map_err(|error| Error::NotMade(failed(error).into_iter().collect()))?;
        made.iter().map(convert::device).collect()
    };
    Ok(pb::ImportDomainXmlResponse { devices })
}

/// What is the request's fault and not the document's is told by its field, and
/// once, not for each device.
fn check(domain: &str, request: &pb::ImportDomainXmlRequest) -> Result<(), Error> {
    let mut faults = Vec::new();
    let most = limits::DOMAIN_NAME_BYTES_MAX;
    if domain.len() > most || domain.chars().any(char::is_control) {
        let problem = format!("must be 1 to {most} bytes without control characters");
        faults.push(Fault::new("domain", problem));
    } else if !domain.chars().any(|c| c.is_ascii_alphanumeric()) {
        let problem = "must have a letter of a to z or a digit, for the names of the devices; \
                       give another one";
        faults.push(Fault::new("domain", problem));
    }
    device::check_labels(&request.labels, &mut faults);
    let most = limits::CREDENTIALS_NAME_BYTES_MAX;
    if request.credentials.len() > most {
        faults.push(Fault::new("credentials", format!("must be at most {most} bytes")));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Fields(faults)) }
}

fn read(request: &pb::ImportDomainXmlRequest) -> Result<(String, libvirt::Domain), Error> {
    let domain = libvirt::parse(request.xml.as_bytes()).map_err(|faults| {
        let told = faults.into_iter().map(|fault| {
            Fault::new(
                place(fault.line, fault.column),
                format!("{}: {}", fault.class, fault.message),
            )
        });
        Error::Xml(told.collect())
    })?;
    Ok((domain.os_type.as_str().to_owned(), domain))
}

fn place(line: u32, column: u32) -> String {
    format!("xml:{line}:{column}")
}

struct Import<'r> {
    domain: String,
    os_type: String,
    must_say_mirror: bool,
    request: &'r pb::ImportDomainXmlRequest,
}

impl Import<'_> {
    /// One device: the `at`th of the domain, the `place`th of its element.
    fn device(
        &self,
        device: &CharDevice,
        id: DeviceId,
        at: usize,
        place: u32,
    ) -> Result<NewDevice, Vec<Fault>> {
        let Position { line, column } = device.position;
        let fault = |problem: String| Fault::new(self::place(line, column), problem);
        let (host_interface, reconnect) =
            host_side(device, &self.domain, &self.request.credentials)
                .map_err(|problem| vec![fault(problem)])?;
        let labels = self.labels(device);
        let is_first_serial = device.element() == Element::Serial && place == 0;
        let mirror = (self.must_say_mirror && is_first_serial).then(guest::mirror);
        let guest = Guest { device: device.clone(), mirror };
        let spec = DeviceSpec {
            description: String::new(),
            run_state: RunState::Running,
            host_interface,
            journal: JournalSpec::default(),
            input: InputSpec::default(),
            reconnect,
            log: device
                .log
                .as_ref()
                .map(|log| LogSpec { file: log.file.as_str().into(), append: switch(log.append) }),
            libvirt: Some(LibvirtSpec {
                domain: self.domain.clone(),
                os_type: self.os_type.clone(),
                index: u32::try_from(at).unwrap_or(u32::MAX),
                guest: guest::to_text(&guest),
            }),
        };
        let faults = device::validate(&spec, &labels);
        if !faults.is_empty() {
            let told = |f: Fault| fault(format!("{}: {}", f.field, f.problem));
            return Err(faults.into_iter().map(told).collect());
        }
        Ok(NewDevice { id, labels, spec, request_id: String::new() })
    }

    /// The domain's name as far as a device's name can have it, the element and
    /// its place.
    fn id(&self, element: Element, place: u32) -> Result<DeviceId, Error> {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
            _ => '-',
        };
        let domain: String = self.domain.chars().map(plain).collect();
        let domain = domain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let id = format!("{domain}-{}{place}", element.as_str());
        id.parse().map_err(|error: crate::name::Error| {
            let problem = format!("makes {id:?} the name of a device, which {error}; give another");
            Error::Fields(vec![Fault::new("domain", problem)])
        })
    }

    fn labels(&self, device: &CharDevice) -> Labels {
        let mut labels = self.request.labels.clone();
        let mut put = |key: &str, value: String| drop(labels.insert(key.to_owned(), value));
        put(DOMAIN_LABEL, self.domain.clone());
        put("element", device.element().as_str().to_owned());
        let (kind, port, name) = match &device.target {
            Target::Serial { kind, port, .. } => (kind.map(|kind| kind.as_str()), *port, None),
            Target::Parallel { port } => (None, *port, None),
            Target::Console { kind, port } => (kind.map(|kind| kind.as_str()), *port, None),
            Target::Channel(target) => match target {
                ChannelTarget::None => (None, None, None),
                ChannelTarget::Virtio { name, .. } => (Some("virtio"), None, name.clone()),
                ChannelTarget::Xen { name } => (Some("xen"), None, name.clone()),
                ChannelTarget::Guestfwd { address, port } => {
                    (Some("guestfwd"), Some(i32::from(*port)), Some(address.to_string()))
                }
            },
        };
        let said = [
            ("target-type", kind.map(str::to_owned)),
            ("port", port.map(|port| port.to_string())),
            ("target-name", name),
            ("alias", device.alias.clone()),
        ];
        for (key, value) in said {
            if let Some(value) = value {
                put(key, value);
            }
        }
        labels
    }
}

/// The host's side, or why there can be none.
pub(super) fn host_side(
    device: &CharDevice,
    domain: &str,
    credentials: &str,
) -> Result<(HostInterface, ReconnectSpec), String> {
    let kind = device.interface();
    let never = || {
        format!(
            "type-unsupported: {} is not served here: its far side is not on a host",
            kind.as_str()
        )
    };
    match kind.support() {
        Support::Served => {}
        Support::NotYet => {
            return Err(format!("type-unsupported: {} is not served yet", kind.as_str()));
        }
        Support::Never => return Err(never()),
    }
    let mut reconnect = ReconnectSpec::default();
    let host_interface = match &device.source {
        Source::Null => HostInterface::Null {},
        Source::Stdio => HostInterface::Stdio(StdioSpec { domain: domain.to_owned() }),
        Source::File { path, append } => {
            HostInterface::File(FileSpec { path: path.as_str().into(), append: switch(*append) })
        }
        Source::Pty { .. } => HostInterface::Pty(PtySpec::default()),
        Source::Dev { path } => HostInterface::Dev(DevSpec {
            path: path.as_str().into(),
            kind: match device.element() {
                Element::Parallel => DevKind::Parallel,
                Element::Serial | Element::Console | Element::Channel => DevKind::Serial,
            },
            line_settings: None,
            hangup_on_close: Switch::Unsaid,
        }),
        Source::Pipe { path } => HostInterface::Pipe(PipeSpec {
            path: path.as_str().into(),
            create: Switch::Unsaid,
            single: SinglePipe::default(),
        }),
        Source::Tcp(tcp) => {
            reconnect = reconnect_spec(tcp.reconnect)?;
            HostInterface::Tcp(tcp_spec(tcp, credentials)?)
        }
        Source::Udp(udp) => HostInterface::Udp(UdpSpec {
            connect: Some(UdpEndpoint {
                host: udp.host.clone().unwrap_or_default(),
                port: port(&udp.service)?,
            }),
            bind: match &udp.bind {
                Some(bind) => Some(UdpEndpoint {
                    host: bind.host.clone().unwrap_or_default(),
                    port: bind.service.as_deref().map_or(Ok(0), port)?,
                }),
                None => None,
            },
            format: UdpFormat::Raw,
        }),
        Source::Unix(Some(unix)) => {
            reconnect = reconnect_spec(unix.reconnect)?;
            HostInterface::Unix(UnixSpec {
                mode: endpoint(unix.mode),
                path: unix.path.as_str().into(),
                ..UnixSpec::default()
            })
        }
        Source::Unix(None) => {
            return Err(
                "source-path: a path must be given; only a hypervisor can choose one".into()
            );
        }
        Source::Vc
        | Source::SpiceVmc
        | Source::SpicePort { .. }
        | Source::Nmdm { .. }
        | Source::QemuVdagent { .. }
        | Source::Dbus { .. } => return Err(never()),
    };
    Ok((host_interface, reconnect))
}

fn tcp_spec(tcp: &libvirt::TcpSource, credentials: &str) -> Result<TcpSpec, String> {
    let mut spec = TcpSpec {
        mode: endpoint(tcp.mode),
        host: tcp.host.clone(),
        port: port(&tcp.service)?,
        protocol: match tcp.protocol {
            libvirt::Protocol::Raw => Protocol::Raw,
            libvirt::Protocol::Telnet => Protocol::Telnet,
            libvirt::Protocol::Telnets => Protocol::Telnets,
            libvirt::Protocol::Tls => Protocol::Tls,
        },
        tls: switch(tcp.tls),
        ..TcpSpec::default()
    };
    if spec.is_tls() && !credentials.is_empty() {
        spec.credentials = Some(credentials.to_owned());
    }
    Ok(spec)
}

fn switch(said: Option<bool>) -> Switch {
    match said {
        None => Switch::Unsaid,
        Some(true) => Switch::On,
        Some(false) => Switch::Off,
    }
}

fn endpoint(mode: Mode) -> Endpoint {
    match mode {
        Mode::Connect => Endpoint::Connect,
        Mode::Bind => Endpoint::Bind,
    }
}

/// A port by its number. Names of services differ from host to host, so a spec
/// has none.
fn port(service: &str) -> Result<u16, String> {
    service.parse().map_err(|_| {
        format!("source-service: must be a port's number, 0 to 65535, not {service:?}")
    })
}

fn reconnect_spec(reconnect: Option<Reconnect>) -> Result<ReconnectSpec, String> {
    Ok(match reconnect {
        None => ReconnectSpec::default(),
        Some(Reconnect::No) => {
            ReconnectSpec { policy: ReconnectPolicy::Never, ..ReconnectSpec::default() }
        }
        Some(Reconnect::Every { timeout_seconds }) => {
            let delay = Duration::from_secs(timeout_seconds.into());
            let most = limits::RECONNECT_DELAY_MAX;
            if delay.is_zero() || delay > most {
                return Err(format!(
                    "reconnect: the timeout must be 1 to {} seconds, not {timeout_seconds}",
                    most.as_secs()
                ));
            }
            ReconnectSpec {
                policy: ReconnectPolicy::Interval,
                min_delay: Some(delay),
                ..ReconnectSpec::default()
            }
        }
    })
}
