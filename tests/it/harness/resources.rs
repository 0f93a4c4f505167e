//! What the server holds, counted by the kernel: what is taken with each link and
//! not given back shows after a few hundred of them.

use std::fs;

use lineman::pb::device_status::State;

use super::{Client, Server, until_async};

/// Descriptors, threads and memory of the server at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) bytes: u64,
}

impl Resources {
    pub(crate) fn of(server: &Server) -> Self {
        let count = |what: &str| {
            let path = format!("/proc/{}/{what}", server.pid().as_raw_nonzero());
            fs::read_dir(path).unwrap().count()
        };
        Self { descriptors: count("fd"), threads: count("task"), bytes: server.resident_bytes() }
    }
}

/// Longer than a segment or a socket is kept open for what may come.
const CYCLES: usize = 200;
/// Nothing that a link holds is this small; the allocator's own wandering is.
const GROWTH_MAX: u64 = 4 << 20;
/// Threads for blocking work come and go by themselves; one a link would not.
const THREADS_MAX: usize = 16;

/// Fails if the server holds more than before.
pub(crate) fn is_given_back(server: &Server, before: Resources) {
    let after = Resources::of(server);
    println!("from {before:?} to {after:?}");
    // A file that is being written just now is open.
    assert!(after.descriptors <= before.descriptors + 4, "{before:?} {after:?}");
    assert!(after.bytes < before.bytes + GROWTH_MAX, "{before:?} {after:?}");
    assert!(after.threads <= before.threads + THREADS_MAX, "{before:?} {after:?}");
}

/// Stops and starts the device again and again: nothing may be left of the links.
pub(crate) async fn opens_and_closes(server: &Server, client: &mut Client, id: &str) {
    let mut before = None;
    for cycle in 0..CYCLES {
        client.stop(id).await;
        client.until_state(id, State::Stopped).await;
        client.start(id).await;
        client.until_state(id, State::Connected).await;
        // What is made once is made by then.
        if cycle == CYCLES / 10 {
            before = Some(Resources::of(server));
        }
    }
    let before = before.unwrap();
    let what = format!("{id}: as many descriptors as before, {before:?}");
    let after = until_async(&what, async || {
        Some(Resources::of(server)).filter(|now| now.descriptors <= before.descriptors)
    })
    .await;
    println!("{id}: {CYCLES} links, from {before:?} to {after:?}");
    assert!(after.bytes < before.bytes + GROWTH_MAX, "{before:?} {after:?}");
    assert!(after.threads <= before.threads + THREADS_MAX, "{before:?} {after:?}");
}
