//! The guest's side of a device, as `spec.libvirt.guest` holds it: the whole
//! element in normal form. Of it an export takes target, alias, address and
//! security labels; source, protocol and log are what the spec says now. Behind
//! a serial there may be the console that mirrors it, where libvirt would not
//! add one by itself or would count other consoles differently.

use crate::{
    device::{Fault, LibvirtSpec},
    libvirt::{
        CharDevice, ConsoleTarget, Element, Flavour, OsType, Role, Source, Style, Target, parse,
        write,
    },
};

/// The guest's side of one device.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its element.
    pub(super) device: CharDevice,
    /// The console that mirrors it, if that is said. It takes its settings from
    /// the serial.
    pub(super) mirror: Option<CharDevice>,
}

/// The guest's side as a text.
pub(super) fn to_text(guest: &Guest) -> String {
    let elements = std::iter::once(&guest.device).chain(&guest.mirror);
    elements.map(|one| write(std::slice::from_ref(one), Style::Compact, Flavour::Stored)).collect()
}

/// A console that says that it mirrors the first serial.
pub(super) fn mirror() -> CharDevice {
    let target = Target::Console { kind: Some(ConsoleTarget::Serial), port: None };
    CharDevice { role: Role::Mirror, ..CharDevice::new(Source::Null, target) }
}

/// The guest's side of a text; why not, in words for people.
pub(super) fn from_text(text: &str) -> Result<Guest, String> {
    // Not as a whole machine: there a console would become a serial.
    let kind = OsType::Exe.as_str();
    let document =
        format!("<domain><os><type>{kind}</type></os><devices>{text}</devices></domain>");
    let domain = parse(document.as_bytes())
        .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
    let mut devices = domain.devices.into_iter();
    match (devices.next(), devices.next(), devices.next()) {
        (Some(device), None, _) => Ok(Guest { device, mirror: None }),
        (Some(device), Some(console), None)
            if device.element() == Element::Serial && is_mirror(&console) =>
        {
            Ok(Guest { device, mirror: Some(mirror()) })
        }
        _ => {
            Err("there must be one element, or a serial and the console that mirrors it".to_owned())
        }
    }
}

fn is_mirror(device: &CharDevice) -> bool {
    matches!(device.target, Target::Console { kind: Some(ConsoleTarget::Serial), .. })
}

/// The kind of guest; `None` if libvirt knows no such kind.
pub(super) fn os_type(libvirt: &LibvirtSpec) -> Option<OsType> {
    if libvirt.os_type.is_empty() {
        return Some(OsType::Hvm);
    }
    OsType::ALL.iter().copied().find(|os_type| os_type.as_str() == libvirt.os_type)
}

/// What is wrong with the libvirt part of a spec.
pub(in crate::api) fn check(libvirt: &LibvirtSpec, faults: &mut Vec<Fault>) {
    if os_type(libvirt).is_none() {
        let words: Vec<_> = OsType::ALL.iter().map(|os_type| os_type.as_str()).collect();
        let problem = format!("must be empty or one of {}", words.join(", "));
        faults.push(Fault::new("spec.libvirt.os_type", problem));
    }
    if let Err(problem) = from_text(&libvirt.guest) {
        let problem = format!("must be one serial, parallel, console or channel: {problem}");
        faults.push(Fault::new("spec.libvirt.guest", problem));
    }
}
