//! Stopping: attachers are told where to resume, what was said is kept, and the
//! server ends with exit code 0; a second signal does not wait.

use std::{fs, io::Write};

use lineman::pb::{AttachMode, device_status::State, ended::Reason, journal_position::At};
use rustix::process::Signal;

use crate::harness::{Attacher, Server, pty, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn attachers_are_told_where_to_resume() {
    let mut server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"before").unwrap();
    attacher.until_offset(6).await;
    let request = lineman::pb::WatchDevicesRequest::default();
    let mut watch = client.devices.watch_devices(request).await.unwrap().into_inner();

    server.signal(Signal::TERM);
    attacher.drain().await.unwrap();
    let ended = attacher.ended.as_ref().unwrap();
    assert_eq!((ended.reason(), ended.resume_offset), (Reason::ShuttingDown, 6));
    let watch = async {
        while watch.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let error = crate::harness::soon("end of the watch", watch).await.unwrap_err();
    assert_eq!(crate::harness::reason(&error), "SHUTTING_DOWN");
    assert!(server.ended().await.success());
    assert!(server.log().contains("stopped"));

    server.start_again();
    let mut client = server.client().await;
    let status = client.until_state("a", State::Connected).await;
    let journal = status.journal.unwrap();
    assert_eq!((journal.next_offset, journal.recovery.as_str()), (6, ""), "closed in order");
    fs::OpenOptions::new()
        .write(true)
        .open(&status.pty_path)
        .unwrap()
        .write_all(b" after")
        .unwrap();
    let mut attacher =
        Attacher::open(&mut client, start("a", AttachMode::Write, At::Offset(6))).await.unwrap();
    attacher.until_offset(12).await;
    assert_eq!(attacher.text(), " after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_leave_does_not_keep_the_server() {
    let mut server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    // Attached, with a request side that stays open and nobody who reads.
    let attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    drop(attacher);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_keep_it_from_closing_in_order() {
    let mut server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    // One who says nothing, one who watches health without a token, and one who
    // reads nothing of a flood.
    let silent = std::net::TcpStream::connect(server.address()).unwrap();
    let health = crate::harness::Client::watch_health(&server).await;
    let mut stuck_client = crate::harness::Client::with_small_windows(&server).await;
    let stuck = Attacher::new(&mut stuck_client, "a", AttachMode::Write, 0).await;
    let mut far = fs::OpenOptions::new().write(true).open(&path).unwrap();
    far.write_all(&[b'x'; 1 << 20]).unwrap();
    let said = |status: &lineman::pb::DeviceStatus| status.output_bytes == 1 << 20;
    client.until_status("a", "flood in the journal", said).await;
    assert!(server.stop().await.success());
    let log = server.log();
    assert!(log.contains("connections were cut") && log.contains("stopped"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    drop((silent, health, stuck));

    server.start_again();
    let journal = server.client().await.status("a").await.journal.unwrap();
    assert_eq!((journal.next_offset, journal.recovery.as_str()), (1 << 20, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let mut server = Server::start();
    // A connection that never says a word makes the drain wait for its deadline.
    let silent = std::net::TcpStream::connect(server.address()).unwrap();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    server.signal(Signal::INT);
    let log =
        until("start of the stop", || Some(server.log()).filter(|log| log.contains("stopping")));
    log.await;
    server.signal(Signal::INT);
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("stopping at once"));
    drop(silent);
}
