//! One writes, others watch; everybody sees who; force says by whom.

use std::{fs::OpenOptions, io::Read};

use lineman::pb::{AttachMode, device_status::State, input_ack::Refusal, journal_position::At};
use tokio::{io::AsyncReadExt, net::TcpListener, task::spawn_blocking};

use crate::harness::{Attacher, Client, Server, connect_tcp, pty, reason, soon, start};

async fn person(client: &mut Client, name: &str, mode: AttachMode) -> Attacher {
    let mut start = start("a", mode, At::Offset(0));
    start.client = name.into();
    Attacher::open(client, start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_and_the_others_see_who() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut anna = person(&mut client, "anna", AttachMode::Write).await;
    assert!(anna.writer.is_me);
    let mut bert = person(&mut client, "bert", AttachMode::Write).await;
    assert!(!bert.writer.is_me);
    assert_eq!(bert.writer.writers, ["admin (anna)"]);
    assert_eq!(client.status("a").await.writer, "admin (anna)");

    bert.type_text("no").await;
    bert.until("refusal", |b| b.ack.refusal() == Refusal::NotWriter).await;
    let error = client.write("a", b"no").await.unwrap_err();
    assert_eq!(reason(&error), "NOT_WRITER");
    assert!(error.message().contains("admin (anna)"), "{}", error.message());

    // Bert waits, Carl waits after him; Anna releases.
    bert.claim(AttachMode::WriteWait).await;
    bert.until("place in the queue", |b| b.writer.queue_position == 1).await;
    let mut carl = person(&mut client, "carl", AttachMode::WriteWait).await;
    assert_eq!(carl.writer.queue_position, 2);
    anna.claim(AttachMode::Observe).await;
    bert.until("right to write", |b| b.writer.is_me).await;
    anna.until("new writer", |a| a.writer.writers == ["admin (bert)"]).await;
    carl.until("next in the queue", |c| c.writer.queue_position == 1).await;

    // Carl takes it; Bert is told by whom, and does not get it back by itself.
    carl.claim(AttachMode::WriteForce).await;
    bert.until("loss by force", |b| b.writer.taken_by == "admin (carl)").await;
    assert!(!bert.writer.is_me);
    carl.until("right to write", |c| c.writer.is_me).await;
    carl.type_text("carl was here").await;
    carl.until("acknowledgement", |c| c.ack.offset == 13).await;
    let mut got = [0; 13];
    let far = spawn_blocking(move || {
        OpenOptions::new().read(true).open(path).unwrap().read_exact(&mut got).map(|()| got)
    });
    assert_eq!(&soon("input", far).await.unwrap().unwrap(), b"carl was here");

    // Gone, however that comes about, the device is free.
    drop(carl);
    anna.until("free device", |a| a.writer.writers.is_empty()).await;
    client.until_status("a", "two attachments", |s| s.attachment_count == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_more_lets_others_write_and_still_watches() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut attacher = person(&mut client, "anna", AttachMode::Write).await;
    attacher.type_text("all").await;
    attacher.half_close();
    attacher.until("release", |a| !a.writer.is_me && a.ack.offset == 3).await;
    assert_eq!(client.write("a", b"more").await.unwrap(), 4);
    std::fs::write(path, "still here").unwrap();
    attacher.until_offset(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_departed_attacher_left_in_the_queue_does_not_reach_the_device() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut attacher = person(&mut client, "anna", AttachMode::Write).await;
    // Nobody reads the far side: the kernel's buffer fills, the rest waits.
    attacher.type_bytes(Some(0), &[b'x'; 40_000]).await;
    attacher
        .until("input in the queue", |a| a.ack.queued_offset == 40_000 && a.ack.offset > 0)
        .await;
    let mut written = attacher.ack.offset;
    drop(attacher);
    let status = client.until_status("a", "departure", |s| s.attachment_count == 0).await;
    written = written.max(status.input_bytes);
    assert_eq!(status.input_dropped_bytes + status.input_bytes, 40_000);
    let got = spawn_blocking(move || {
        let mut far = OpenOptions::new().read(true).open(path).unwrap();
        let mut got = vec![0; usize::try_from(written).unwrap()];
        far.read_exact(&mut got).map(|()| far)
    });
    soon("what was written", got).await.unwrap().unwrap();
    // The lock is free at once, too.
    assert_eq!(client.write("a", b"next").await.unwrap(), 4);
    assert_eq!(client.status("a").await.input_bytes, written + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_writing_needs_the_specs_consent() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let start = start("a", AttachMode::WriteShared, At::Offset(0));
    let error = Attacher::open(&mut client, start).await.err().unwrap();
    assert_eq!(reason(&error), "SHARING_DISABLED");
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paste_of_ten_megabytes_into_a_slow_far_side_arrives_whole() {
    const PASTE: usize = 10 << 20;
    const WINDOW: u64 = 32 << 10;
    let server = Server::start();
    let mut client = server.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.create("a", connect_tcp(listener.local_addr().unwrap().port())).await;
    let (mut far, _) = soon("connection", listener.accept()).await.unwrap();
    let mut attacher = person(&mut client, "paste", AttachMode::Write).await;
    attacher.until("link", |a| a.state.state() == State::Connected).await;
    let before = server.resident_bytes();
    let byte = |at: usize| u8::try_from(at % 251).unwrap();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        let mut piece = [0; 1000];
        while got.len() < PASTE {
            let n = far.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..n]);
            tokio::task::yield_now().await;
        }
        got
    });
    let mut sent = 0;
    while sent < PASTE {
        let end = (sent + 8192).min(PASTE);
        let piece: Vec<u8> = (sent..end).map(byte).collect();
        attacher.type_bytes(Some(sent as u64), &piece).await;
        sent = end;
        let allowed = (sent as u64).saturating_sub(WINDOW);
        attacher.until("acknowledgement", |a| a.ack.offset >= allowed).await;
        assert_eq!(attacher.ack.refusal(), Refusal::Unspecified);
    }
    let got = soon("paste at the far side", reading).await.unwrap();
    assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)));
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_sent_again_without_loss() {
    let server = Server::start();
    let mut client = server.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.create("a", connect_tcp(listener.local_addr().unwrap().port())).await;
    let (mut far, _) = soon("connection", listener.accept()).await.unwrap();
    let mut attacher = person(&mut client, "flood", AttachMode::Write).await;
    attacher.until("link", |a| a.state.state() == State::Connected).await;
    // The far side takes nothing: the kernel's buffers fill, then ours.
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0u64;
    while attacher.ack.refusal() != Refusal::QueueFull {
        attacher.type_bytes(Some(sent), &piece).await;
        sent += piece.len() as u64;
        while let Ok(more) =
            tokio::time::timeout(std::time::Duration::from_millis(20), attacher.next()).await
        {
            assert!(more.unwrap());
        }
        assert!(sent < 64 << 20, "refused at some point");
    }
    // A release of the write lock is heard all the same.
    attacher.claim(AttachMode::Observe).await;
    attacher.until("release", |a| !a.writer.is_me).await;
    attacher.claim(AttachMode::Write).await;
    attacher.until("claim", |a| a.writer.is_me).await;
    // The far side begins to read; what was refused is sent again.
    let total = attacher.ack.queued_offset.max(sent);
    let reading = tokio::spawn(async move {
        let mut got = vec![0; usize::try_from(total).unwrap()];
        far.read_exact(&mut got).await.map(|_| got)
    });
    while attacher.ack.offset < total {
        let from = attacher.ack.offset;
        let n = (total - from).min(piece.len() as u64);
        attacher.type_bytes(Some(from), &piece[..usize::try_from(n).unwrap()]).await;
        attacher.until("progress", |a| a.ack.offset > from).await;
    }
    assert!(soon("input", reading).await.unwrap().unwrap().iter().all(|byte| *byte == b'x'));
    assert_eq!(client.status("a").await.input_bytes, total, "nothing twice");
}
