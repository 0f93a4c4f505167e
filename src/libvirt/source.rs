//! The host's side of a device: `<source>` and `<protocol>`.
//!
//! A thing of its own because each host interface has its own attributes, and
//! takes no notice of those of the others.
//!
//! A source that lacks what it must have is still read to its end: the lack is
//! told beside it ([`Found::missing`]), because a fault in a value comes first,
//! and because a console that is dropped may lack anything.

use std::collections::HashSet;

use super::{
    fault::{Class, Fault, Position, quoted},
    model::{
        ChannelTarget, Interface, Mode, MouseMode, Protocol, Reconnect, SecLabel, Source, Target,
        TcpSource, UdpBind, UdpSource, UnixSource,
    },
    number::{Base, unsigned},
    parse::{OnOff, YesNo, at_most_one, choice},
    xml::Element,
};

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The source.
    pub(super) source: Source,
    /// Its security labels, also those that are not kept.
    pub(super) seclabels: Vec<SecLabel>,
    /// What it must have and has not, or must not have.
    pub(super) missing: Option<Fault>,
}

/// Reads the host's side of a device.
pub(super) fn parse(
    interface: Interface,
    device: &Element<'_>,
    target: &Target,
) -> Result<Found, Fault> {
    let sources = sources(interface, device)?;
    let first = sources.first().copied();
    let mut lack = Lack { position: first.unwrap_or(device).position, first: None };
    let source = match interface {
        Interface::Null => Source::Null,
        Interface::Vc => Source::Vc,
        // The path is of a guest that runs.
        Interface::Pty => Source::Pty { path: None },
        Interface::Stdio => Source::Stdio,
        Interface::SpiceVmc => Source::SpiceVmc,
        Interface::Dev => Source::Dev { path: lack.text(first, "path", Class::SourcePath) },
        Interface::Pipe => Source::Pipe { path: lack.text(first, "path", Class::SourcePath) },
        Interface::File => Source::File {
            append: optional::<OnOff>(first, "append")?.map(OnOff::is_on),
            path: lack.text(first, "path", Class::SourcePath),
        },
        Interface::Udp => udp(&sources, &mut lack)?,
        Interface::Tcp => tcp(first, &mut lack)?,
        Interface::Unix => unix(first, target, &mut lack)?,
        Interface::SpicePort => Source::SpicePort { channel: channel(first, &mut lack) },
        Interface::Dbus => Source::Dbus { channel: channel(first, &mut lack) },
        Interface::Nmdm => nmdm(first, &mut lack),
        Interface::QemuVdagent => vdagent(first)?,
    };
    let mut seclabels = Vec::new();
    for source in &sources {
        seclabels.extend(labels(source)?);
    }
    Ok(Found { source, seclabels, missing: lack.first })
}

/// All sources; more than one only where libvirt allows it.
fn sources<'e, 'a>(
    interface: Interface,
    device: &'e Element<'a>,
) -> Result<Vec<&'e Element<'a>>, Fault> {
    if interface != Interface::Udp {
        return Ok(at_most_one(device, "source")?.into_iter().collect());
    }
    match device.children("source").nth(2) {
        Some(third) => {
            let message = "only two sources are allowed";
            Err(Fault::new(Class::DupElement, third.position, message))
        }
        None => Ok(device.children("source").collect()),
    }
}

/// Gathers what a source lacks: the first is told.
struct Lack {
    position: Position,
    first: Option<Fault>,
}

impl Lack {
    fn tell(&mut self, class: Class, message: String) {
        self.first.get_or_insert(Fault::new(class, self.position, message));
    }

    /// An attribute that must be there.
    fn text(&mut self, source: Option<&Element<'_>>, name: &str, class: Class) -> String {
        text(source, name).unwrap_or_else(|| {
            self.tell(class, format!("the source needs a {name}"));
            String::new()
        })
    }

    /// A side that waits for connections cannot open them again, nor say no to it.
    fn refuse_reconnect(&mut self, mode: Mode, reconnect: Option<Reconnect>) {
        if mode == Mode::Bind && reconnect.is_some() {
            self.tell(Class::ReconnectBind, "reconnect is for mode 'connect' only".to_owned());
        }
    }
}

fn text(source: Option<&Element<'_>>, name: &str) -> Option<String> {
    source.and_then(|source| source.value(name)).map(str::to_owned)
}

fn optional<T: super::words::Word>(
    source: Option<&Element<'_>>,
    name: &str,
) -> Result<Option<T>, Fault> {
    match source {
        Some(source) => choice(source, name, Class::Enum),
        None => Ok(None),
    }
}

fn mode(source: Option<&Element<'_>>) -> Result<Mode, Fault> {
    Ok(optional(source, "mode")?.unwrap_or(Mode::Connect))
}

