//! One attacher stops reading: the device and the others do not notice, memory
//! stays bounded, and the slow one later has every byte, or is told exactly
//! which it has not.

use std::time::Instant;

use lineman::pb::{AttachMode, JournalSpec};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{Attacher, Server, connect_tcp, soon};

const BURST: usize = 64 << 20;
/// How far the far side may be ahead of the fast attacher: less than is kept.
const LEAD: u64 = 2 << 20;
/// ARCHITECTURE.md, "Memory": one tail, its unwritten part, two attachers with
/// their send buffers and disk reads, and the allocator's slack.
const GROWTH_MAX: u64 = 24 << 20;

/// Bytes whose place is seen from their value.
fn pattern(offset: usize) -> u8 {
    let word = (offset / 8) as u64;
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[offset % 8]
}

/// Sends as fast as `seen` by the fast attacher allows: retention must pass the
/// stuck one, not one that only has to share a busy processor.
async fn burst(mut stream: TcpStream, mut seen: watch::Receiver<u64>) {
    let mut sent = 0;
    while sent < BURST {
        seen.wait_for(|seen| *seen + LEAD >= sent as u64).await.unwrap();
        let piece: Vec<u8> = (sent..(sent + (64 << 10)).min(BURST)).map(pattern).collect();
        stream.write_all(&piece).await.unwrap();
        sent += piece.len();
    }
    stream.flush().await.unwrap();
    // The far side stays, as a machine does that has nothing more to say.
    std::mem::forget(stream);
}

async fn check(retention_bytes: u64) -> (Attacher, u64) {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = server.client().await;
    let mut device = connect_tcp(listener.local_addr().unwrap().port());
    device.spec.as_mut().unwrap().journal = Some(JournalSpec { retention_bytes });
    client.create("chatty", device).await;
    let (stream, _) = soon("connection", listener.accept()).await.unwrap();

    let mut slow_client = server.client().await;
    let mut slow = Attacher::new(&mut slow_client, "chatty", AttachMode::Observe, 0).await;
    let mut fast = Attacher::new(&mut client, "chatty", AttachMode::Observe, 0).await;
    let before = server.resident_bytes();
    let (seen, seen_by_burst) = watch::channel(0);
    let sending = tokio::spawn(burst(stream, seen_by_burst));
    let began = Instant::now();
    let mut most = before;
    let mut look = 0;
    while fast.next_offset < BURST as u64 {
        assert!(fast.next().await.unwrap());
        seen.send_replace(fast.next_offset);
        if fast.next_offset > look {
            look = fast.next_offset + (1 << 20);
            most = most.max(server.resident_bytes());
        }
    }
    sending.await.unwrap();
    println!(
        "64 MiB past a stuck attacher in {:?}; memory grew by {} KiB",
        began.elapsed(),
        (most - before) >> 10
    );
    assert!(most - before < GROWTH_MAX, "memory grew by {} bytes", most - before);
    assert!(fast.gaps.is_empty());
    assert!(fast.seen.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));

    slow.until_offset(BURST as u64).await;
    let oldest = client.status("chatty").await.journal.unwrap().oldest_offset;
    (slow, oldest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_attacher_disturbs_nobody_and_later_has_every_byte() {
    let (slow, _) = check(128 << 20).await;
    assert!(slow.gaps.is_empty());
    assert_eq!(slow.seen.len(), BURST);
    assert!(slow.seen.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_passed_is_told_exactly() {
    let (slow, oldest) = check(4 << 20).await;
    let missing: u64 = slow.gaps.iter().map(|gap| gap.to_offset - gap.from_offset).sum();
    assert!(missing > 0, "4 MiB of 64 are kept");
    assert_eq!(slow.seen.len() as u64 + missing, BURST as u64);
    assert!(slow.gaps.last().unwrap().to_offset >= oldest.min(slow.gaps[0].to_offset));
    let mut offset = 0;
    let mut gaps = slow.gaps.iter().peekable();
    for byte in &slow.seen {
        if let Some(gap) = gaps.next_if(|gap| gap.from_offset == offset) {
            offset = gap.to_offset;
        }
        assert_eq!(*byte, pattern(usize::try_from(offset).unwrap()), "at {offset}");
        offset += 1;
    }
}
