//! `spec.log`: a console's bytes in a file, beside the journal. The file has
//! exactly what the journal has, and its disk never is the console's problem.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use lineman::pb::{self, AttachMode, JournalSpec, Switch, device_status::State};
use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    Attacher, Client, Disk, Resources, Server, condition, connect_tcp, file, holds, is_given_back,
    log, metric, null, numbered_lines, pty, send_all, soon, stdio, until, with_log,
};

/// A device that says what a test writes into the stream, with a copy.
async fn copied(client: &mut Client, path: &Path, append: Switch) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let device = connect_tcp(listener.local_addr().unwrap().port());
    let mut device = with_log(device, path, append);
    device.spec.as_mut().unwrap().journal = Some(JournalSpec { retention_bytes: 1 << 30 });
    client.create("a", device).await;
    soon("connection", listener.accept()).await.unwrap().0
}

async fn server() -> (Server, Client, PathBuf) {
    let server = Server::start();
    let client = server.client().await;
    let path = server.dir().join("a.log");
    (server, client, path)
}

async fn until_copied(path: &Path, len: usize) {
    until("the copy", || (fs::metadata(path).ok()?.len() >= len as u64).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_flood_is_the_journal() {
    let (server, mut client, path) = server().await;
    let mut far = copied(&mut client, &path, Switch::Unspecified).await;
    let every_byte: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let data = [every_byte, numbered_lines(24 << 20)].concat();
    far.write_all(&data).await.unwrap();
    until_copied(&path, data.len()).await;
    assert!(fs::read(&path).unwrap() == data);
    let (history, gaps) = client.history("a").await;
    assert!(history == data && gaps.is_empty());
    let status = client.status("a").await;
    let fine = condition(&status, "LogDegraded").unwrap();
    assert_eq!((fine.status(), fine.reason.as_str()), (pb::condition::Status::False, "Written"));
    assert_eq!(status.log_lost_bytes, 0);
    assert_eq!(metric(&server, "log_written_bytes").await, i64::try_from(data.len()).unwrap());

    // It is small talk, too.
    for text in ["a", "b", "c"] {
        far.write_all(text.as_bytes()).await.unwrap();
        until("the copy", || fs::read(&path).unwrap().ends_with(text.as_bytes()).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_output_the_input_is_copied() {
    let (server, mut client, _) = server().await;
    let data: Vec<u8> = numbered_lines(2 << 20);
    let other = server.dir().join("file");
    for (id, device) in
        [("null", null()), ("file", file(&other, Switch::Unspecified)), ("stdio", stdio("vm"))]
    {
        let path = server.dir().join(format!("{id}.log"));
        client.create(id, with_log(device, &path, Switch::Unspecified)).await;
        client.until_state(id, State::Connected).await;
        send_all(&mut client, id, &data).await;
        until_copied(&path, data.len()).await;
        assert!(fs::read(&path).unwrap() == data, "{id}");
        assert_eq!(client.status(id).await.log_lost_bytes, 0);
    }
    assert!(fs::read(&other).unwrap() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_emptied_at_each_start_unless_it_is_to_be_kept() {
    let (server, mut client, _) = server().await;
    for (append, kept) in [(Switch::Unspecified, false), (Switch::Off, false), (Switch::On, true)] {
        let id = format!("append-{}", append as i32);
        let path = server.dir().join(&id);
        fs::write(&path, "old").unwrap();
        let made = client.create(&id, with_log(null(), &path, append)).await;
        assert_eq!(made.spec.unwrap().log, log(&path, append), "the three are told apart");
        let is = async |text: &str| {
            until(text, || (fs::read_to_string(&path).unwrap() == text).then_some(())).await;
        };
        client.until_state(&id, State::Connected).await;
        client.write(&id, b"one").await.unwrap();
        is(if kept { "oldone" } else { "one" }).await;
        client.stop(&id).await;
        client.until_state(&id, State::Stopped).await;
        client.start(&id).await;
        is(if kept { "oldone" } else { "" }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_copy_stops_nothing_says_so_and_heals_from_where_it_was() {
    let (server, mut client, _) = server().await;
    let Some(disk) = Disk::small(&server, "disk", 4 << 20) else { return };
    let path = disk.path().join("a.log");
    let mut far = copied(&mut client, &path, Switch::Unspecified).await;
    fs::write(disk.path().join("more"), vec![0; 3_500_000]).unwrap();
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    let data = numbered_lines(3 << 20);
    far.write_all(&data).await.unwrap();
    attacher.until_offset(data.len() as u64).await;
    assert!(attacher.seen == data && attacher.gaps.is_empty(), "the console goes on");
    let status = client.until_status("a", "condition", |s| holds(s, "LogDegraded")).await;
    let degraded = condition(&status, "LogDegraded").unwrap();
    assert_eq!(degraded.reason, "DiskFull");
    assert!(degraded.message.contains("the disk is full"), "{}", degraded.message);
    assert_eq!(status.state(), State::Connected);
    assert!(data.starts_with(&fs::read(&path).unwrap()));
    assert!(metric(&server, "log_errors").await > 0);
    assert!(server.log().contains("the copy of the console is not written"));

    fs::remove_file(disk.path().join("more")).unwrap();
    let status = client.until_status("a", "healing", |s| !holds(s, "LogDegraded")).await;
    assert_eq!(status.log_lost_bytes, 0);
    until_copied(&path, data.len()).await;
    assert!(fs::read(&path).unwrap() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_while_the_disk_was_full_is_counted() {
    let (server, mut client, _) = server().await;
    let Some(disk) = Disk::small(&server, "disk", 4 << 20) else { return };
    let path = disk.path().join("a.log");
    let mut far = copied(&mut client, &path, Switch::Unspecified).await;
    client.change("a", |spec| spec.journal = Some(JournalSpec { retention_bytes: 64 << 10 })).await;
    disk.fill();
    let data = numbered_lines(8 << 20);
    far.write_all(&data).await.unwrap();
    client.until_status("a", "condition", |s| holds(s, "LogDegraded")).await;
    client.until_status("a", "output", |s| s.output_bytes == data.len() as u64).await;
    // The tail in memory is dropped when it is quiet.
    client
        .until_status("a", "retention", |s| s.journal.as_ref().unwrap().oldest_offset > 6 << 20)
        .await;
    disk.make_room();
    client.until_status("a", "healing", |s| !holds(s, "LogDegraded")).await;
    far.write_all(b"end").await.unwrap();
    until("the end", || fs::read(&path).unwrap().ends_with(b"end").then_some(())).await;
    let lost = client.status("a").await.log_lost_bytes;
    let held = fs::read(&path).unwrap();
    println!("{lost} bytes lost, {} held", held.len());
    assert!(lost > 0);
    assert_eq!(held.len() as u64 + lost, data.len() as u64 + 3, "counted to the byte");
    assert_eq!(metric(&server, "log_lost_bytes").await, i64::try_from(lost).unwrap());
    assert!(server.log().contains("bytes are missing from the copy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_never_waits_for_a_copy_that_fails_and_what_is_left_out_is_counted() {
    let (server, mut client, _) = server().await;
    let Some(disk) = Disk::small(&server, "disk", 8 << 20) else { return };
    let path = disk.path().join("a.log");
    client.create("a", with_log(null(), &path, Switch::Unspecified)).await;
    client.until_state("a", State::Connected).await;
    disk.fill();
    let data = numbered_lines(2 << 20);
    send_all(&mut client, "a", &data).await;
    let status = client.until_status("a", "condition", |s| holds(s, "LogDegraded")).await;
    assert_eq!(status.input_bytes, data.len() as u64);
    disk.make_room();
    client.until_status("a", "healing", |s| !holds(s, "LogDegraded")).await;
    client.write("a", b"end").await.unwrap();
    until("the end", || fs::read(&path).unwrap().ends_with(b"end").then_some(())).await;
    let lost = client.status("a").await.log_lost_bytes;
    let held = fs::read(&path).unwrap();
    assert!(lost > 1 << 20, "{lost}");
    assert_eq!(held.len() as u64 + lost, data.len() as u64 + 3, "counted to the byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_the_copy_that_hangs_stops_nothing() {
    let (server, mut client, _) = server().await;
    let Some(disk) = Disk::that_can_hang(&server, "disk") else { return };
    let path = disk.path().join("a.log");
    let mut far = copied(&mut client, &path, Switch::Unspecified).await;
    far.write_all(b"before\n").await.unwrap();
    until_copied(&path, 7).await;
    disk.hang();
    let data = numbered_lines(1 << 20);
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 7).await;
    far.write_all(&data).await.unwrap();
    attacher.until_offset(7 + data.len() as u64).await;
    let status = client.until_status("a", "condition", |s| holds(s, "LogDegraded")).await;
    assert_eq!(condition(&status, "LogDegraded").unwrap().reason, "DiskStalled");
    disk.go_on();
    client.until_status("a", "healing", |s| !holds(s, "LogDegraded")).await;
    until_copied(&path, 7 + data.len()).await;
    assert!(fs::read(&path).unwrap() == [&b"before\n"[..], &data].concat());
    // A stop does not wait for a hang for long, and counts.
    disk.hang();
    far.write_all(b"never").await.unwrap();
    attacher.until_offset(7 + data.len() as u64 + 5).await;
    client.stop("a").await;
    client.until_state("a", State::Stopped).await;
    assert_eq!(client.status("a").await.log_lost_bytes, 5);
    disk.go_on();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_is_told_and_the_console_goes_on() {
    let (server, mut client, path) = server().await;
    symlink("elsewhere", &path).unwrap();
    let mut far = copied(&mut client, &path, Switch::On).await;
    let status = client.until_status("a", "condition", |s| holds(s, "LogDegraded")).await;
    let degraded = condition(&status, "LogDegraded").unwrap();
    assert_eq!(degraded.reason, "CannotOpen");
    assert!(degraded.message.contains("is a symbolic link"), "{}", degraded.message);
    far.write_all(b"hello").await.unwrap();
    client.until_status("a", "output", |s| s.output_bytes == 5).await;
    fs::remove_file(&path).unwrap();
    until_copied(&path, 5).await;
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert!(!server.dir().join("elsewhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_needs_no_other_link_and_goes_on_at_the_next_byte() {
    let (server, mut client, path) = server().await;
    let mut far = copied(&mut client, &path, Switch::Unspecified).await;
    let data = numbered_lines(6 << 20);
    let mut paths = vec![path];
    for (at, part) in data.chunks(data.len() / 6).enumerate() {
        far.write_all(part).await.unwrap();
        let next = server.dir().join(format!("log.{at}"));
        client.change("a", |spec| spec.log = log(&next, Switch::Unspecified)).await;
        paths.push(next);
    }
    let files = || -> Vec<u8> {
        paths.iter().flat_map(|path| fs::read(path).unwrap_or_default()).collect()
    };
    until("all of it", || (files().len() >= data.len()).then_some(())).await;
    assert!(files() == data, "each byte once, in order");
    assert_eq!(client.status("a").await.link_count, 1);
    client.change("a", |spec| spec.log = None).await;
    assert_eq!(condition(&client.status("a").await, "LogDegraded"), None);
    far.write_all(b"unlogged").await.unwrap();
    client.until_status("a", "output", |s| s.output_bytes == data.len() as u64 + 8).await;
    assert_eq!(files().len(), data.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_device_or_server_writes_what_the_journal_has() {
    let (mut server, mut client, path) = server().await;
    let mut far = copied(&mut client, &path, Switch::On).await;
    let data = numbered_lines(2 << 20);
    far.write_all(&data).await.unwrap();
    client.until_status("a", "output", |s| s.output_bytes == data.len() as u64).await;
    client.stop("a").await;
    client.until_state("a", State::Stopped).await;
    assert!(fs::read(&path).unwrap() == data);

    // Without a far side it would wait in a back-off.
    client.change("a", |spec| spec.host_interface = null().spec.unwrap().host_interface).await;
    client.start("a").await;
    client.until_state("a", State::Connected).await;
    send_all(&mut client, "a", &data).await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(fs::read(&path).unwrap() == data.repeat(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_copy_is_a_part_of_the_journal_in_order() {
    let (mut server, mut client, path) = server().await;
    let mut far = copied(&mut client, &path, Switch::On).await;
    let data = numbered_lines(4 << 20);
    let flood = data.clone();
    let sender = tokio::spawn(async move { far.write_all(&flood).await.ok() });
    until_copied(&path, 500_000).await;
    server.kill();
    sender.await.unwrap();
    let held = fs::read(&path).unwrap();
    assert!(data.starts_with(&held));
    server.start_again();
    let (history, _) = server.client().await.history("a").await;
    assert!(data.starts_with(&history) && history.len() >= held.len(), "the journal has it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotator_gets_along_with_the_copy() {
    let (server, mut client, path) = server().await;
    let mut far = copied(&mut client, &path, Switch::On).await;
    let data = numbered_lines(16 << 20);
    let flood = data.clone();
    let sender = tokio::spawn(async move {
        far.write_all(&flood).await.unwrap();
        far
    });
    let mut paths = Vec::new();
    for at in 0..10 {
        until_copied(&path, 100_000).await;
        let old = server.dir().join(format!("old.{at}"));
        fs::rename(&path, &old).unwrap();
        paths.push(old);
    }
    paths.push(path);
    let files = || -> Vec<u8> {
        paths.iter().flat_map(|path| fs::read(path).unwrap_or_default()).collect()
    };
    let _far = soon("end of the flood", sender).await.unwrap();
    until("all of it", || (files().len() >= data.len()).then_some(())).await;
    assert!(files() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_starts_leave_nothing_behind() {
    let (server, mut client, path) = server().await;
    client.create("a", with_log(pty(), &path, Switch::On)).await;
    let mut before = None;
    for round in 0..240 {
        let status = client.until_state("a", State::Connected).await;
        let mut far = fs::OpenOptions::new().write(true).open(&status.pty_path).unwrap();
        std::io::Write::write_all(&mut far, b"0123456789").unwrap();
        until_copied(&path, 10 * (round + 1)).await;
        client.stop("a").await;
        client.until_state("a", State::Stopped).await;
        client.start("a").await;
        if round == 40 {
            before = Some(Resources::of(&server));
        }
    }
    client.until_state("a", State::Connected).await;
    is_given_back(&server, before.unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 2400);
}
