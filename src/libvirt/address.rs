//! Where the guest finds a device: `<address>`.
//!
//! A thing of its own because it says nothing about the host's side: it is only
//! carried from one document to the next, in the form that libvirt gives it.

use super::{
    fault::{Class, Fault, quoted},
    format::Node,
    number::{Base, unsigned, unsigned_long},
    parse::{OnOff, choice},
    xml::Element,
};

/// Numbers in the port of a USB device: a root hub and three more.
const USB_PORT_DEPTH_MAX: usize = 4;

/// An address, of the kinds that a character device can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `pci`; absent is a free one.
    Pci(Option<PciAddress>),
    /// `virtio-serial`.
    VirtioSerial {
        /// Controller.
        controller: u32,
        /// Bus.
        bus: u32,
        /// Port.
        port: u32,
    },
    /// `usb`.
    Usb {
        /// Bus.
        bus: u32,
        /// From the root hub down, 1 to 4 numbers; none is a free port.
        port: Vec<u8>,
    },
    /// `spapr-vio`.
    SpaprVio {
        /// Register; absent is a free one.
        reg: Option<u64>,
    },
    /// `ccw`; absent is a free one.
    Ccw(Option<CcwAddress>),
    /// `virtio-mmio`.
    VirtioMmio,
    /// `isa`.
    Isa {
        /// First port; 0 is the usual one.
        iobase: u32,
        /// Interrupt; 0 is the usual one.
        irq: u32,
    },
}

/// A place on a PCI bus; not all of it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress {
    /// Domain.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Slot, up to 31.
    pub slot: u8,
    /// Function, up to 7.
    pub function: u8,
    /// Whether more functions follow.
    pub multifunction: Option<bool>,
}

/// A place among S/390's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CcwAddress {
    /// Channel subsystem, up to 254.
    pub cssid: u8,
    /// Set of subchannels, up to 3.
    pub ssid: u8,
    /// Device.
    pub devno: u16,
}

/// Reads an `<address>`.
pub(super) fn parse(element: &Element<'_>) -> Result<Address, Fault> {
    let Some(kind) = element.attribute("type") else {
        let message = "an address needs a type";
        return Err(Fault::new(Class::AddressType, element.position, message));
    };
    match &*kind.value {
        "pci" => pci(element),
        "virtio-serial" => Ok(Address::VirtioSerial {
            controller: number(element, "controller", Base::Decimal)?,
            bus: number(element, "bus", Base::Decimal)?,
            port: number(element, "port", Base::Decimal)?,
        }),
        "usb" => Ok(Address::Usb {
            port: usb_port(element)?,
            bus: number(element, "bus", Base::Decimal)?,
        }),
        "spapr-vio" => Ok(Address::SpaprVio {
            reg: match element.attribute("reg") {
                None => None,
                Some(reg) => match unsigned_long(&reg.value, Base::Hexadecimal) {
                    Some(number) => Some(number),
                    None => return Err(malformed(element, "reg")),
                },
            },
        }),
        "ccw" => ccw(element),
        "virtio-mmio" => Ok(Address::VirtioMmio),
        "isa" => Ok(Address::Isa {
            iobase: number(element, "iobase", Base::Hexadecimal)?,
            irq: number(element, "irq", Base::Hexadecimal)?,
        }),
        other => {
            let message = format!("a character device has no address of type {}", quoted(other));
            Err(Fault::new(Class::AddressType, kind.position, message))
        }
    }
}

fn pci(element: &Element<'_>) -> Result<Address, Fault> {
    let address = PciAddress {
        domain: small(element, "domain", Base::ByPrefix, u16::MAX)?,
        bus: small(element, "bus", Base::ByPrefix, u8::MAX)?,
        slot: small(element, "slot", Base::ByPrefix, 31)?,
        function: small(element, "function", Base::ByPrefix, 7)?,
        multifunction: choice::<OnOff>(element, "multifunction", Class::Enum)?.map(OnOff::is_on),
    };
    match address {
        PciAddress { domain: 0, bus: 0, slot: 0, function: 0, .. } => Ok(Address::Pci(None)),
        PciAddress { domain: 0, bus: 0, slot: 0, .. } => {
            let message = "one of domain, bus and slot must be above 0";
            Err(Fault::new(Class::Integer, element.position, message))
        }
        _ => Ok(Address::Pci(Some(address))),
    }
}

