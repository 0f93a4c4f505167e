//! libvirt domain XML in and out: what an operator has of a domain becomes
//! devices, and devices become what the operator had.
//!
//! The XML itself is the room `libvirt`'s; here its character devices meet our
//! specs. An import reports every fault at its place in the document and makes
//! all devices or none. What a spec has no word for (the guest's side: target,
//! alias, address, labels) is kept in `spec.libvirt.guest` as it came, so that
//! an export gives it back.

mod export;
mod guest;
mod import;

pub(super) use self::{
    export::serve as export, guest::check as check_guest, import::serve as import,
};
