//! libvirt's XML of character devices: what `console`, `serial`, `parallel` and
//! `channel` mean on the host's side, read as libvirt 9.0.0 reads it and written
//! as libvirt writes it.
//!
//! A room of its own because the rules are libvirt's, not ours: what is accepted,
//! which defaults apply, what is dropped, and that the first console and the
//! first serial of a full virtual machine are one device. It is pure: bytes in,
//! a [`Domain`] out, and text again; no file, no clock, no device of a server.
//!
//! - `xml`: a small tree of the elements that count, with their places.
//! - `parse`, `source`, `address`: one element to one [`CharDevice`].
//! - `domain`: the document, port numbers, the pair of console and serial.
//! - `format`: back to text.
//!
//! Invariants:
//!
//! - [`parse`] returns what libvirt would store (its *inactive* form). Written
//!   and read again it is the same, except that a console in front of which a
//!   mirror was put counts one further the second time, as in libvirt 9.0.
//! - A document is read whole or not at all; all of its faults are told, one for
//!   each device and one for each rule of the whole domain, in the order in which
//!   libvirt would meet them.
//! - What others wrote costs little: `limits::DOMAIN_*` bound bytes, depth,
//!   elements, attributes and devices, and nothing is ever expanded or fetched:
//!   a DOCTYPE is refused, and so is every entity but XML's own five.
//!
//! Stricter than libvirt on purpose: what XML forbids is refused even where
//! libxml2 lets it pass; a `guestfwd` address has four numbers; an address must be
//! of a kind that a character device can have; a serial of type `spicevmc` cannot
//! be mirrored, and no port goes past 2147483647, because libvirt cannot read back
//! what it writes then. Tab, line feed and carriage return in a value are written
//! as references; libvirt writes them raw, and they come back as blanks.

mod address;
mod domain;
mod fault;
mod format;
mod model;
mod number;
mod parse;
mod source;
#[cfg(test)]
mod tests;
mod words;
mod xml;

pub use self::{
    address::{Address, CcwAddress, PciAddress},
    domain::{Domain, OsType, parse, settle},
    fault::{Class, Fault, Position},
    format::{Flavour, Style, write},
    model::{
        ChannelState, ChannelTarget, CharDevice, ConsoleTarget, Element, Interface, Log, Mode,
        MouseMode, Protocol, Reconnect, Role, SecLabel, SerialModel, SerialTarget, Source, Support,
        Target, TcpSource, UdpBind, UdpSource, UnixSource,
    },
};
