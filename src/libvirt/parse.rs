//! One `console`, `serial`, `parallel` or `channel`, by libvirt's rules.
//!
//! A thing of its own because the order of the checks is part of the contract:
//! it decides which fault of a device is told. Type, target, source, log,
//! protocol, alias, address come first; what a source *must* have is asked only
//! when the whole document is read, because a console may be dropped before
//! that. Until then such a fault travels beside the device, in [`Draft`].

use std::{collections::HashSet, net::Ipv4Addr};

use super::{
    address::{self, Address},
    fault::{Class, Fault, Position, quoted},
    model::{
        ChannelTarget, CharDevice, ConsoleTarget, Element, Interface, Log, Role, SecLabel,
        SerialModel, SerialTarget, Source, Target,
    },
    number::{Base, unsigned, wrapping_port},
    source,
    words::{Word, words},
    xml,
};

/// What an alias that a user chose begins with.
const USER_ALIAS: &str = "ua-";

/// A device whose source may lack what it must have.
#[derive(Debug)]
pub(super) struct Draft {
    /// The device. If `missing` is there, its source has empty texts in the
    /// place of what is absent, and must not be shown to anybody.
    pub(super) device: CharDevice,
    /// The first thing that its source must have and has not, or must not have.
    pub(super) missing: Option<Fault>,
}

words! {
    /// A switch in XML.
    pub(super) enum OnOff {
        /// On.
        On = "on",
        /// Off.
        Off = "off",
    }
}

