//! Consoles behind unix sockets, from both ends: machines and programs that
//! come, go, stall, flood, stop talking, and are not there at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lineman::pb::{
    self, AttachMode, device_status::State, input_ack::Refusal, unix_host_interface::Mode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::harness::{
    Attacher, Client, Console, FarSide, Resources, Server, UBoot, flood, flooded, is_given_back,
    make_fifo, opens_and_closes, pty, soon, unix,
};

/// Each row is tried as client and as server.
const BOTH: [Mode; 2] = [Mode::Connect, Mode::Bind];
/// Most that waits for a far side that reads nothing: the kernel's send buffer
/// (208 KiB unless told otherwise), the line's queue and the attachment's.
const WAITING_MAX: u64 = (208 + 64 + 64) << 10;

/// What the device is while nobody is on the other end.
fn alone(mode: Mode) -> State {
    if mode == Mode::Connect { State::Backoff } else { State::Listening }
}

fn path_of(server: &Server, mode: Mode) -> PathBuf {
    server.dir().join(mode.as_str_name())
}

/// A device named after its mode, connected with a far side that the test plays.
async fn joined(server: &Server, client: &mut Client, mode: Mode) -> (&'static str, UnixStream) {
    let (id, path) =
        (if mode == Mode::Connect { "client" } else { "server" }, path_of(server, mode));
    let far = if mode == Mode::Connect {
        let listener = UnixListener::bind(&path).unwrap();
        client.create(id, unix(mode, &path)).await;
        soon("connection", listener.accept()).await.unwrap().0
    } else {
        client.create(id, unix(mode, &path)).await;
        client.until_state(id, State::Listening).await;
        UnixStream::connect(&path).await.unwrap()
    };
    client.until_state(id, State::Connected).await;
    (id, far)
}

/// Types until no more is taken; returns what was typed, and how much of it the
/// server has taken.
async fn types_too_much(attacher: &mut Attacher) -> (Vec<u8>, u64) {
    const PIECE: usize = 16 << 10;
    let typed = flooded(0, 1 << 20);
    for (n, piece) in typed.chunks(PIECE).enumerate() {
        attacher.type_bytes(Some((n * PIECE) as u64), piece).await;
    }
    attacher.until("refusal", |attacher| attacher.ack.refusal() == Refusal::QueueFull).await;
    (typed, attacher.ack.queued_offset)
}

