//! A whole document: its devices, their numbers, and the console that is the
//! first serial.
//!
//! A thing of its own because these rules look at all devices at once. Devices
//! are read in libvirt's order (parallels, serials, consoles, channels), so the
//! faults are in the order in which libvirt would meet them: those of single
//! devices, then the numbers of ISA serials, the order of consoles, what sources
//! lack, and aliases. libvirt stops at the first; here all are gathered, and the
//! rules of the whole document see only the devices that could be read.

use std::collections::HashSet;

use super::{
    fault::{Class, Fault, Position, quoted},
    model::{CharDevice, ConsoleTarget, Element, Role, SerialTarget, Source, Target},
    parse::{Draft, device},
    words::words,
    xml,
};
use crate::limits;

/// ISA serials of a guest, whose numbers begin at 0.
const ISA_PORTS: usize = 4;

/// What a document describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The guest's name; absent if the document is not a whole domain.
    pub name: Option<String>,
    /// The kind of guest.
    pub os_type: OsType,
    /// Its character devices: serials, parallels, consoles, channels. A console
    /// that mirrors a serial is [`Role::Mirror`].
    pub devices: Vec<CharDevice>,
}

impl Domain {
    /// Whether the console that mirrors the first serial must be said for the
    /// devices to come back as they are: other consoles are counted behind it, or
    /// its serial is of a kind that is not shown as a console by itself.
    pub fn must_say_mirror(&self) -> bool {
        let mut consoles = self.devices.iter().filter(|d| d.element() == Element::Console);
        let has_mirror = consoles.next().is_some_and(|console| console.role == Role::Mirror);
        let next_port = consoles.next().and_then(|console| port_of(&console.target));
        let mut serials = self.devices.iter().filter(|d| d.element() == Element::Serial);
        let is_shown = serials.next().is_some_and(|serial| is_shown_as_console(&serial.target));
        has_mirror && (!is_shown || next_port.is_some_and(|port| port > 0))
    }
}

words! {
    /// The kind of a guest: what `<os><type>` says.
    pub enum OsType {
        /// A whole machine: its first console and first serial are one.
        Hvm = "hvm",
        /// Xen's paravirtualised guest.
        Xen = "xen",
        /// The same, by its older name.
        Linux = "linux",
        /// Xen's paravirtualised guest in a hardware container.
        XenPvh = "xenpvh",
        /// A container.
        Exe = "exe",
        /// User mode Linux.
        Uml = "uml",
    }
}

impl OsType {
    /// What a console is connected to that does not say.
    fn default_console(self) -> ConsoleTarget {
        match self {
            Self::Hvm => ConsoleTarget::Serial,
            Self::Xen | Self::Linux | Self::XenPvh => ConsoleTarget::Xen,
            Self::Exe => ConsoleTarget::Lxc,
            Self::Uml => ConsoleTarget::Uml,
        }
    }
}

/// Reads a `<domain>`, the `<devices>` of one, or character devices in a row. A
/// document that does not say what kind of guest it has is taken for a whole
/// machine.
///
/// The faults are in the order in which libvirt would meet them; there is at
/// least one.
pub fn parse(document: &[u8]) -> Result<Domain, Vec<Fault>> {
    let roots = xml::read(document, wanted).map_err(|fault| vec![fault])?;
    let outline = Outline::of(&roots).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let os_type = outline.os_type().unwrap_or_else(|fault| {
        faults.push(fault);
        OsType::Hvm
    });
    let unlabelled = outline.unlabelled();
    let mut drafts = Vec::new();
    let mut has_lost_serial = false;
    for kind in [Element::Parallel, Element::Serial, Element::Console, Element::Channel] {
        for element in outline.devices.iter().filter(|element| element.name == kind.as_str()) {
            match device(kind, element, &unlabelled) {
                Ok(draft) => drafts.push(draft),
                Err(fault) => {
                    has_lost_serial |= kind == Element::Serial;
                    faults.push(fault);
                }
            }
        }
    }
    if has_lost_serial {
        // The first console may stand for a serial that could not be read.
        let mut consoles = drafts.iter_mut().filter(|d| d.device.element() == Element::Console);
        if let Some(console) = consoles.next() {
            console.missing = None;
        }
    }
    let devices = settle_drafts(drafts, os_type).unwrap_or_else(|more| {
        faults.extend(more);
        Vec::new()
    });
    let mut own = devices.iter().filter(|device| device.role == Role::Device);
    faults.extend(own.nth(limits::DOMAIN_DEVICES_MAX).map(|excess| too_many(excess.position)));
    if faults.is_empty() {
        Ok(Domain { name: outline.name(), os_type, devices })
    } else {
        Err(faults)
    }
}

