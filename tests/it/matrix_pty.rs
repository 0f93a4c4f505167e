//! Ptys: every row that a host interface must pass, a name that lasts, the size
//! of the window, and no cost while nobody is there.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use lineman::pb::{
    self, AttachMode, device_spec::HostInterface, device_status::State, input_ack::Refusal,
};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::harness::{
    Attacher, Client, FarSide, Server, UBoot, device, flood, flooded, pty, soon, until,
};

fn linked(link: &Path) -> pb::Device {
    device(HostInterface::Pty(pb::PtyHostInterface {
        link: link.to_str().unwrap().into(),
        window: Some(pb::WindowSize { rows: 24, columns: 80 }),
    }))
}

async fn stop(client: &mut Client, id: &str) {
    let name = format!("devices/{id}");
    let request = pb::StopDeviceRequest { name, ..Default::default() };
    client.devices.stop_device(request).await.unwrap();
    client.until_state(id, State::Stopped).await;
}

async fn start(client: &mut Client, id: &str) -> String {
    let name = format!("devices/{id}");
    let request = pb::StartDeviceRequest { name, ..Default::default() };
    client.devices.start_device(request).await.unwrap();
    client.until_state(id, State::Connected).await.pty_path
}

async fn delete(client: &mut Client, id: &str) {
    let request = pb::DeleteDeviceRequest { name: format!("devices/{id}"), ..Default::default() };
    soon("deletion", client.devices.delete_device(request)).await.unwrap();
}

