//! Consoles behind named pipes: shells and machines on the other end that come,
//! go, stall, flood and take their FIFOs away.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::mpsc::{self, TryRecvError},
};

use lineman::pb::{
    self, AttachMode, Switch, device_spec::HostInterface, device_status::State, input_ack::Refusal,
    pipe_host_interface::Single,
};
use rustix::fs::OFlags;
use tokio::io::AsyncReadExt;

use crate::harness::{
    Attacher, Client, Console, FarSide, FifoPair, Server, UBoot, device, flood, flooded, make_fifo,
    opens_and_closes, pty, soon, until,
};

fn pipe(path: &Path) -> pb::PipeHostInterface {
    pb::PipeHostInterface { path: path.to_str().unwrap().into(), ..Default::default() }
}

async fn create(client: &mut Client, id: &str, pipe: pb::PipeHostInterface) {
    client.create(id, device(HostInterface::Pipe(pipe))).await;
}

/// A device on a pair that is there.
async fn on_pair(server: &Server, client: &mut Client, id: &str) -> FifoPair {
    let fifos = FifoPair::make(server.dir().join(id));
    create(client, id, pipe(fifos.path())).await;
    client.until_state(id, State::Connected).await;
    fifos
}

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_both_ways() {
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "pair").await;
    let mut far = fifos.far();
    let mut attacher = Attacher::new(&mut client, "pair", AttachMode::Write, 0).await;
    far.says(every_byte());
    attacher.until_offset(512).await;
    assert_eq!(attacher.seen, every_byte());
    attacher.type_bytes(Some(0), &every_byte()).await;
    assert_eq!(far.hears_bytes(512).await, every_byte());
    attacher.until("acknowledgement", |attacher| attacher.ack.offset == 512).await;
    let status = client.status("pair").await;
    assert_eq!((status.output_bytes, status.input_bytes), (512, 512));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_on_it() {
    let server = Server::start();
    // QEMU calls `in` what it reads, as we do: each must have the other's.
    let guest = FifoPair::make(server.dir().join("guest"));
    let own = server.dir().join("own");
    fs::hard_link(guest.output(), server.dir().join("own.in")).unwrap();
    fs::hard_link(guest.input(), server.dir().join("own.out")).unwrap();
    let mut client = server.client().await;
    create(&mut client, "machine", pipe(&own)).await;
    client.until_state("machine", State::Connected).await;
    let mut attacher = Attacher::new(&mut client, "machine", AttachMode::Write, 0).await;
    let Some(_machine) = UBoot::boot_on(Console::Pipe(guest.path())) else { return };
    attacher.until_seen("Hit any key", 0).await;
    attacher.type_text("\r").await;
    attacher.until_seen("=> ", 0).await;
    let from = attacher.seen.len();
    attacher.type_text("echo pipe$baudrate\r").await;
    attacher.until_seen("\npipe115200", from).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_come_and_go_and_miss_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "shells").await;
    for text in ["one ", "two ", "three"] {
        fifos.write_and_go(text.as_bytes()).await;
    }
    let mut attacher = Attacher::new(&mut client, "shells", AttachMode::Write, 0).await;
    attacher.until_seen("one two three", 0).await;
    for text in ["first\n", "second\n"] {
        // Nobody reads yet; it waits in the pipe.
        attacher.type_text(text).await;
        let len = attacher.ack.offset + text.len() as u64;
        attacher.until("acknowledgement", |attacher| attacher.ack.offset == len).await;
        let reader = fifos.reader(server.dir(), text.trim());
        until("what had been typed", || (reader.stdout() == text.as_bytes()).then_some(())).await;
    }
    let status = client.status("shells").await;
    assert_eq!((status.link_count, status.state()), (1, State::Connected));
    // What was typed was not read back as output.
    assert_eq!(status.output_bytes, 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_stops_nobody() {
    const MORE: usize = 16 << 10;
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "stuck").await;
    let mut attacher = Attacher::new(&mut client, "stuck", AttachMode::Write, 0).await;
    let before = server.resident_bytes();
    let typed = flooded(0, 1 << 20);
    let mut sent = 0;
    // The pipe takes 64 KiB, the line's queue as much, the attachment's too; then
    // the rest is refused, and that is all that happens.
    for piece in typed.chunks(MORE) {
        attacher.type_bytes(Some(sent), piece).await;
        sent += piece.len() as u64;
    }
    attacher.until("refusal", |attacher| attacher.ack.refusal() == Refusal::QueueFull).await;
    let taken = attacher.ack.queued_offset;
    assert!((64 << 10..=192 << 10).contains(&taken), "{taken}");
    assert!(server.resident_bytes() < before + (8 << 20));
    // Its own output, and everybody else, goes on.
    fifos.write_and_go(b"still talking").await;
    attacher.until_seen("still talking", 0).await;
    client.create("other", pty()).await;
    let other = client.until_state("other", State::Connected).await;
    FarSide::open(&other.pty_path).says("here");
    let mut beside = Attacher::new(&mut client, "other", AttachMode::Observe, 0).await;
    beside.until_seen("here", 0).await;

    // Somebody reads at last: all that was taken, in order, once.
    let reader = fifos.reader(server.dir(), "late");
    attacher.until("the rest", |attacher| attacher.ack.offset >= taken).await;
    let taken = usize::try_from(attacher.ack.offset).unwrap();
    until("what was taken", || (reader.stdout().len() >= taken).then_some(())).await;
    assert!(reader.stdout() == typed[..reader.stdout().len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole() {
    const LEN: u64 = 32 << 20;
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "flood").await;
    let mut observer = Attacher::new(&mut client, "flood", AttachMode::Observe, 0).await;
    let began = std::time::Instant::now();
    let mut line = tokio::fs::OpenOptions::new().write(true).open(fifos.input()).await.unwrap();
    let flooding = tokio::spawn(async move { flood(&mut line, LEN).await });
    observer.until_offset(LEN).await;
    println!("32 MiB through a FIFO in {:?}", began.elapsed());
    soon("end of the flood", flooding).await.unwrap().unwrap();
    assert!(observer.seen == flooded(0, LEN) && observer.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_no_fifo_is_told_and_heals() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = server.dir().join("late");
    create(&mut client, "late", pipe(&path)).await;
    let told = |status: &pb::DeviceStatus, what: &str| {
        status.state() == State::Backoff && status.last_error.contains(what)
    };
    client.until_status("late", "back-off", |status| told(status, "there is no FIFO")).await;
    let inward = server.dir().join("late.in");
    fs::write(&inward, "a file").unwrap();
    make_fifo(&server.dir().join("late.out"));
    let not = "late.in is a regular file, not a FIFO";
    client.until_status("late", "refusal", |status| told(status, not)).await;
    fs::remove_file(&inward).unwrap();
    std::os::unix::fs::symlink(server.dir().join("late.out"), &inward).unwrap();
    let not = "late.in is a symbolic link, not a FIFO";
    client.until_status("late", "refusal", |status| told(status, not)).await;
    fs::remove_file(&inward).unwrap();
    make_fifo(&inward);
    client.until_state("late", State::Connected).await;
    fs::write(&inward, "here").unwrap();
    let mut observer = Attacher::new(&mut client, "late", AttachMode::Observe, 0).await;
    observer.until_seen("here", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_that_is_replaced_is_noticed() {
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "moved").await;
    // While nothing happens.
    fs::remove_file(fifos.input()).unwrap();
    make_fifo(&fifos.input());
    let noticed = |links| {
        move |status: &pb::DeviceStatus| {
            status.link_count == links && status.state() == State::Connected
        }
    };
    let status = client.until_status("moved", "second link", noticed(2)).await;
    let error = format!("{} was deleted or replaced", fifos.input().display());
    assert_eq!(status.last_error, error);
    fs::write(fifos.input(), "after").unwrap();
    let mut attacher = Attacher::new(&mut client, "moved", AttachMode::Write, 0).await;
    attacher.until_seen("after", 0).await;

    // While input waits for a reader that will never come.
    fs::remove_file(fifos.output()).unwrap();
    let more = vec![b'x'; 128 << 10];
    for piece in more.chunks(32 << 10) {
        attacher.type_bytes(None, piece).await;
    }
    let missing = |status: &pb::DeviceStatus| status.last_error.contains("moved.out: No such file");
    client.until_status("moved", "a missing FIFO", missing).await;
    make_fifo(&fifos.output());
    client.until_status("moved", "third link", noticed(3)).await;
    let reader = fifos.reader(server.dir(), "reader");
    attacher.type_text("for the new one").await;
    until("input", || reader.stdout().ends_with(b"for the new one").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fifo_carries_one_direction() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = server.dir().join("talks");
    make_fifo(&path);
    create(&mut client, "talks", pipe(&path)).await;
    client.until_state("talks", State::Connected).await;
    let mut attacher = Attacher::new(&mut client, "talks", AttachMode::Write, 0).await;
    attacher.type_text("nobody hears").await;
    attacher.until("refusal", |attacher| attacher.ack.refusal() == Refusal::NoInput).await;
    fs::write(&path, every_byte()).unwrap();
    attacher.until_offset(512).await;
    assert_eq!(attacher.seen, every_byte(), "and nothing of what was typed");

    let path = server.dir().join("listens");
    make_fifo(&path);
    let single = Single::Input.into();
    create(&mut client, "listens", pb::PipeHostInterface { single, ..pipe(&path) }).await;
    client.until_state("listens", State::Connected).await;
    assert_eq!(client.write("listens", &every_byte()).await.unwrap(), 512);
    let mut heard = vec![0; 512];
    let mut far = tokio::fs::File::open(&path).await.unwrap();
    soon("input", far.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, every_byte());
    assert_eq!(client.status("listens").await.output_bytes, 0, "nothing was read back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_is_made_stays_until_the_device_goes() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let (inward, outward) = (server.dir().join("made.in"), server.dir().join("made.out"));
    let made = || {
        [&inward, &outward].iter().all(|path| {
            fs::metadata(path).is_ok_and(|found| {
                found.file_type().is_fifo() && found.permissions().mode() & 0o7777 == 0o600
            })
        })
    };
    let path = server.dir().join("made");
    let create_on = pb::PipeHostInterface { create: Switch::On.into(), ..pipe(&path) };
    create(&mut client, "made", create_on.clone()).await;
    client.until_state("made", State::Connected).await;
    assert!(made());
    fs::write(&inward, "hello").unwrap();
    let mut observer = Attacher::new(&mut client, "made", AttachMode::Observe, 0).await;
    observer.until_seen("hello", 0).await;
    client.stop("made").await;
    client.until_state("made", State::Stopped).await;
    assert!(made(), "whoever uses them keeps them");
    client.start("made").await;
    client.until_state("made", State::Connected).await;
    server.kill();
    server.start_again();
    let mut client = server.client().await;
    client.until_state("made", State::Connected).await;
    assert!(made());
    // What is there is never replaced, and stays.
    make_fifo(&server.dir().join("half.in"));
    let path = server.dir().join("half");
    create(
        &mut client,
        "half",
        pb::PipeHostInterface { path: path.to_str().unwrap().into(), ..create_on },
    )
    .await;
    client.until_state("half", State::Connected).await;
    for id in ["made", "half"] {
        client.delete(id).await;
    }
    assert!(!inward.exists() && !outward.exists());
    assert!(server.dir().join("half.in").exists() && !server.dir().join("half.out").exists());
    let notes = server.state_dir().join("notes");
    assert_eq!(fs::read_dir(notes).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_busy_one_takes_no_time_and_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let fifos = on_pair(&server, &mut client, "busy").await;
    // It talks without end, and does not read.
    let mut line = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(fifos.input())
        .unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let talking = std::thread::spawn(move || {
        let piece = flooded(0, 16 << 10);
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            // Full while it is closed.
            if line.write(&piece).is_err() {
                std::thread::yield_now();
            }
        }
    });
    let attacher = Attacher::new(&mut client, "busy", AttachMode::Write, 0).await;
    for _ in 0..16 {
        attacher.type_bytes(None, &[b'x'; 16 << 10]).await;
    }
    soon("stop", client.stop("busy")).await;
    client.until_state("busy", State::Stopped).await;
    soon("start", client.start("busy")).await;
    client.until_state("busy", State::Connected).await;
    drop(attacher);
    opens_and_closes(&server, &mut client, "busy").await;
    soon("deletion", client.delete("busy")).await;
    assert!(fifos.input().exists() && fifos.output().exists(), "they are not ours");
    drop(stop);
    talking.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_allowed_is_refused() {
    let server = Server::start();
    let mut client = server.client().await;
    for path in ["/etc/console", "/var/console"] {
        let refused = client.try_create("x", device(HostInterface::Pipe(pipe(Path::new(path)))));
        let status = refused.await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
    }
    let own = server.state_dir().join("devices.redb");
    let refused = client.try_create("x", device(HostInterface::Pipe(pipe(&own)))).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
}
