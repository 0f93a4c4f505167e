//! Devices as resources: made, read, listed, changed, stopped and deleted, and
//! still there after a kill.

use lineman::pb::{
    self,
    device_spec::{HostInterface, RunState},
    device_status::State,
};
use prost_types::FieldMask;

use crate::harness::{Server, connect_tcp, pty, reason, violations};

fn update(device: pb::Device, paths: &[&str]) -> pb::UpdateDeviceRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateDeviceRequest {
        device: Some(device),
        update_mask: Some(FieldMask { paths }),
        validate_only: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_what_was_asked_for_and_survives_a_kill() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let mut device = pty();
    device.labels = [("rack".into(), "3".into())].into();
    device.spec.as_mut().unwrap().description = "the north bridge".into();
    device.spec.as_mut().unwrap().journal = Some(pb::JournalSpec { retention_bytes: 1 << 20 });
    let made = client.create("node7", device.clone()).await;
    assert_eq!(made.name, "devices/node7");
    assert_eq!(made.labels, device.labels);
    assert!(!made.uid.is_empty() && !made.etag.is_empty() && made.create_time.is_some());
    let spec = made.spec.clone().unwrap();
    assert_eq!(spec.run_state(), RunState::Running);
    assert_eq!(spec.reconnect, device.spec.unwrap().reconnect);

    server.kill();
    server.start_again();
    let mut client = server.client().await;
    let found = client.get("node7").await;
    assert_eq!(pb::Device { status: None, ..found }, pb::Device { status: None, ..made });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_may_come_twice() {
    let server = Server::start();
    let mut client = server.client().await;
    let request = pb::CreateDeviceRequest {
        device_id: "a".into(),
        device: Some(pty()),
        request_id: "r-1".into(),
        validate_only: false,
    };
    let first = client.devices.create_device(request.clone()).await.unwrap().into_inner();
    let second = client.devices.create_device(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.uid, second.uid);
    let other = pb::CreateDeviceRequest { request_id: "r-2".into(), ..request };
    let error = client.devices.create_device(other).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (tonic::Code::AlreadyExists, "DEVICE_EXISTS")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_it_out_changes_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let request = pb::CreateDeviceRequest {
        device_id: "a".into(),
        device: Some(pty()),
        validate_only: true,
        ..Default::default()
    };
    let preview = client.devices.create_device(request).await.unwrap().into_inner();
    assert_eq!((preview.name.as_str(), preview.uid.as_str()), ("devices/a", ""));
    let request = pb::GetDeviceRequest { name: "devices/a".into() };
    let error = client.devices.get_device(request).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (tonic::Code::NotFound, "DEVICE_NOT_FOUND")
    );

    let made = client.create("a", pty()).await;
    let mut changed = made.clone();
    changed.spec.as_mut().unwrap().description = "new".into();
    let request = pb::UpdateDeviceRequest { validate_only: true, ..update(changed, &["*"]) };
    let preview = client.devices.update_device(request).await.unwrap().into_inner();
    assert_eq!(preview.spec.unwrap().description, "new");
    assert_eq!(client.get("a").await.etag, made.etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_set_what_the_mask_names_and_respect_the_etag() {
    let server = Server::start();
    let mut client = server.client().await;
    let made = client.create("a", pty()).await;
    let mut change = pb::Device { name: made.name.clone(), ..Default::default() };
    change.labels.insert("rack".into(), "4".into());
    let updated = client.devices.update_device(update(change.clone(), &["labels.rack"])).await;
    let updated = updated.unwrap().into_inner();
    assert_eq!(updated.labels["rack"], "4");
    assert_eq!(updated.spec, made.spec);
    assert_ne!(updated.etag, made.etag);
    assert_eq!(updated.uid, made.uid);

    // The same again changes nothing, not even the etag.
    let again =
        client.devices.update_device(update(change.clone(), &["labels.rack"])).await.unwrap();
    assert_eq!(again.into_inner().etag, updated.etag);

    change.etag = made.etag.clone();
    let error = client.devices.update_device(update(change, &["labels"])).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (tonic::Code::Aborted, "ETAG_MISMATCH"));
    let request = pb::DeleteDeviceRequest { name: made.name.clone(), etag: made.etag };
    let error = client.devices.delete_device(request).await.unwrap_err();
    assert_eq!(reason(&error), "ETAG_MISMATCH");
    let request = pb::DeleteDeviceRequest { name: made.name, etag: updated.etag };
    client.devices.delete_device(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_device_stays_stopped_over_a_restart() {
    let mut server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    client.until_state("a", State::Connected).await;
    let request = pb::StopDeviceRequest { name: "devices/a".into(), etag: String::new() };
    let stopped = client.devices.stop_device(request).await.unwrap().into_inner();
    assert_eq!(stopped.spec.unwrap().run_state(), RunState::Stopped);
    client.until_state("a", State::Stopped).await;
    server.kill();
    server.start_again();
    let mut client = server.client().await;
    assert_eq!(client.status("a").await.state(), State::Stopped);
    let request = pb::StartDeviceRequest { name: "devices/a".into(), etag: String::new() };
    client.devices.start_device(request).await.unwrap();
    client.until_state("a", State::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_by_label_and_state() {
    let server = Server::start();
    let mut client = server.client().await;
    for n in 0..25 {
        let mut device = pty();
        device.labels.insert("parity".into(), if n % 2 == 0 { "even" } else { "odd" }.into());
        if n >= 20 {
            device.spec.as_mut().unwrap().run_state = RunState::Stopped.into();
        }
        client.create(&format!("node{n:02}"), device).await;
    }
    for n in 0..20 {
        client.until_state(&format!("node{n:02}"), State::Connected).await;
    }
    let mut list = async |filter: &str, page_size: i32| {
        let mut names = Vec::new();
        let mut pages = 0;
        let mut page_token = String::new();
        loop {
            let request = pb::ListDevicesRequest { page_size, page_token, filter: filter.into() };
            let page = client.devices.list_devices(request).await.unwrap().into_inner();
            assert!(page.devices.len() <= 10 || page_size == 0);
            names.extend(page.devices.into_iter().map(|device| device.name));
            pages += 1;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return (names, pages);
            }
        }
    };
    let (names, pages) = list("", 10).await;
    assert_eq!((names.len(), pages), (25, 3));
    assert!(names.is_sorted());
    assert_eq!(list("", 0).await.1, 1);
    assert_eq!(list("labels.parity = \"odd\"", 10).await.0.len(), 12);
    assert_eq!(list("labels.parity = \"odd\" AND state = STOPPED", 10).await.0.len(), 2);
    assert_eq!(list("state != STOPPED", 10).await.0.len(), 20);
    assert_eq!(list("labels.none:*", 10).await.0.len(), 0);

    for (page_token, filter, wanted) in
        [("zz", "", "INVALID_PAGE_TOKEN"), ("", "color = red", "INVALID_FILTER")]
    {
        let request = pb::ListDevicesRequest {
            page_token: page_token.into(),
            filter: filter.into(),
            page_size: 0,
        };
        let error = client.devices.list_devices(request).await.unwrap_err();
        assert_eq!(reason(&error), wanted);
    }
    let request = pb::ListDevicesRequest { page_size: -1, ..Default::default() };
    let error = client.devices.list_devices(request).await.unwrap_err();
    assert_eq!(violations(&error), ["page_size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_cut_short_is_wholly_there_or_not_at_all() {
    let mut server = Server::start();
    for round in 0..5 {
        let client = server.client().await;
        let creating: Vec<_> = (0..20)
            .map(|n| {
                let mut client = client.clone();
                let id = format!("r{round}-{n}");
                tokio::spawn(async move {
                    (id.clone(), client.try_create(&id, connect_tcp(9)).await.is_ok())
                })
            })
            .collect();
        let mut answers = Vec::new();
        for (n, creating) in creating.into_iter().enumerate() {
            if n == 3 + round {
                server.kill();
            }
            answers.push(creating.await.unwrap());
        }
        server.start_again();
        let mut client = server.client().await;
        let request = pb::ListDevicesRequest { page_size: 1000, ..Default::default() };
        let devices = client.devices.list_devices(request).await.unwrap().into_inner().devices;
        for (id, answered) in answers {
            let found = devices.iter().find(|device| device.name == format!("devices/{id}"));
            // What was answered is durable; what was not is whole if it is there.
            assert!(found.is_some() || !answered, "{id}");
            if let Some(found) = found {
                assert!(matches!(
                    found.spec.as_ref().unwrap().host_interface,
                    Some(HostInterface::Tcp(_))
                ));
            }
        }
    }
}
