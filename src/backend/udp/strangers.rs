//! Senders that may not be heard: each address is told once, and its datagrams
//! are counted by a metric. Shared by the link, which meets them, and its
//! backend, which is asked who was turned away; both belong to one task.
//!
//! Bound: `limits::SENDERS_MAX` addresses are known; whoever was met first is
//! forgotten first, and told again should they come again. Ports do not count,
//! because most senders have a new one each time.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::limits;

/// Senders that may not be heard.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    known: VecDeque<IpAddr>,
    untold: VecDeque<SocketAddr>,
}

impl Strangers {
    /// Somebody was turned away.
    pub(super) fn meet(&self, address: SocketAddr) {
        let mut met = self.lock();
        // If too many wait to be told already, this one is told when it comes again.
        if met.known.contains(&address.ip()) || met.untold.len() >= limits::SENDERS_MAX {
            return;
        }
        if met.known.len() >= limits::SENDERS_MAX {
            met.known.pop_front();
        }
        met.known.push_back(address.ip());
        met.untold.push_back(address);
    }

    /// Somebody who was turned away and has not been told yet.
    pub(super) fn next_untold(&self) -> Option<SocketAddr> {
        self.lock().untold.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