fn too_many(position: Position) -> Fault {
    let message = format!("more than {} character devices", limits::DOMAIN_DEVICES_MAX);
    Fault::new(Class::TooMany, position, message)
}

/// Gives devices their numbers, pairs the first console with the first serial,
/// and puts them in the order in which they are written: what `parse` does with
/// those that it has read. A mirror stands for "the first serial is a console,
/// too" and takes its settings anew; without any serial, or on a guest that is
/// not a whole machine, it is dropped.
pub fn settle(devices: Vec<CharDevice>, os_type: OsType) -> Result<Vec<CharDevice>, Vec<Fault>> {
    let has_serial = devices.iter().any(|device| device.element() == Element::Serial);
    let can_mirror = has_serial && os_type == OsType::Hvm;
    let devices = devices.into_iter();
    let devices = devices.filter(|device| can_mirror || device.role == Role::Device);
    let drafts = devices.map(|device| Draft { device, missing: None }).collect();
    settle_drafts(drafts, os_type)
}

/// Which elements of a document are looked at.
fn wanted(parent: Option<&str>, name: &str) -> xml::Wanted {
    let is_device = || Element::ALL.iter().any(|element| element.as_str() == name);
    let is_wanted = match (parent, name) {
        (Some("domain"), "name") | (Some("os"), "type") | (Some("seclabel"), "label") => {
            return xml::Wanted::Text;
        }
        (None, _) => true,
        (Some("domain"), _) => matches!(name, "os" | "seclabel" | "devices"),
        (Some("devices"), _) => is_device(),
        (Some("console" | "serial" | "parallel" | "channel"), _) => {
            matches!(name, "source" | "log" | "protocol" | "target" | "alias" | "acpi" | "address")
        }
        (Some("source"), _) => matches!(name, "reconnect" | "clipboard" | "mouse" | "seclabel"),
        (Some("target"), _) => name == "model",
        (Some(_), _) => false,
    };
    if is_wanted { xml::Wanted::Tree } else { xml::Wanted::Nothing }
}

/// The parts of a document.
struct Outline<'e, 'a> {
    domain: Option<&'e xml::Element<'a>>,
    devices: Vec<&'e xml::Element<'a>>,
}

impl<'e, 'a> Outline<'e, 'a> {
    fn of(roots: &'e [xml::Element<'a>]) -> Result<Self, Fault> {
        let is_device =
            |one: &xml::Element<'_>| Element::ALL.iter().any(|e| e.as_str() == one.name);
        let (domain, devices): (_, Vec<_>) = match roots {
            [one] if one.name == "domain" => {
                let lists = one.children("devices");
                (Some(one), lists.flat_map(xml::Element::all_children).collect())
            }
            [one] if one.name == "devices" => (None, one.all_children().iter().collect()),
            _ => (None, roots.iter().collect()),
        };
        if let Some(other) = devices.iter().find(|one| !is_device(one)) {
            let name = quoted(other.name);
            let message = format!(
                "expected one domain, one devices, or serial, parallel, console and channel, not {name}"
            );
            return Err(Fault::new(Class::Xml, other.position, message));
        }
        if roots.is_empty() {
            let position = Position { line: 1, column: 1 };
            return Err(Fault::new(Class::Xml, position, "there is no element"));
        }
        // One of them may be a mirror.
        if let Some(excess) = devices.get(limits::DOMAIN_DEVICES_MAX + 1) {
            return Err(too_many(excess.position));
        }
        Ok(Self { domain, devices })
    }

    fn name(&self) -> Option<String> {
        let name = &self.domain?.child("name")?.text;
        Some(name.clone()).filter(|name| !name.is_empty())
    }

    fn os_type(&self) -> Result<OsType, Fault> {
        let os_type = self.domain.and_then(|domain| domain.child("os")?.child("type"));
        let Some(element) = os_type else { return Ok(OsType::Hvm) };
        let found = OsType::ALL.iter().copied().find(|os| os.as_str() == element.text);
        found.ok_or_else(|| {
            let words: Vec<_> = OsType::ALL.iter().map(|os| os.as_str()).collect();
            let text = quoted(&element.text);
            let message = format!("the kind of guest {text} is none of {}", words.join(", "));
            Fault::new(Class::Enum, element.position, message)
        })
    }

    /// The security drivers that are told not to label anything.
    fn unlabelled(&self) -> HashSet<&'e str> {
        let labels = self.domain.into_iter().flat_map(|domain| domain.children("seclabel"));
        let off = labels.filter(|label| match (label.value("relabel"), label.value("type")) {
            (Some(relabel), _) => relabel == "no",
            (None, kind) => matches!(kind, Some("static" | "none")),
        });
        off.filter_map(|label| label.value("model")).collect()
    }
}