fn target(link: &Path) -> Option<String> {
    fs::read_link(link).ok().map(|path| path.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_link_leads_to_it_as_long_as_it_is_there_and_replaces_nothing() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let link = server.dir().join("console");
    client.create("pty", linked(&link)).await;
    let path = client.until_state("pty", State::Connected).await.pty_path;
    assert_eq!(target(&link), Some(path));
    let mut attacher = Attacher::new(&mut client, "pty", AttachMode::Write, 0).await;
    let mut far = FarSide::open(&link);
    far.says("hello");
    attacher.until_offset(5).await;
    attacher.type_text("world").await;
    far.hears("world").await;
    drop(far);

    // Killed, it leaves the link behind, and takes it back.
    server.kill();
    assert!(target(&link).is_some());
    server.start_again();
    let mut client = server.client().await;
    let path = client.until_state("pty", State::Connected).await.pty_path;
    assert_eq!(target(&link), Some(path));
    stop(&mut client, "pty").await;
    until("removal of the link", || target(&link).is_none().then_some(())).await;
    let path = start(&mut client, "pty").await;
    assert_eq!(target(&link), Some(path));

    // What is not ours stays, and is waited for.
    let taken = server.dir().join("taken");
    symlink("/dev/null", &taken).unwrap();
    client.create("taken", linked(&taken)).await;
    let status = client.until_state("taken", State::Backoff).await;
    assert!(status.last_error.contains("is not what this device left behind"), "{status:?}");
    assert_eq!(target(&taken).as_deref(), Some("/dev/null"));
    fs::remove_file(&taken).unwrap();
    let path = client.until_state("taken", State::Connected).await.pty_path;
    assert_eq!(target(&taken), Some(path));
    // So is a folder that is not there yet.
    let early = server.dir().join("folder/console");
    client.create("early", linked(&early)).await;
    let status = client.until_state("early", State::Backoff).await;
    assert!(status.last_error.contains("No such file or directory"), "{status:?}");
    fs::create_dir(early.parent().unwrap()).unwrap();
    let path = client.until_state("early", State::Connected).await.pty_path;
    assert_eq!(target(&early), Some(path));
    // Nor is it removed in the end.
    fs::remove_file(&taken).unwrap();
    fs::write(&taken, "theirs").unwrap();
    delete(&mut client, "taken").await;
    delete(&mut client, "pty").await;
    until("removal of the link", || target(&link).is_none().then_some(())).await;
    assert_eq!(fs::read_to_string(&taken).unwrap(), "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_on_it_dies_and_boots_again() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("machine", pty()).await;
    let path = client.until_state("machine", State::Connected).await.pty_path;
    let mut attacher = Attacher::new(&mut client, "machine", AttachMode::Write, 0).await;
    for _ in 0..2 {
        let Some(machine) = UBoot::boot(&path) else { return };
        let from = attacher.seen.len();
        attacher.until_seen("Hit any key", from).await;
        attacher.type_text("\r").await;
        attacher.until_seen("=> ", from).await;
        let from = attacher.seen.len();
        attacher.type_text("echo pty$baudrate\r").await;
        attacher.until_seen("\npty115200", from).await;
        drop(machine);
    }
    let status = client.status("machine").await;
    assert_eq!((status.state(), status.link_count), (State::Connected, 1));
    assert_eq!(status.pty_path, path);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_on_it_are_told_its_size() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("pty", linked(&server.dir().join("console"))).await;
    let status = client.until_state("pty", State::Connected).await;
    assert_eq!(status.window, Some(pb::WindowSize { rows: 24, columns: 80 }));
    let slave = File::options().read(true).write(true).open(&status.pty_path).unwrap();
    let size = || tcgetwinsize(&slave).map(|size| (size.ws_row, size.ws_col)).unwrap();
    assert_eq!(size(), (24, 80));
    let window = Some(pb::WindowSize { rows: 50, columns: 132 });
    let request =
        pb::SetWindowSizeRequest { device: "devices/pty".into(), window, ..Default::default() };
    client.console.set_window_size(request).await.unwrap();
    assert_eq!(size(), (50, 132));
    assert_eq!(client.status("pty").await.window, window);
    // A program may set it as well; that shows when it says something.
    let by_program = Winsize { ws_row: 10, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, by_program).unwrap();
    (&slave).write_all(b"resized").unwrap();
    let told = Some(pb::WindowSize { rows: 10, columns: 20 });
    client.until_status("pty", "the new size", |status| status.window == told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_that_nobody_has_open_cost_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    for n in 0..100 {
        client.create(&format!("pty-{n}"), pty()).await;
    }
    for n in 0..100 {
        let path = client.until_state(&format!("pty-{n}"), State::Connected).await.pty_path;
        // Somebody was there, and has gone.
        File::options().write(true).open(path).unwrap().write_all(b"bye").unwrap();
    }
    let last = |status: &pb::DeviceStatus| status.output_bytes == 3;
    for n in 0..100 {
        client.until_status(&format!("pty-{n}"), "the last word", last).await;
    }
    // Until the counters are told and the tails are dropped.
    let passed = async |time| {
        let begin = Instant::now();
        until("time to pass", || (begin.elapsed() >= time).then_some(())).await;
    };
    passed(Duration::from_secs(5)).await;
    let before = server.processor_time();
    passed(Duration::from_secs(2)).await;
    let used = server.processor_time() - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of 2 s for nothing");
    println!("100 idle ptys: {used:?} of processor time in 2 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole_and_a_far_side_that_reads_nothing_holds_up_nobody() {
    const FLOOD: u64 = 16 << 20;
    let server = Server::start();
    let mut client = server.client().await;
    client.create("pty", pty()).await;
    client.create("other", pty()).await;
    let path = client.until_state("pty", State::Connected).await.pty_path;
    let mut attacher = Attacher::new(&mut client, "pty", AttachMode::Write, 0).await;
    // Nobody reads: the kernel takes its 4 KiB, the line 64 more, the attachment as
    // much; the rest is refused.
    let before = server.resident_bytes();
    let typed = flooded(0, 512 << 10);
    for (n, piece) in (0_u64..).zip(typed.chunks(16 << 10)) {
        attacher.type_bytes(Some(n * (16 << 10)), piece).await;
    }
    attacher.until("refusal", |attacher| attacher.ack.refusal() == Refusal::QueueFull).await;
    let (written, taken) = (attacher.ack.offset, attacher.ack.queued_offset);
    assert!(written <= 20 << 10, "the kernel took {written}");
    assert!((64 << 10..160 << 10).contains(&taken), "{taken}");
    let other = client.until_state("other", State::Connected).await.pty_path;
    let mut far = FarSide::open(other);
    client.write("other", b"ping").await.unwrap();
    far.hears("ping").await;
    // Output goes on meanwhile.
    let mut far = tokio::fs::File::options().write(true).open(&path).await.unwrap();
    let flooding = tokio::spawn(async move { flood(&mut far, FLOOD).await.map(|()| far) });
    attacher.until_offset(FLOOD).await;
    let _open = flooding.await.unwrap().unwrap();
    assert!(attacher.seen == flooded(0, FLOOD) && attacher.gaps.is_empty());
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "grew by {grown}");
    println!("a stuck pty: {taken} bytes taken, grown by {} KiB", grown >> 10);
    // Somebody reads at last: all that was taken, in order, once.
    let late = FarSide::open(&path);
    let heard = late.hears_bytes(usize::try_from(taken).unwrap()).await;
    assert!(heard == typed[..heard.len()]);
    attacher.until("acknowledgement", |attacher| attacher.ack.offset >= taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_busy_one_takes_no_time_and_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let link = server.dir().join("console");
    client.create("busy", linked(&link)).await;
    // It talks without end, and does not read.
    let path = link.clone();
    let far = tokio::spawn(async move {
        loop {
            let line = tokio::fs::File::options().write(true).open(&path).await;
            let Ok(mut line) = line else {
                // Stopped just now.
                tokio::task::yield_now().await;
                continue;
            };
            flood(&mut line, u64::MAX).await.unwrap_err();
        }
    });
    for _ in 0..10 {
        client.until_state("busy", State::Connected).await;
        let said = client.status("busy").await.output_bytes;
        client.until_status("busy", "a flood", |status| status.output_bytes > said).await;
        let attacher = Attacher::new(&mut client, "busy", AttachMode::Write, 0).await;
        for _ in 0..16 {
            attacher.type_bytes(None, &[b'x'; 16 << 10]).await;
        }
        soon("stop", stop(&mut client, "busy")).await;
        until("removal of the link", || target(&link).is_none().then_some(())).await;
        soon("start", start(&mut client, "busy")).await;
    }
    let attacher = Attacher::new(&mut client, "busy", AttachMode::Write, 0).await;
    attacher.type_bytes(None, &[b'x'; 64 << 10]).await;
    delete(&mut client, "busy").await;
    far.abort();
    until("removal of the link", || target(&link).is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_starts_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.client().await;
    let link = server.dir().join("console");
    client.create("pty", linked(&link)).await;
    client.until_state("pty", State::Connected).await;
    let cycle = async |client: &mut Client, n| {
        for _ in 0..n {
            stop(client, "pty").await;
            let path = start(client, "pty").await;
            assert_eq!(target(&link), Some(path));
        }
    };
    cycle(&mut client, 20).await;
    let (files, threads, memory) =
        (server.descriptors(), server.threads(), server.resident_bytes());
    cycle(&mut client, 200).await;
    until("descriptors given back", || (server.descriptors() <= files).then_some(())).await;
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    assert!(server.threads() <= threads + 4, "{} threads, {threads} before", server.threads());
    let status = client.status("pty").await;
    assert_eq!((status.link_count, status.last_error.as_str()), (221, ""));
    println!("200 starts: {files} descriptors, grown by {} KiB", grown >> 10);
    // Nothing but the device's own note is kept.
    delete(&mut client, "pty").await;
    until("removal of the link", || target(&link).is_none().then_some(())).await;
    let notes = fs::read_dir(server.state_dir().join("notes")).unwrap();
    assert_eq!(notes.count(), 0);
}
