//! Who sends datagrams to one device: kept apart, because each has its own
//! sequence of messages and may have one unfinished.
//!
//! Bound: `limits::SENDERS_MAX`; the longest silent one makes place. The peer that
//! input goes to is always among them. Looked up in order: 64 addresses are
//! quicker to compare than to hash.

use std::net::SocketAddr;

use tokio::time::Instant;

use crate::{
    device::Peer,
    limits,
    wire::netconsole::{Receiver, Record},
};

/// One sender.
#[derive(Debug)]
pub(super) struct Sender {
    address: SocketAddr,
    /// As the status tells of it.
    pub(super) peer: Peer,
    /// Its messages, if it is a kernel.
    pub(super) kernel: Receiver,
    /// Since when a message has waited for its rest.
    pub(super) unfinished: Option<Instant>,
    /// Counts up with each datagram of anybody.
    heard: u64,
    place: Held,
}

/// Whether a sender may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Always,
    WhileThereIsRoom,
}

impl Sender {
    fn new(address: SocketAddr, place: Held) -> Self {
        Self {
            address,
            peer: Peer::new(address.to_string()),
            kernel: Receiver::default(),
            unfinished: None,
            heard: 0,
            place,
        }
    }
}

/// All of them, in the order in which they were first heard.
#[derive(Debug, Default)]
pub(super) struct Senders {
    all: Vec<Sender>,
    /// Datagrams so far.
    heard: u64,
}

impl Senders {
    /// With the peer that input goes to, if there is one.
    pub(super) fn new(target: Option<SocketAddr>) -> Self {
        let all = target.map(|address| Sender::new(address, Held::Always));
        Self { all: all.into_iter().collect(), heard: 0 }
    }

    /// Who sent this datagram. If somebody had to make place, what there was of
    /// an unfinished message comes with it.
    pub(super) fn heard(&mut self, address: SocketAddr) -> (&mut Sender, Option<Record<'static>>) {
        self.heard += 1;
        let mut torn = None;
        let at = match self.all.iter().position(|sender| sender.address == address) {
            Some(at) => at,
            None => {
                if self.all.len() >= limits::SENDERS_MAX {
                    torn = self.make_place();
                }
                self.all.push(Sender::new(address, Held::WhileThereIsRoom));
                self.all.len() - 1
            }
        };
        let sender = &mut self.all[at];
        sender.heard = self.heard;
        (sender, torn)
    }

    fn make_place(&mut self) -> Option<Record<'static>> {
        let silent = self.all.iter().enumerate();
        let silent = silent.filter(|(_, sender)| sender.place == Held::WhileThereIsRoom);
        let (at, _) = silent.min_by_key(|(_, sender)| sender.heard)?;
        self.all.remove(at).kernel.abandon()
    }

    /// The one that input goes to.
    pub(super) fn target(&mut self) -> Option<&mut Sender> {
        self.all.first_mut().filter(|sender| sender.place == Held::Always)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sender> {
        self.all.iter_mut()
    }

    /// As the status tells of them.
    pub(super) fn peers(&self) -> Vec<Peer> {
        self.all.iter().map(|sender| sender.peer.clone()).collect()
    }
}