/// The devices of a guest, each kind in its order.
#[derive(Default)]
struct Settling {
    serials: Vec<Draft>,
    parallels: Vec<Draft>,
    consoles: Vec<Draft>,
    channels: Vec<Draft>,
    faults: Vec<Fault>,
}

fn settle_drafts(drafts: Vec<Draft>, os_type: OsType) -> Result<Vec<CharDevice>, Vec<Fault>> {
    let mut all = Settling::default();
    for draft in drafts {
        match draft.device.element() {
            Element::Serial => all.serials.push(draft),
            Element::Parallel => all.parallels.push(draft),
            Element::Console => all.consoles.push(draft),
            Element::Channel => all.channels.push(draft),
        }
    }
    all.number_consoles(os_type);
    all.number_parallels();
    all.number_isa_serials();
    all.number_serials();
    if os_type == OsType::Hvm {
        all.pair();
    }
    all.finish()
}

impl Settling {
    fn tell(&mut self, class: Class, position: Position, message: impl Into<String>) {
        self.faults.push(Fault::new(class, position, message));
    }

    /// Consoles are counted, whatever they say.
    fn number_consoles(&mut self, os_type: OsType) {
        for (number, draft) in (0..).zip(&mut self.consoles) {
            if let Target::Console { kind, port } = &mut draft.device.target {
                kind.get_or_insert(os_type.default_console());
                *port = Some(number);
            }
        }
    }

    /// A parallel without number follows the highest one before it.
    fn number_parallels(&mut self) {
        let mut highest = -1;
        let mut without = Vec::new();
        for draft in &mut self.parallels {
            if let Target::Parallel { port } = &mut draft.device.target {
                if port.is_none() {
                    *port = next(highest);
                }
                match *port {
                    Some(port) => highest = highest.max(port),
                    None => without.push(draft.device.position),
                }
            }
        }
        self.tell_no_number(without);
    }

    /// Serials that are explicitly ISA take the lowest free number of four.
    fn number_isa_serials(&mut self) {
        let mut is_taken = [false; ISA_PORTS];
        let mut found = Vec::new();
        for (count, draft) in self.serials.iter().filter(|draft| is_isa(draft)).enumerate() {
            let position = draft.device.position;
            let slot = port_of(&draft.device.target).map(|port| {
                let slot = usize::try_from(port).ok().and_then(|port| is_taken.get_mut(port));
                (port, slot)
            });
            match slot {
                _ if count >= ISA_PORTS => {
                    found.push((position, format!("a guest has only {ISA_PORTS} ISA serials")));
                }
                Some((port, None)) => {
                    found
                        .push((position, format!("an ISA serial has no port {port}, only 0 to 3")));
                }
                Some((port, Some(true))) => {
                    found.push((position, format!("the port {port} of an ISA serial is taken")));
                }
                Some((_, Some(slot))) => *slot = true,
                None => {}
            }
        }
        for (position, message) in found {
            self.tell(Class::IsaPort, position, message);
        }
        for draft in self.serials.iter_mut().filter(|draft| is_isa(draft)) {
            if let Target::Serial { port: port @ None, .. } = &mut draft.device.target {
                let free = (0..).zip(&mut is_taken).find(|(_, is_taken)| !**is_taken);
                if let Some((number, slot)) = free {
                    *slot = true;
                    *port = Some(number);
                }
            }
        }
    }

