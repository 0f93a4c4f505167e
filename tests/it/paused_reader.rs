//! A client that pauses while a console trickles in small pieces: HTTP/2
//! implementations take a pile of small unread frames for an attack and end the
//! connection. It must still be attached afterwards, and have everything.

use std::{fs::OpenOptions, io::Write};

use lineman::pb::{AttachMode, device_status::State};

use crate::harness::{Attacher, Client, Server, pty};

/// A plain client with windows of 64 KiB is cut off after about 200 pieces if
/// frames have no least size.
const PIECES: u64 = 3000;
const PIECE: &[u8] = &[b'.'; 64];

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_that_pauses_stays_attached_and_loses_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut far = OpenOptions::new().write(true).open(path).unwrap();
    let mut paused_client = Client::with_small_windows(&server).await;
    let mut paused = Attacher::new(&mut paused_client, "a", AttachMode::Observe, 0).await;
    let mut reader = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    for piece in 1..=PIECES {
        far.write_all(PIECE).unwrap();
        // One by one, so that they are not joined before they are sent.
        reader.until_offset(piece * PIECE.len() as u64).await;
    }
    paused.until_offset(PIECES * PIECE.len() as u64).await;
    assert!(paused.gaps.is_empty());
    assert_eq!(paused.seen, PIECE.repeat(usize::try_from(PIECES).unwrap()));
    // The connection is as good as before.
    paused_client.status("a").await;
}
