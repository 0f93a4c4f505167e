//! Watching: the list, then every change, and a broken watch goes on where it
//! was.

use lineman::pb::{self, device_status::State, watch_devices_response::Event};
use tonic::Streaming;

use crate::harness::{Client, Server, pty, reason, soon};

struct Watch(Streaming<pb::WatchDevicesResponse>);

impl Watch {
    async fn open(
        client: &mut Client,
        filter: &str,
        revision: &str,
    ) -> Result<Self, tonic::Status> {
        let request = pb::WatchDevicesRequest { filter: filter.into(), revision: revision.into() };
        Ok(Self(client.devices.watch_devices(request).await?.into_inner()))
    }

    async fn next(&mut self) -> (Event, String, pb::WatchDevicesResponse) {
        let response = soon("event", self.0.message()).await.unwrap().unwrap();
        let name = response.device.as_ref().map(|device| device.name.clone()).unwrap_or_default();
        (response.event(), name, response)
    }

    /// Skips to the first event that is wanted.
    async fn until(&mut self, event: Event, name: &str) -> pb::WatchDevicesResponse {
        loop {
            let (found, of, response) = self.next().await;
            if (found, of.as_str()) == (event, name) {
                return response;
            }
            assert_eq!(found, Event::Modified, "before {event:?} {name}: {response:?}");
        }
    }
}

async fn delete(client: &mut Client, id: &str) {
    let request = pb::DeleteDeviceRequest { name: format!("devices/{id}"), etag: String::new() };
    client.devices.delete_device(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_then_follows_then_resumes() {
    let mut server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    client.create("b", pty()).await;
    client.until_state("b", State::Connected).await;
    client.until_state("a", State::Connected).await;
    let mut watch = Watch::open(&mut client, "", "").await.unwrap();
    assert_eq!(watch.next().await.1, "devices/a");
    let (event, name, _) = watch.next().await;
    assert_eq!((event, name.as_str()), (Event::Added, "devices/b"));
    let bookmark = watch.until(Event::Bookmark, "").await;
    assert!(!bookmark.revision.is_empty());

    client.create("c", pty()).await;
    watch.until(Event::Added, "devices/c").await;
    let request = pb::StopDeviceRequest { name: "devices/c".into(), etag: String::new() };
    client.devices.stop_device(request).await.unwrap();
    loop {
        let change = watch.until(Event::Modified, "devices/c").await;
        if change.device.unwrap().status.unwrap().state() == State::Stopped {
            break;
        }
    }
    delete(&mut client, "a").await;
    let deleted = watch.until(Event::Deleted, "devices/a").await;
    drop(watch);

    // What happened while nobody watched is told by the revision.
    client.create("d", pty()).await;
    delete(&mut client, "b").await;
    let mut watch = Watch::open(&mut client, "", &deleted.revision).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let (event, name, _) = watch.next().await;
        if event != Event::Modified {
            told.push((event, name));
        }
    }
    told.sort_by(|a, b| a.1.cmp(&b.1));
    let expected =
        [(Event::Deleted, "devices/b".to_owned()), (Event::Added, "devices/d".to_owned())];
    assert_eq!(told, expected);

    // A server that was restarted does not know; the caller lists again.
    server.kill();
    server.start_again();
    let mut client = server.client().await;
    let error = Watch::open(&mut client, "", &deleted.revision).await.err().unwrap();
    assert_eq!((error.code(), reason(&error).as_str()), (tonic::Code::OutOfRange, "REVISION_GONE"));
    let error = Watch::open(&mut client, "", "nonsense").await.err().unwrap();
    assert_eq!(reason(&error), "REVISION_GONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_watch_with_a_filter_tells_of_others_at_most_once() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut device = pty();
    device.labels.insert("team".into(), "a".into());
    client.create("ours", device).await;
    client.create("other", pty()).await;
    client.until_state("other", State::Connected).await;
    let mut watch = Watch::open(&mut client, "labels.team = \"a\"", "").await.unwrap();
    watch.until(Event::Added, "devices/ours").await;
    let revision = watch.until(Event::Bookmark, "").await.revision;
    drop(watch);
    let mut watch = Watch::open(&mut client, "labels.team = \"a\"", &revision).await.unwrap();
    // The other device changes again and again.
    for _ in 0..3 {
        let (name, etag) = (String::from("devices/other"), String::new());
        let stop = pb::StopDeviceRequest { name: name.clone(), etag: etag.clone() };
        client.devices.stop_device(stop).await.unwrap();
        client.until_state("other", State::Stopped).await;
        client.devices.start_device(pb::StartDeviceRequest { name, etag }).await.unwrap();
        client.until_state("other", State::Connected).await;
    }
    delete(&mut client, "ours").await;
    let mut dismissed = 0;
    loop {
        let (event, name, _) = watch.next().await;
        match (event, name.as_str()) {
            (Event::Deleted, "devices/ours") => break,
            (Event::Deleted, "devices/other") => dismissed += 1,
            (Event::Modified, "devices/ours") => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
    assert!(dismissed <= 1, "told {dismissed} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_told_while_and_after_they_change() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut watch = Watch::open(&mut client, "", "").await.unwrap();
    watch.until(Event::Added, "devices/a").await;
    watch.until(Event::Bookmark, "").await;
    std::fs::write(path, "0123456789").unwrap();
    loop {
        let change = watch.until(Event::Modified, "devices/a").await;
        let status = change.device.unwrap().status.unwrap();
        if status.output_bytes == 10 && status.journal.unwrap().next_offset == 10 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_no_longer_matches_is_told_as_deleted() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut device = pty();
    device.labels.insert("team".into(), "a".into());
    client.create("x", device).await;
    client.create("y", pty()).await;
    let mut watch = Watch::open(&mut client, "labels.team = \"a\"", "").await.unwrap();
    watch.until(Event::Added, "devices/x").await;
    watch.until(Event::Bookmark, "").await;
    for (team, event) in [("b", Event::Deleted), ("a", Event::Added)] {
        let mut device = pb::Device { name: "devices/x".into(), ..Default::default() };
        device.labels.insert("team".into(), team.into());
        let request = pb::UpdateDeviceRequest { device: Some(device), ..Default::default() };
        client.devices.update_device(request).await.unwrap();
        watch.until(event, "devices/x").await;
    }
}