fn ccw(element: &Element<'_>) -> Result<Address, Fault> {
    let given = ["cssid", "ssid", "devno"].map(|name| element.value(name).is_some());
    if given == [false; 3] {
        return Ok(Address::Ccw(None));
    }
    if given.contains(&false) {
        let message = "cssid, ssid and devno are given together or not at all";
        return Err(Fault::new(Class::AttrMissing, element.position, message));
    }
    Ok(Address::Ccw(Some(CcwAddress {
        cssid: small(element, "cssid", Base::ByPrefix, 254)?,
        ssid: small(element, "ssid", Base::ByPrefix, 3)?,
        devno: small(element, "devno", Base::ByPrefix, u16::MAX)?,
    })))
}

fn usb_port(element: &Element<'_>) -> Result<Vec<u8>, Fault> {
    let Some(port) = element.value("port") else { return Ok(Vec::new()) };
    let numbers = port.split('.').map(|number| unsigned(number, Base::Decimal));
    let numbers = numbers.map(|number| u8::try_from(number?).ok().filter(|number| *number > 0));
    match numbers.collect::<Option<Vec<u8>>>() {
        Some(numbers) if numbers.len() <= USB_PORT_DEPTH_MAX => Ok(numbers),
        _ => Err(malformed(element, "port")),
    }
}

/// A number; 0 if it is absent.
fn number(element: &Element<'_>, name: &str, base: Base) -> Result<u32, Fault> {
    match element.value(name) {
        None => Ok(0),
        Some(text) => unsigned(text, base).ok_or_else(|| malformed(element, name)),
    }
}

/// A number up to `max`; 0 if it is absent.
fn small<T>(element: &Element<'_>, name: &str, base: Base, max: T) -> Result<T, Fault>
where
    T: TryFrom<u32> + PartialOrd,
{
    let number = T::try_from(number(element, name, base)?).ok();
    number.filter(|number| *number <= max).ok_or_else(|| malformed(element, name))
}

fn malformed(element: &Element<'_>, name: &str) -> Fault {
    let position = element.attribute(name).map_or(element.position, |a| a.position);
    let value = quoted(element.value(name).unwrap_or_default());
    let message = format!("{value} is not a {name} of an address, or out of range");
    Fault::new(Class::Integer, position, message)
}

/// The element, as libvirt writes it.
pub(super) fn node(address: &Address) -> Node {
    let node = |kind: &str| Node::new("address").with("type", kind);
    match address {
        Address::Pci(None) => node("pci"),
        Address::Pci(Some(PciAddress { domain, bus, slot, function, multifunction })) => {
            node("pci")
                .with("domain", format!("0x{domain:04x}"))
                .with("bus", format!("0x{bus:02x}"))
                .with("slot", format!("0x{slot:02x}"))
                .with("function", format!("0x{function:x}"))
                .with_some("multifunction", multifunction.map(super::format::on_off))
        }
        Address::VirtioSerial { controller, bus, port } => node("virtio-serial")
            .with("controller", controller.to_string())
            .with("bus", bus.to_string())
            .with("port", port.to_string()),
        Address::Usb { bus, port } => {
            let port: Vec<_> = port.iter().map(u8::to_string).collect();
            let port = Some(port.join(".")).filter(|port| !port.is_empty());
            node("usb").with("bus", bus.to_string()).with_some("port", port)
        }
        Address::SpaprVio { reg } => {
            node("spapr-vio").with_some("reg", reg.map(|reg| format!("0x{reg:08x}")))
        }
        Address::Ccw(None) => node("ccw"),
        Address::Ccw(Some(CcwAddress { cssid, ssid, devno })) => node("ccw")
            .with("cssid", format!("0x{cssid:x}"))
            .with("ssid", format!("0x{ssid:x}"))
            .with("devno", format!("0x{devno:04x}")),
        Address::VirtioMmio => node("virtio-mmio"),
        Address::Isa { iobase, irq } => {
            let hexadecimal = |number: u32| (number > 0).then(|| format!("0x{number:x}"));
            node("isa")
                .with_some("iobase", hexadecimal(*iobase))
                .with_some("irq", hexadecimal(*irq))
        }
    }
}