impl OnOff {
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

words! {
    /// An answer in XML.
    pub(super) enum YesNo {
        /// Yes.
        Yes = "yes",
        /// No.
        No = "no",
    }
}

impl YesNo {
    pub(super) fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

words! {
    /// What a channel can be connected to.
    pub(super) enum ChannelKind {
        /// Nothing.
        None = "none",
        /// A virtio serial controller.
        Virtio = "virtio",
        /// Xen.
        Xen = "xen",
        /// An address.
        Guestfwd = "guestfwd",
    }
}

/// Reads a device. `unlabelled` are the security drivers that the domain has
/// switched off.
pub(super) fn device(
    kind: Element,
    element: &xml::Element<'_>,
    unlabelled: &HashSet<&str>,
) -> Result<Draft, Fault> {
    let interface = choice::<Interface>(element, "type", Class::TypeUnknown)?;
    let interface = interface.unwrap_or(Interface::Pty);
    let target = target(kind, element)?;
    let source::Found { mut source, mut seclabels, mut missing } =
        source::parse(interface, element, &target)?;
    let log = log(element)?;
    let protocol = source::protocol(element, &source)?;
    if let (Source::Tcp(tcp), Some(protocol)) = (&mut source, protocol) {
        tcp.protocol = protocol;
    }
    if source == Source::SpiceVmc && !can_be_spicevmc(&target) {
        let message = "spicevmc is for a channel with a target of type virtio";
        return Err(Fault::new(Class::SpicevmcTarget, element.position, message));
    }
    let info = guest_info(element)?;
    if let (Target::Serial { kind: Some(SerialTarget::Usb), .. }, Some(address)) =
        (&target, &info.address)
        && !matches!(address, Address::Usb { .. })
    {
        let message = "usb-serial needs an address of type usb";
        return Err(Fault::new(Class::AddressType, element.position, message));
    }
    if missing.is_none() {
        missing = switched_off(&seclabels, unlabelled, element.position);
    }
    keep_stored(&source, &mut seclabels);
    let device = CharDevice {
        source,
        seclabels,
        log,
        target,
        alias: info.alias,
        acpi_index: info.acpi_index,
        address: info.address,
        role: Role::Device,
        position: element.position,
    };
    Ok(Draft { device, missing })
}

/// libvirt compares a bare number here, so two more targets pass.
fn can_be_spicevmc(target: &Target) -> bool {
    matches!(
        target,
        Target::Channel(ChannelTarget::Virtio { .. })
            | Target::Serial { kind: Some(SerialTarget::Usb), .. }
            | Target::Console { kind: Some(ConsoleTarget::Xen), .. }
    )
}

fn switched_off(
    labels: &[SecLabel],
    unlabelled: &HashSet<&str>,
    position: Position,
) -> Option<Fault> {
    let models = labels.iter().filter_map(|label| label.model.as_ref());
    let mut models = models.filter(|model| unlabelled.contains(model.as_str()));
    models.next().map(|model| {
        let message = format!("the domain has switched relabelling off for {}", quoted(model));
        Fault::new(Class::Seclabel, position, message)
    })
}

/// Drops the labels that a definition does not keep.
fn keep_stored(source: &Source, labels: &mut Vec<SecLabel>) {
    match source {
        Source::Dev { .. } | Source::File { .. } | Source::Pipe { .. } | Source::Unix(Some(_)) => {
            labels.retain(super::format::is_stored);
        }
        Source::Null
        | Source::Vc
        | Source::Pty { .. }
        | Source::Stdio
        | Source::Udp(_)
        | Source::Tcp(_)
        | Source::Unix(None)
        | Source::SpiceVmc
        | Source::SpicePort { .. }
        | Source::Nmdm { .. }
        | Source::QemuVdagent { .. }
        | Source::Dbus { .. } => labels.clear(),
    }
}

fn target(kind: Element, device: &xml::Element<'_>) -> Result<Target, Fault> {
    let target = device.child("target");
    match kind {
        Element::Serial => {
            let Some(target) = target else {
                return Ok(Target::Serial { kind: None, model: None, port: None });
            };
            let kind = choice_or_none::<SerialTarget>(target, "type", Class::TargetUnknown)?;
            let model = match target.child("model") {
                Some(model) => choice_or_none::<SerialModel>(model, "name", Class::ModelUnknown)?,
                None => None,
            };
            Ok(Target::Serial { kind, model, port: port(target)? })
        }
        Element::Parallel => Ok(Target::Parallel { port: target.map(port).transpose()?.flatten() }),
        Element::Console => {
            let Some(target) = target else {
                return Ok(Target::Console { kind: None, port: None });
            };
            let kind = choice_or_none::<ConsoleTarget>(target, "type", Class::TargetUnknown)?;
            // It must be a number and is not used: consoles are counted.
            port(target)?;
            Ok(Target::Console { kind, port: None })
        }
        Element::Channel => match target {
            Some(target) => channel(target).map(Target::Channel),
            None => {
                let message = "a channel needs a target";
                Err(Fault::new(Class::TargetMissing, device.position, message))
            }
        },
    }
}

fn channel(target: &xml::Element<'_>) -> Result<ChannelTarget, Fault> {
    let name = || target.value("name").map(str::to_owned);
    match choice::<ChannelKind>(target, "type", Class::TargetUnknown)? {
        Some(ChannelKind::None) => Ok(ChannelTarget::None),
        Some(ChannelKind::Virtio) => Ok(ChannelTarget::Virtio { name: name(), state: None }),
        Some(ChannelKind::Xen) => Ok(ChannelTarget::Xen { name: name() }),
        Some(ChannelKind::Guestfwd) => guestfwd(target),
        None => {
            let message = "the target of a channel needs a type";
            Err(Fault::new(Class::TargetUnknown, target.position, message))
        }
    }
}

fn guestfwd(target: &xml::Element<'_>) -> Result<ChannelTarget, Fault> {
    let Some(address) = target.attribute("address") else {
        let message = "a target of type guestfwd needs an address";
        return Err(Fault::new(Class::GuestfwdAddress, target.position, message));
    };
    let Some(port) = target.attribute("port") else {
        let message = "a target of type guestfwd needs a port";
        return Err(Fault::new(Class::AttrMissing, target.position, message));
    };
    let Some(number) = unsigned(&port.value, Base::Decimal) else {
        let message = format!("{} is not a port", quoted(&port.value));
        return Err(Fault::new(Class::Integer, port.position, message));
    };
    let Ok(ip) = address.value.parse::<Ipv4Addr>() else {
        let message = format!("{} is not an IPv4 address", quoted(&address.value));
        return Err(Fault::new(Class::GuestfwdAddress, address.position, message));
    };
    // libvirt cuts the number to 16 bits.
    let [.., high, low] = number.to_be_bytes();
    Ok(ChannelTarget::Guestfwd { address: ip, port: u16::from_be_bytes([high, low]) })
}

fn port(target: &xml::Element<'_>) -> Result<Option<i32>, Fault> {
    let Some(port) = target.attribute("port") else { return Ok(None) };
    wrapping_port(&port.value).ok_or_else(|| {
        let message = format!("{} is not a decimal number of 32 bits", quoted(&port.value));
        Fault::new(Class::Integer, port.position, message)
    })
}

/// The log; without a file there is none, but its `append` must be right.
fn log(device: &xml::Element<'_>) -> Result<Option<Log>, Fault> {
    let Some(log) = at_most_one(device, "log")? else { return Ok(None) };
    let append = choice::<OnOff>(log, "append", Class::Enum)?.map(OnOff::is_on);
    Ok(log.value("file").map(|file| Log { file: file.to_owned(), append }))
}

/// The guest's name and place of a device.
struct GuestInfo {
    alias: Option<String>,
    acpi_index: Option<u32>,
    address: Option<Address>,
}

fn guest_info(device: &xml::Element<'_>) -> Result<GuestInfo, Fault> {
    let alias = device.child("alias").and_then(|alias| alias.value("name"));
    let alias = alias.filter(|alias| is_user_alias(alias)).map(str::to_owned);
    let acpi_index = match device.child("acpi").and_then(|acpi| acpi.attribute("index")) {
        None => None,
        Some(index) => {
            let number = unsigned(&index.value, Base::Decimal).filter(|number| *number > 0);
            Some(number.ok_or_else(|| {
                let message = format!("{} is not a number above 0", quoted(&index.value));
                Fault::new(Class::Integer, index.position, message)
            })?)
        }
    };
    let address = device.child("address").map(address::parse).transpose()?;
    Ok(GuestInfo { alias, acpi_index, address })
}

/// Whether a definition keeps an alias; all others are the hypervisor's.
pub(super) fn is_user_alias(alias: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    alias.starts_with(USER_ALIAS) && alias.chars().all(is_fine)
}

/// The only child of a name.
pub(super) fn at_most_one<'e, 'a>(
    device: &'e xml::Element<'a>,
    name: &str,
) -> Result<Option<&'e xml::Element<'a>>, Fault> {
    let mut children = device.children(name);
    let first = children.next();
    match children.next() {
        Some(second) => {
            let message = format!("only one {name} is allowed");
            Err(Fault::new(Class::DupElement, second.position, message))
        }
        None => Ok(first),
    }
}

/// An attribute whose value is one of a set of words.
pub(super) fn choice<T: Word>(
    element: &xml::Element<'_>,
    name: &str,
    class: Class,
) -> Result<Option<T>, Fault> {
    let Some(attribute) = element.attribute(name) else { return Ok(None) };
    let found = T::WORDS.iter().copied().find(|word| word.word() == attribute.value);
    found.map(Some).ok_or_else(|| {
        let words: Vec<_> = T::WORDS.iter().map(|word| word.word()).collect();
        let value = quoted(&attribute.value);
        let message = format!("{name} {value} is none of {}", words.join(", "));
        Fault::new(class, attribute.position, message)
    })
}

/// The same, where libvirt also knows the word `none` and means "not given".
fn choice_or_none<T: Word>(
    element: &xml::Element<'_>,
    name: &str,
    class: Class,
) -> Result<Option<T>, Fault> {
    if element.value(name) == Some("none") { Ok(None) } else { choice(element, name, class) }
}
