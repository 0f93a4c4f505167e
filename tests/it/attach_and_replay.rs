//! Coming later: everyone begins where they ask, and history and live output
//! have no seam.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    time::SystemTime,
};

use lineman::pb::{
    self, AttachMode,
    device_status::State,
    journal_position::{At, Edge},
    read_output_request::Until,
    read_output_response::Message,
};

use crate::harness::{Attacher, Client, Server, pty, soon, start, until_async};

async fn far_side(client: &mut Client) -> File {
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    OpenOptions::new().write(true).open(path).unwrap()
}

async fn until_said(client: &mut Client, offset: u64) {
    let said = |status: &pb::DeviceStatus| status.journal.as_ref().unwrap().next_offset >= offset;
    client.until_status("a", "output in the journal", said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_begins_where_they_ask() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut far = far_side(&mut client).await;
    far.write_all(b"one\ntwo\nthree\n").unwrap();
    until_said(&mut client, 14).await;
    let between = SystemTime::now();
    far.write_all(b"four\n").unwrap();
    until_said(&mut client, 19).await;
    for (at, offset) in [
        (At::Offset(4), 4),
        (At::Offset(1 << 60), 19),
        (At::LastBytes(5), 14),
        (At::LastBytes(5000), 0),
        (At::LastLines(2), 8),
        (At::Time(between.into()), 14),
        (At::Edge(Edge::Beginning.into()), 0),
        (At::Edge(Edge::Now.into()), 19),
    ] {
        let attacher =
            Attacher::open(&mut client, start("a", AttachMode::Observe, at)).await.unwrap();
        let started = &attacher.started;
        let told = (started.offset, started.oldest_offset, started.next_offset);
        assert_eq!(told, (offset, 0, 19), "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_live_output_have_no_seam() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut far = far_side(&mut client).await;
    let writer = std::thread::spawn(move || {
        for line in 0..20_000 {
            far.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
        far
    });
    // Each of them comes in the middle of it.
    let mut attachers = Vec::new();
    for round in 1..=8 {
        until_said(&mut client, round * 20_000).await;
        attachers.push(Attacher::new(&mut client, "a", AttachMode::Observe, 0).await);
    }
    let _far = writer.join().unwrap();
    let expected: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    for mut attacher in attachers {
        attacher.until_offset(expected.len() as u64).await;
        assert!(attacher.text() == expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_where_it_was_asked_to() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut far = far_side(&mut client).await;
    far.write_all(b"before|").unwrap();
    until_said(&mut client, 7).await;
    let between = SystemTime::now();
    far.write_all(b"after|").unwrap();
    until_said(&mut client, 13).await;

    let read = async |client: &mut Client, from, until, follow| {
        let request = pb::ReadOutputRequest {
            device: "devices/a".into(),
            from: Some(pb::JournalPosition { at: Some(from) }),
            until,
            follow,
            encoding: 0,
        };
        let mut stream = client.console.read_output(request).await.unwrap().into_inner();
        let mut text = Vec::new();
        while let Some(message) = soon("output", stream.message()).await.unwrap() {
            if let Some(Message::Output(output)) = message.message {
                text.extend_from_slice(&output.data);
            }
        }
        String::from_utf8(text).unwrap()
    };
    let beginning = At::Edge(Edge::Beginning.into());
    assert_eq!(read(&mut client, beginning, None, false).await, "before|after|");
    assert_eq!(
        read(&mut client, At::Offset(3), Some(Until::UntilOffset(9)), false).await,
        "ore|af"
    );
    let until = Some(Until::UntilTime(between.into()));
    assert_eq!(read(&mut client, beginning, until, false).await, "before|");
    assert_eq!(read(&mut client, At::Time(between.into()), None, false).await, "after|");
    // Following, it ends as soon as the offset has come.
    let mut other = client.clone();
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        let request = pb::ReadOutputRequest {
            device: "devices/a".into(),
            from: Some(pb::JournalPosition { at: Some(At::Offset(13)) }),
            until: Some(Until::UntilOffset(17)),
            follow: true,
            encoding: 0,
        };
        let mut stream = other.console.read_output(request).await.unwrap().into_inner();
        while let Some(message) = stream.message().await.unwrap() {
            if let Some(Message::Output(output)) = message.message {
                text.push_str(&String::from_utf8_lossy(&output.data));
            }
        }
        text
    });
    far.write_all(b"live and more").unwrap();
    assert_eq!(soon("end of the read", reading).await.unwrap(), "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_on_disk_is_what_was_said() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut far = far_side(&mut client).await;
    far.write_all(b"readable with less\r\n").unwrap();
    until_said(&mut client, 20).await;
    let uid = client.get("a").await.uid;
    let log = server.state_dir().join(format!("journal/a@{uid}/00000000000000000000.log"));
    assert_eq!(std::fs::read(&log).unwrap(), b"readable with less\r\n");
    // A deleted device takes it along.
    let request = pb::DeleteDeviceRequest { name: "devices/a".into(), etag: String::new() };
    client.devices.delete_device(request).await.unwrap();
    until_async("removed journal", async || (!log.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachers_of_a_deleted_device_are_told() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut far = far_side(&mut client).await;
    far.write_all(b"last words").unwrap();
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    attacher.until_offset(10).await;
    let request = pb::DeleteDeviceRequest { name: "devices/a".into(), etag: String::new() };
    client.devices.delete_device(request).await.unwrap();
    attacher.drain().await.unwrap();
    assert_eq!(attacher.ended.unwrap().reason(), pb::ended::Reason::DeviceDeleted);
    // One of the same name is another device, with offsets of its own.
    client.create("a", pty()).await;
    let again = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    assert_ne!(again.started.device_uid, attacher.started.device_uid);
    assert_eq!(again.started.next_offset, 0);
}