    /// Any other serial without number follows the highest one of all.
    fn number_serials(&mut self) {
        let mut highest =
            self.serials.iter().filter_map(|d| port_of(&d.device.target)).fold(-1, i32::max);
        let mut without = Vec::new();
        for draft in &mut self.serials {
            // An ISA serial that has no number by now is one too many.
            if is_isa(draft) {
                continue;
            }
            if let Target::Serial { port: port @ None, .. } = &mut draft.device.target {
                *port = next(highest);
                match *port {
                    Some(port) => highest = port,
                    None => without.push(draft.device.position),
                }
            }
        }
        self.tell_no_number(without);
    }

    fn tell_no_number(&mut self, without: Vec<Position>) {
        for position in without {
            self.tell(Class::Integer, position, "no port is left after 2147483647");
        }
    }

    /// Makes the first console and the first serial one device.
    fn pair(&mut self) {
        let is_serial = |draft: &Draft| {
            let kind = Some(ConsoleTarget::Serial);
            matches!(draft.device.target, Target::Console { kind: k, .. } if k == kind)
        };
        let excess = self.consoles.iter().skip(1).filter(|draft| is_serial(draft));
        let excess: Vec<_> = excess.map(|draft| draft.device.position).collect();
        for position in excess {
            let message = "only the first console can be of type serial";
            self.tell(Class::ConsoleOrder, position, message);
        }
        if self.consoles.first().is_some_and(is_serial) {
            let mut draft = self.consoles.remove(0);
            // What the console says counts only if there is no serial.
            if self.serials.is_empty() {
                draft.device.target = Target::Serial { kind: None, model: None, port: Some(0) };
                self.serials.push(draft);
            }
        } else if !self.serials.first().is_some_and(|d| is_shown_as_console(&d.device.target)) {
            return;
        }
        let Some(serial) = self.serials.first() else { return };
        let mut mirror = serial.device.clone();
        if mirror.source == Source::SpiceVmc {
            let message = "a serial of type spicevmc cannot be the first console";
            self.tell(Class::SpicevmcTarget, mirror.position, message);
            return;
        }
        let kind = Some(ConsoleTarget::Serial);
        mirror.target = Target::Console { kind, port: port_of(&serial.device.target) };
        mirror.role = Role::Mirror;
        self.consoles.insert(0, Draft { device: mirror, missing: None });
    }

    fn finish(self) -> Result<Vec<CharDevice>, Vec<Fault>> {
        let Self { serials, parallels, consoles, channels, mut faults } = self;
        let drafts = serials.into_iter().chain(parallels).chain(consoles).chain(channels);
        let mut devices = Vec::new();
        for Draft { device, missing } in drafts {
            devices.push(device);
            faults.extend(missing);
        }
        check_aliases(&devices, &mut faults);
        if faults.is_empty() { Ok(devices) } else { Err(faults) }
    }
}

/// No two devices have one alias; but a serial that is a console, too, may have
/// any.
fn check_aliases(devices: &[CharDevice], faults: &mut Vec<Fault>) {
    let mut seen = HashSet::new();
    let has_mirror = devices.iter().any(|device| device.role == Role::Mirror);
    // Serials come first; a mirror is of the first one.
    let to_check = devices.iter().skip(usize::from(has_mirror));
    for device in to_check.filter(|device| device.role == Role::Device) {
        if let Some(alias) = &device.alias
            && !seen.insert(alias)
        {
            let message = format!("the alias {} is that of another device", quoted(alias));
            faults.push(Fault::new(Class::AliasClash, device.position, message));
        }
    }
}

/// Whether a serial is shown as a console that nobody asked for.
fn is_shown_as_console(target: &Target) -> bool {
    let Target::Serial { kind, .. } = target else { return false };
    match kind {
        None
        | Some(
            SerialTarget::Isa | SerialTarget::SpaprVio | SerialTarget::System | SerialTarget::Sclp,
        ) => true,
        Some(SerialTarget::Usb | SerialTarget::Pci | SerialTarget::IsaDebug) => false,
    }
}

fn is_isa(draft: &Draft) -> bool {
    matches!(draft.device.target, Target::Serial { kind: Some(SerialTarget::Isa), .. })
}

fn port_of(target: &Target) -> Option<i32> {
    match target {
        Target::Serial { port, .. } | Target::Parallel { port } | Target::Console { port, .. } => {
            *port
        }
        Target::Channel(_) => None,
    }
}

/// The number after the highest one; -1 is before all.
fn next(highest: i32) -> Option<i32> {
    highest.checked_add(1)
}