/// A far side that talks without end and reads nothing, whenever there is a link;
/// until it is aborted.
fn talks_without_end(mode: Mode, path: &Path) -> JoinHandle<()> {
    let listener = (mode == Mode::Connect).then(|| UnixListener::bind(path).unwrap());
    let path = path.to_owned();
    tokio::spawn(async move {
        loop {
            let line = match &listener {
                Some(listener) => listener.accept().await.map(|(line, _)| line),
                None => UnixStream::connect(&path).await,
            };
            let Ok(mut line) = line else {
                // Nobody listens just now.
                tokio::task::yield_now().await;
                continue;
            };
            // Until it is hung up on.
            flood(&mut line, u64::MAX).await.unwrap_err();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_on_it_dies_and_boots_again() {
    let server = Server::start();
    let mut client = server.client().await;
    for mode in BOTH {
        let (id, path) = ("machine", path_of(&server, mode));
        client.create(id, unix(mode, &path)).await;
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, 0).await;
        for link in 1..=2 {
            client.until_state(id, alone(mode)).await;
            let console = if mode == Mode::Connect {
                Console::UnixServer(&path)
            } else {
                Console::UnixClient(&path)
            };
            let Some(machine) = UBoot::boot_on(console) else { return };
            let from = attacher.seen.len();
            attacher.until_seen("Hit any key", from).await;
            attacher.type_text("\r").await;
            attacher.until_seen("=> ", from).await;
            let from = attacher.seen.len();
            attacher.type_text("echo unix$baudrate\r").await;
            attacher.until_seen("\nunix115200", from).await;
            assert_eq!(client.status(id).await.link_count, link);
            drop(machine);
            attacher.until("loss", |attacher| attacher.state.state() != State::Connected).await;
        }
        let status = client.until_state(id, alone(mode)).await;
        assert!(!status.last_error.is_empty() && status.last_error_time.is_some());
        client.delete(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_side_that_stalls_stops_nobody() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("other", pty()).await;
    let other = client.until_state("other", State::Connected).await;
    let mut beside = FarSide::open(&other.pty_path);
    for mode in BOTH {
        let (id, mut far) = joined(&server, &mut client, mode).await;
        let before = server.resident_bytes();
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, 0).await;
        let (typed, taken) = types_too_much(&mut attacher).await;
        assert!((64 << 10..=WAITING_MAX).contains(&taken), "{id}: {taken}");
        // Its own output, and everybody else, goes on.
        far.write_all(b"still talking").await.unwrap();
        attacher.until_seen("still talking", 0).await;
        client.write("other", id.as_bytes()).await.unwrap();
        beside.hears(id).await;
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 8 << 20, "{id}: grown by {grown}");
        println!("{id}: {taken} bytes taken for a stuck far side, grown by {} KiB", grown >> 10);

        // It reads at last: all that was taken, in order, once.
        let mut heard = vec![0; usize::try_from(taken).unwrap()];
        soon("what was taken", far.read_exact(&mut heard)).await.unwrap();
        assert!(heard == typed[..heard.len()]);
        attacher.until("the rest", |attacher| attacher.ack.offset >= taken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole() {
    const LEN: u64 = 32 << 20;
    let server = Server::start();
    let mut client = server.client().await;
    for mode in BOTH {
        let (id, mut far) = joined(&server, &mut client, mode).await;
        let mut observer = Attacher::new(&mut client, id, AttachMode::Observe, 0).await;
        let began = std::time::Instant::now();
        // Its last word is not lost when it hangs up at once.
        let flooding = tokio::spawn(async move { flood(&mut far, LEN).await });
        observer.until_offset(LEN).await;
        println!("{id}: 32 MiB in {:?}", began.elapsed());
        soon("end of the flood", flooding).await.unwrap().unwrap();
        assert!(observer.seen == flooded(0, LEN) && observer.gaps.is_empty());
        client.until_state(id, alone(mode)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_tells_what_is_wrong_with_the_path_and_heals() {
    let server = Server::start();
    let mut client = server.client().await;
    let dir = server.dir();
    let socket = |name: &str| dir.join(name);
    fs::write(socket("file"), "kept").unwrap();
    make_fifo(&socket("fifo"));
    drop(UnixListener::bind(socket("dead")).unwrap());
    for (id, name, told) in [
        ("missing", "missing", "No such file or directory"),
        ("folder", "folder/a", "No such file or directory"),
        ("file", "file", "is a regular file, not a socket"),
        ("fifo", "fifo", "is a FIFO, not a socket"),
        ("dead", "dead", "Connection refused"),
    ] {
        let path = socket(name);
        client.create(id, unix(Mode::Connect, &path)).await;
        let status = client.until_state(id, State::Backoff).await;
        let error = status.last_error;
        assert!(error.contains(told) && error.contains(path.to_str().unwrap()), "{id}: {error}");
        assert!(status.last_error_time.is_some() && status.retry_time.is_some());
        match id {
            "missing" => {}
            "folder" => fs::create_dir(path.parent().unwrap()).unwrap(),
            "file" => {
                assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
                fs::remove_file(&path).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let listener = UnixListener::bind(&path).unwrap();
        let (mut far, _) = soon("connection", listener.accept()).await.unwrap();
        far.write_all(b"here").await.unwrap();
        let mut observer = Attacher::new(&mut client, id, AttachMode::Observe, 0).await;
        observer.until_seen("here", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_replaces_nothing_at_its_path_and_heals() {
    let server = Server::start();
    let mut client = server.client().await;
    let dir = server.dir();
    fs::write(dir.join("file"), "kept").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    drop(UnixListener::bind(dir.join("dead")).unwrap());
    let alive = std::os::unix::net::UnixListener::bind(dir.join("alive")).unwrap();
    let taken = "exists and is not what this device left behind";
    for (id, name, told) in [
        ("folder", "folder/a", "No such file or directory"),
        ("file", "file", taken),
        ("link", "link", taken),
        ("dead", "dead", taken),
        ("alive", "alive", taken),
    ] {
        let path = dir.join(name);
        client.create(id, unix(Mode::Bind, &path)).await;
        let status = client.until_state(id, State::Backoff).await;
        let error = status.last_error;
        assert!(error.contains(told) && error.contains(path.to_str().unwrap()), "{id}: {error}");
        assert!(status.last_error_time.is_some() && status.retry_time.is_some());
        match id {
            "folder" => fs::create_dir(path.parent().unwrap()).unwrap(),
            "file" => {
                assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
                fs::remove_file(&path).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        client.until_state(id, State::Listening).await;
        let mut far = UnixStream::connect(&path).await.unwrap();
        far.write_all(b"here").await.unwrap();
        let mut observer = Attacher::new(&mut client, id, AttachMode::Observe, 0).await;
        observer.until_seen("here", 0).await;
    }
    // Somebody else's is not even tried, to see whether it lives.
    alive.set_nonblocking(true).unwrap();
    let nobody = alive.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_side_that_says_no_more_hears_the_rest() {
    let server = Server::start();
    let mut client = server.client().await;
    for mode in BOTH {
        let (id, mut far) = joined(&server, &mut client, mode).await;
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, 0).await;
        let (typed, _) = types_too_much(&mut attacher).await;
        let stuck = attacher.ack.offset;
        far.write_all(b"last words").await.unwrap();
        attacher.until_seen("last words", 0).await;
        far.shutdown().await.unwrap();
        // It has noticed by the time of an answer, and the link stays until the
        // line's queue has gone out; then the server hangs up.
        assert_eq!(client.status(id).await.state(), State::Connected);
        let mut heard = Vec::new();
        soon("end", far.read_to_end(&mut heard)).await.unwrap();
        assert!(heard == typed[..heard.len()]);
        let len = heard.len() as u64;
        assert!(len >= stuck + (48 << 10), "{id}: {len} after {stuck}");
        println!("{id}: {len} bytes heard, {stuck} of them written before the half-close");
        // What was not heard is told as such, and nothing is told that was not.
        attacher
            .until("refusal", |attacher| {
                let ack = &attacher.ack;
                ack.refusal() == Refusal::NotConnected && ack.queued_offset == ack.offset
            })
            .await;
        assert_eq!(attacher.ack.offset, len);
        let status = client.until_state(id, alone(mode)).await;
        if mode == Mode::Bind {
            assert_eq!(status.last_error, "the far side closed the connection");
            let mut next = UnixStream::connect(path_of(&server, mode)).await.unwrap();
            next.write_all(b"the next one").await.unwrap();
            attacher.until_seen("the next one", 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_busy_one_takes_no_time_and_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    for mode in BOTH {
        let (id, path) = ("busy", path_of(&server, mode));
        let far = talks_without_end(mode, &path);
        client.create(id, unix(mode, &path)).await;
        client.until_state(id, State::Connected).await;
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, 0).await;
        types_too_much(&mut attacher).await;
        soon("stop", client.stop(id)).await;
        client.until_state(id, State::Stopped).await;
        soon("start", client.start(id)).await;
        client.until_state(id, State::Connected).await;
        drop(attacher);
        opens_and_closes(&server, &mut client, id).await;
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, u64::MAX).await;
        types_too_much(&mut attacher).await;
        soon("deletion", client.delete(id)).await;
        // Ours goes with the device, theirs does not.
        assert_eq!(path.exists(), mode == Mode::Connect);
        far.abort();
    }
    let notes = fs::read_dir(server.state_dir().join("notes")).unwrap();
    assert_eq!(notes.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_far_sides_of_a_server_leave_nothing_behind() {
    const WORD: &str = "here I am\n";
    let server = Server::start();
    let mut client = server.client().await;
    let path = path_of(&server, Mode::Bind);
    client.create("server", unix(Mode::Bind, &path)).await;
    let mut attacher = Attacher::new(&mut client, "server", AttachMode::Write, 0).await;
    let mut come_and_go = async |client: &mut Client, links: std::ops::RangeInclusive<u64>| {
        for link in links {
            client.until_state("server", State::Listening).await;
            let mut far = UnixStream::connect(&path).await.unwrap();
            far.write_all(WORD.as_bytes()).await.unwrap();
            attacher.until_offset(link * WORD.len() as u64).await;
            if link % 2 == 0 {
                // Hung up on what it has not read, the server finds it reset.
                let to = attacher.ack.offset + 1;
                attacher.type_text("x").await;
                attacher.until("acknowledgement", |attacher| attacher.ack.offset == to).await;
            }
        }
    };
    come_and_go(&mut client, 1..=20).await;
    let before = Resources::of(&server);
    come_and_go(&mut client, 21..=220).await;
    client.until_state("server", State::Listening).await;
    is_given_back(&server, before);
    let status: pb::DeviceStatus = client.status("server").await;
    assert_eq!((status.link_count, status.refused_peer_count), (220, 0));
    assert_eq!(attacher.text(), WORD.repeat(220));
}
