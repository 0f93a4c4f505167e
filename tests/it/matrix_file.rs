//! `file`: what is acknowledged is in the file, whatever an operator,
//! a log rotator or a disk does to it meanwhile.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use lineman::pb::{AttachMode, Switch, device_status::State, input_ack::Refusal};
use rustix::{
    fs::{CWD, FileType, Mode, mkfifoat, mknodat},
    process::{Resource, Rlimit, getuid, prlimit},
};

use crate::harness::{
    Attacher, Client, Disk, Resources, Server, file, is_given_back, numbered_lines, reason,
    send_all, send_some, soon, until,
};

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

async fn server() -> (Server, Client) {
    let server = Server::start();
    let client = server.client().await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_is_in_the_file_when_it_is_acknowledged() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::Unspecified)).await;
    client.until_state("a", State::Connected).await;
    for round in 1..=20 {
        assert_eq!(client.write("a", &every_byte()).await.unwrap(), 512);
        assert_eq!(fs::read(&path).unwrap(), every_byte().repeat(round));
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let status = client.status("a").await;
    assert_eq!((status.input_bytes, status.output_bytes), (512 * 20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_emptied_at_each_start_unless_it_is_to_be_kept() {
    let (server, mut client) = server().await;
    for (append, kept) in [(Switch::Unspecified, false), (Switch::Off, false), (Switch::On, true)] {
        let id = format!("append-{}", append as i32);
        let path = server.dir().join(&id);
        fs::write(&path, "old").unwrap();
        let made = client.create(&id, file(&path, append)).await;
        let (made, asked) = (made.spec.unwrap(), file(&path, append).spec.unwrap());
        assert_eq!(made.host_interface, asked.host_interface, "the three are told apart");
        let begin = |more: &str| if kept { format!("old{more}") } else { String::new() };
        client.until_state(&id, State::Connected).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), begin(""));
        client.write(&id, b"one").await.unwrap();

        // A link that is lost and opened again is not a start.
        let aside = server.dir().join("aside");
        fs::rename(&path, &aside).unwrap();
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        client.write(&id, b"x").await.unwrap_err();
        let status = client.until_state(&id, State::Backoff).await;
        assert!(status.last_error.contains("is a FIFO, not a regular file"), "{status:?}");
        fs::rename(&aside, &path).unwrap();
        client.until_state(&id, State::Connected).await;
        client.write(&id, b"two").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), begin("") + "onetwo");

        client.stop(&id).await;
        client.start(&id).await;
        client.until_state(&id, State::Connected).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), begin("onetwo"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regular_file_is_refused_by_its_kind_and_heals() {
    let (server, mut client) = server().await;
    let dir = server.dir();
    fs::write(dir.join("target"), "kept").unwrap();
    symlink("target", dir.join("link")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    mkfifoat(CWD, dir.join("fifo"), Mode::RWXU).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    fs::hard_link(dir.join("target"), dir.join("hard")).unwrap();
    let mut cases = vec![
        ("link", "is a symbolic link"),
        ("dangling", "is a symbolic link"),
        ("fifo", "is a FIFO"),
        ("folder", "is a directory"),
        ("hard", "several names"),
        ("missing/a", "No such file or directory"),
    ];
    // /dev/null by another name.
    let device = rustix::fs::makedev(1, 3);
    if getuid().is_root()
        && mknodat(CWD, dir.join("device"), FileType::CharacterDevice, Mode::RWXU, device).is_ok()
    {
        cases.push(("device", "is a character device"));
    }
    for (at, (name, why)) in cases.into_iter().enumerate() {
        let (id, path) = (format!("d{at}"), dir.join(name));
        client.create(&id, file(&path, Switch::Unspecified)).await;
        let status = client.until_state(&id, State::Backoff).await;
        assert!(status.last_error.contains(why), "{name}: {}", status.last_error);
        let refused = client.write(&id, b"x").await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_CONNECTED", "{refused:?}");
        match name {
            "folder" => fs::remove_dir(&path).unwrap(),
            "missing/a" => fs::create_dir(dir.join("missing")).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        client.until_state(&id, State::Connected).await;
        client.write(&id, b"healed").await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"healed", "{name}");
    }
    assert_eq!(fs::read(dir.join("target")).unwrap(), b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotator_that_renames_under_a_flood_loses_and_repeats_nothing() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::On)).await;
    client.until_state("a", State::Connected).await;
    let data = numbered_lines(8 << 20);
    let (flood, all) = (data.clone(), path.clone());
    let sender = tokio::spawn(async move { send_all(&mut client, "a", &flood).await });
    let mut old = Vec::new();
    for at in 0..20 {
        until("something to rotate", || {
            let len = fs::metadata(&path).map_or(0, |file| file.len());
            (len > 100_000 || sender.is_finished()).then_some(())
        })
        .await;
        let to = server.dir().join(format!("a.{at}"));
        if fs::rename(&path, &to).is_ok() {
            old.push(to);
        }
    }
    soon("end of the flood", sender).await.unwrap();
    let mut seen: Vec<u8> = old.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    seen.extend(fs::read(all).unwrap_or_default());
    println!("{} rotations", old.len());
    assert!(old.len() > 10, "rotated while it came");
    assert!(seen == data, "{} of {} bytes", seen.len(), data.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_copied_and_truncated_has_no_hole_and_repeats_nothing() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::Unspecified)).await;
    client.until_state("a", State::Connected).await;
    let data = numbered_lines(8 << 20);
    let flood = data.clone();
    let sender = tokio::spawn(async move { send_all(&mut client, "a", &flood).await });
    let mut pieces = Vec::new();
    while !sender.is_finished() {
        until("something to rotate", || {
            (fs::metadata(&path).unwrap().len() > 300_000 || sender.is_finished()).then_some(())
        })
        .await;
        if sender.is_finished() {
            break;
        }
        pieces.push(fs::read(&path).unwrap());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    }
    soon("end of the flood", sender).await.unwrap();
    pieces.push(fs::read(&path).unwrap());

    // Each piece is a stretch of what was sent; between them is missing only
    // what came after the copy and before the truncation.
    let (mut at, mut missing) = (0, 0);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let line = piece.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let number = std::str::from_utf8(&piece[line..line + 15]).unwrap();
        let from = number.parse::<usize>().unwrap() * 16 - line;
        assert!(from >= at, "nothing comes again");
        assert!(data[from..from + piece.len()] == piece[..], "no hole, no zero byte");
        missing += from - at;
        at = from + piece.len();
    }
    missing += data.len() - at;
    println!("{} truncations, {missing} bytes lost to the rotator", pieces.len() - 1);
    assert!(pieces.len() > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_is_made_anew() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::Unspecified)).await;
    client.until_state("a", State::Connected).await;
    for round in 0..50 {
        let text = format!("round {round}");
        client.write("a", text.as_bytes()).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(client.status("a").await.link_count, 1, "no link is lost for that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_input_says_so_and_heals_without_losing_a_byte() {
    let (server, mut client) = server().await;
    let Some(disk) = Disk::small(&server, "disk", 512 << 10) else { return };
    let path = disk.path().join("a");
    client.create("a", file(&path, Switch::Unspecified)).await;
    client.until_state("a", State::Connected).await;
    let data = numbered_lines(300 << 10);
    // Room for some of it, and not for whole writes.
    fs::write(disk.path().join("more"), vec![0; 400_000]).unwrap();
    let (mut other, flood) = (client.clone(), data.clone());
    let sender = tokio::spawn(async move { send_all(&mut other, "a", &flood).await });
    let status = client.until_state("a", State::Backoff).await;
    assert!(status.last_error.contains("the disk is full"), "{}", status.last_error);
    assert!(status.last_error.contains("No space left on device"), "{}", status.last_error);
    let held = fs::read(&path).unwrap();
    assert!(!held.is_empty() && data.starts_with(&held), "a part, in order");

    // It does not flap: nothing is open until there is room.
    let links = client.status("a").await.link_count;
    let first = status.last_error_time;
    let mut seen = vec![first];
    while seen.len() < 4 {
        let last = *seen.last().unwrap();
        let status = client.until_status("a", "an attempt", |s| s.last_error_time != last).await;
        seen.push(status.last_error_time);
    }
    assert_eq!(client.status("a").await.link_count, links);
    assert!(!sender.is_finished());

    fs::remove_file(disk.path().join("more")).unwrap();
    soon("the rest", sender).await.unwrap();
    assert!(fs::read(&path).unwrap() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_file_sizes_does_not_end_the_server() {
    const LIMIT: u64 = 256 << 20;
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    // No disk is used for what was never written.
    fs::File::create(&path).unwrap().set_len(LIMIT - 10).unwrap();
    let limit = |current| Rlimit { current, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit(Some(LIMIT))).unwrap();
    client.create("a", file(&path, Switch::On)).await;
    client.until_state("a", State::Connected).await;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    attacher.type_text("0123456789abcdef").await;
    attacher.until("ten bytes", |a| a.ack.offset == 10 && a.ack.refusal != 0).await;
    assert_eq!(attacher.ack.refusal(), Refusal::NotConnected);
    let status = client.until_status("a", "reason", |s| !s.last_error.is_empty()).await;
    assert!(status.last_error.contains("as large as it may be"), "{}", status.last_error);
    prlimit(Some(server.pid()), Resource::Fsize, limit(None)).unwrap();
    client.until_state("a", State::Connected).await;
    attacher.type_bytes(Some(10), b"abcdef").await;
    attacher.until("the rest", |a| a.ack.offset == 16).await;
    assert_eq!(fs::metadata(&path).unwrap().len(), LIMIT + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nobody_else() {
    let (server, mut client) = server().await;
    let Some(disk) = Disk::that_can_hang(&server, "disk") else { return };
    let (stuck, fine) = (disk.path().join("a"), server.dir().join("b"));
    client.create("stuck", file(&stuck, Switch::Unspecified)).await;
    client.create("fine", file(&fine, Switch::Unspecified)).await;
    client.until_state("stuck", State::Connected).await;
    client.until_state("fine", State::Connected).await;
    client.write("stuck", b"before ").await.unwrap();
    let before = server.resident_bytes();
    disk.hang();
    let data = numbered_lines(1 << 20);
    let attacher = Attacher::new(&mut client, "stuck", AttachMode::Write, 0).await;
    let (mut waiting, flood) = (None, data.clone());
    let sender = tokio::spawn(async move {
        let attacher = send_some(attacher, &flood, |_| false).await;
        attacher.ack.offset
    });
    // Others go on, also with files.
    for _ in 0..20 {
        send_all(&mut client, "fine", &data).await;
        waiting = Some(client.status("stuck").await);
    }
    assert_eq!(waiting.unwrap().state(), State::Connected);
    assert!(!sender.is_finished());
    let grown = server.resident_bytes().saturating_sub(before);
    println!("grown by {grown} bytes");
    assert!(grown < 24 << 20, "grown by {grown}");
    disk.go_on();
    assert_eq!(soon("the rest", sender).await.unwrap(), data.len() as u64);
    let expected = [&b"before "[..], &data].concat();
    assert!(fs::read(&stuck).unwrap() == expected);

    // Stopping and deleting do not wait for it.
    disk.hang();
    let attacher = Attacher::new(&mut client, "stuck", AttachMode::Write, 0).await;
    attacher.type_text("in flight").await;
    until("the hang", || (client_state_is_stuck(&server)).then_some(())).await;
    client.stop("stuck").await;
    client.until_state("stuck", State::Stopped).await;
    client.delete("stuck").await;
    client.write("fine", b"x").await.unwrap();
    disk.go_on();
}

/// Whether a thread of the server hangs in the kernel.
fn client_state_is_stuck(server: &Server) -> bool {
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    fs::read_dir(tasks).unwrap().any(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D'))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_a_flood_tells_exactly_what_is_in_the_file() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::On)).await;
    let data = numbered_lines(4 << 20);
    let mut offset = 0;
    for round in 1..=10 {
        client.until_state("a", State::Connected).await;
        let attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
        let flood = data.clone();
        let sender = tokio::spawn(async move {
            send_some(attacher, &flood, |a| a.state.state() == State::Stopped).await
        });
        until("a part", || (fs::metadata(&path).unwrap().len() > offset + 50_000).then_some(()))
            .await;
        client.stop("a").await;
        client.until_state("a", State::Stopped).await;
        let mut attacher = soon("the end", sender).await.unwrap();
        // What was dropped is told last.
        attacher.type_text("x").await;
        attacher
            .until("refusal", |a| a.ack.refusal != 0 && a.ack.queued_offset == a.ack.offset)
            .await;
        let len = fs::metadata(&path).unwrap().len();
        assert_eq!(len - offset, attacher.ack.offset, "round {round}");
        offset = len;
        client.start("a").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_in_a_flood_ends_it() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    let data = numbered_lines(4 << 20);
    for _ in 0..5 {
        client.create("a", file(&path, Switch::Unspecified)).await;
        client.until_state("a", State::Connected).await;
        let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
        for piece in data.chunks(4000).take(14) {
            attacher.type_bytes(None, piece).await;
        }
        client.delete("a").await;
        attacher.drain().await.unwrap();
        let held = fs::read(&path).unwrap();
        assert!(data.starts_with(&held) && held.len() as u64 >= attacher.ack.offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_forgets_nothing_that_it_acknowledged() {
    let (mut server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::On)).await;
    client.until_state("a", State::Connected).await;
    let data = numbered_lines(16 << 20);
    let attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    let attacher = send_some(attacher, &data, |a| a.ack.offset > 500_000).await;
    server.kill();
    let acked = usize::try_from(attacher.ack.offset).unwrap();
    let held = fs::read(&path).unwrap();
    assert!(data.starts_with(&held), "in order");
    assert!(held.len() >= acked, "{} of {acked}", held.len());
    server.start_again();
    let mut client = server.client().await;
    client.until_state("a", State::Connected).await;
    client.write("a", b"again").await.unwrap();
    assert!(fs::read(&path).unwrap() == [&held[..], b"again"].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_starts_leave_nothing_behind() {
    let (server, mut client) = server().await;
    let path = server.dir().join("a");
    client.create("a", file(&path, Switch::Unspecified)).await;
    cycles(&mut client, &path, 40).await;
    let before = Resources::of(&server);
    cycles(&mut client, &path, 200).await;
    is_given_back(&server, before);
}

async fn cycles(client: &mut Client, path: &Path, n: usize) {
    for round in 0..n {
        client.until_state("a", State::Connected).await;
        let text = format!("{round}\n");
        client.write("a", text.as_bytes()).await.unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), text);
        client.stop("a").await;
        client.start("a").await;
    }
}
