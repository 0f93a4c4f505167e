//! The guest's side of a device, as `spec.libvirt.guest` holds it: the whole
//! element in normal form. Of it an export takes target, alias, address and
//! security labels; source, protocol and log are what the spec says now.

use crate::{
    device::{Fault, LibvirtSpec},
    libvirt::{CharDevice, Flavour, OsType, Role, Style, parse, write},
};

/// The element as a text.
pub(super) fn to_text(device: &CharDevice) -> String {
    write(std::slice::from_ref(device), Style::Compact, Flavour::Stored)
}

/// The element of a text; why not, in words for people.
pub(super) fn from_text(text: &str) -> Result<CharDevice, String> {
    // Not as a whole machine: there a console would become a serial.
    let kind = OsType::Exe.as_str();
    let document =
        format!("<domain><os><type>{kind}</type></os><devices>{text}</devices></domain>");
    let domain = parse(document.as_bytes())
        .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
    match <[CharDevice; 1]>::try_from(domain.devices) {
        Ok([device]) if device.role == Role::Device => Ok(device),
        _ => Err("there must be exactly one element".to_owned()),
    }
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