/// Of each mode the first source that says anything counts, whole.
fn udp(sources: &[&Element<'_>], lack: &mut Lack) -> Result<Source, Fault> {
    let mut ends = [None, None];
    for source in sources {
        let [connect, bind] = &mut ends;
        let end = match mode(Some(source))? {
            Mode::Connect => connect,
            Mode::Bind => bind,
        };
        let (host, service) = (text(Some(source), "host"), text(Some(source), "service"));
        if end.is_none() && (host.is_some() || service.is_some()) {
            *end = Some((host, service));
        }
    }
    let [connect, bind] = ends;
    let (host, service) = connect.unwrap_or_default();
    let service = service.unwrap_or_else(|| {
        let message = "the source of mode 'connect' needs a service";
        lack.tell(Class::SourceService, message.to_owned());
        String::new()
    });
    let bind = bind.map(|(host, service)| UdpBind { host, service });
    Ok(Source::Udp(UdpSource { host, service, bind }))
}

fn tcp(source: Option<&Element<'_>>, lack: &mut Lack) -> Result<Source, Fault> {
    let mode = mode(source)?;
    let tls = optional::<YesNo>(source, "tls")?.map(YesNo::is_yes);
    let reconnect = reconnect(source)?;
    let host = lack.text(source, "host", Class::SourceHost);
    let service = lack.text(source, "service", Class::SourceService);
    lack.refuse_reconnect(mode, reconnect);
    let protocol = Protocol::Raw;
    Ok(Source::Tcp(TcpSource { mode, host, service, tls, reconnect, protocol }))
}

fn unix(source: Option<&Element<'_>>, target: &Target, lack: &mut Lack) -> Result<Source, Fault> {
    let mode = mode(source)?;
    let reconnect = reconnect(source)?;
    let path = text(source, "path");
    let may_be_chosen =
        matches!(target, Target::Channel(ChannelTarget::Virtio { .. } | ChannelTarget::Xen { .. }));
    if path.is_none() && !may_be_chosen {
        lack.tell(Class::SourcePath, "the source needs a path".to_owned());
    }
    lack.refuse_reconnect(mode, reconnect);
    Ok(Source::Unix(path.map(|path| UnixSource { mode, path, reconnect })))
}

fn reconnect(source: Option<&Element<'_>>) -> Result<Option<Reconnect>, Fault> {
    let Some(element) = source.and_then(|source| source.child("reconnect")) else {
        return Ok(None);
    };
    match choice::<YesNo>(element, "enabled", Class::Enum)? {
        None => Ok(None),
        Some(YesNo::No) => Ok(Some(Reconnect::No)),
        Some(YesNo::Yes) => {
            let Some(timeout) = element.attribute("timeout") else {
                let message = "reconnect needs a timeout";
                return Err(Fault::new(Class::AttrMissing, element.position, message));
            };
            let seconds = unsigned(&timeout.value, Base::Decimal).ok_or_else(|| {
                let message = format!("{} is not a number of seconds", quoted(&timeout.value));
                Fault::new(Class::Integer, timeout.position, message)
            })?;
            Ok(Some(Reconnect::Every { timeout_seconds: seconds }))
        }
    }
}

fn channel(source: Option<&Element<'_>>, lack: &mut Lack) -> String {
    let channel = lack.text(source, "channel", Class::SourceChannel);
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !channel.chars().all(is_fine) {
        let message = format!("{} has more than letters, digits, _, - and .", quoted(&channel));
        lack.tell(Class::ChannelChars, message);
    }
    channel
}

fn nmdm(source: Option<&Element<'_>>, lack: &mut Lack) -> Source {
    let pair = match (text(source, "master"), text(source, "slave")) {
        (Some(master), Some(slave)) => Some((master, slave)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            lack.tell(Class::SourcePair, "master and slave are given together".to_owned());
            None
        }
    };
    Source::Nmdm { pair }
}

fn vdagent(source: Option<&Element<'_>>) -> Result<Source, Fault> {
    let child = |name| source.and_then(|source| source.child(name));
    let clipboard = child("clipboard").map(|c| required::<YesNo>(c, "copypaste")).transpose()?;
    let mouse = child("mouse").map(|m| required::<MouseMode>(m, "mode")).transpose()?;
    Ok(Source::QemuVdagent { clipboard: clipboard.map(YesNo::is_yes), mouse })
}

fn required<T: super::words::Word>(element: &Element<'_>, name: &str) -> Result<T, Fault> {
    choice(element, name, Class::Enum)?.ok_or_else(|| {
        let message = format!("{} needs {name}", element.name);
        Fault::new(Class::AttrMissing, element.position, message)
    })
}

fn labels(source: &Element<'_>) -> Result<Vec<SecLabel>, Fault> {
    let mut labels = Vec::new();
    let mut models = HashSet::new();
    for element in source.children("seclabel") {
        let fault = |message: String| Fault::new(Class::Seclabel, element.position, message);
        let model = element.value("model");
        if model.is_some_and(|model| !models.insert(model)) {
            return Err(fault("two labels have the same model".to_owned()));
        }
        let relabel = choice::<YesNo>(element, "relabel", Class::Enum)?.is_none_or(YesNo::is_yes);
        let label = element.child("label").map(|label| label.text.clone());
        let label = label.filter(|label| !label.is_empty());
        if label.is_some() && !relabel {
            return Err(fault("a label needs relabel='yes'".to_owned()));
        }
        labels.push(SecLabel { model: model.map(str::to_owned), relabel, label });
    }
    Ok(labels)
}

/// What is spoken on a connection. It is counted on every device, and only read
/// on tcp.
pub(super) fn protocol(device: &Element<'_>, source: &Source) -> Result<Option<Protocol>, Fault> {
    match (at_most_one(device, "protocol")?, source) {
        (Some(element), Source::Tcp(_)) => choice(element, "type", Class::ProtocolUnknown),
        _ => Ok(None),
    }
}
