//! The log of a domain: several consoles of one guest, read in one file. Every
//! line is whole, whoever writes beside it and whatever becomes of the file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lineman::pb::{self, AttachMode, device_status::State};
use tonic::Code;

use crate::harness::{
    Attacher, Client, Disk, Resources, Server, file, is_given_back, log, metric, null, pty, reason,
    send_all, send_some, soon, stdio, until, violations, with_log,
};

/// Of the files that a domain's log is in, oldest first.
const SUFFIXES: [&str; 4] = [".2", ".1", ".0", ""];
const LIMIT: u64 = 2 << 20;

async fn server() -> (Server, Client, PathBuf) {
    let server = Server::start();
    let client = server.client().await;
    let logs = server.state_dir().join("domains");
    (server, client, logs)
}

/// Old files and the current one, one after another.
fn whole(logs: &Path, domain: &str) -> Vec<u8> {
    let read = |suffix: &&str| fs::read(logs.join(format!("{domain}.log{suffix}")));
    SUFFIXES.iter().flat_map(|suffix| read(suffix).unwrap_or_default()).collect()
}

/// Lines of all lengths up to the longest that is never cut, by one writer.
fn lines(of: char, bytes: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes);
    for number in 0.. {
        let fill = usize::try_from(number * 37 % 4080).unwrap();
        let line = format!("{of}{number:07}{}\n", of.to_string().repeat(fill));
        if lines.len() + line.len() > bytes {
            break;
        }
        lines.extend_from_slice(line.as_bytes());
    }
    lines
}

/// What one writer has in the log; fails if any line is of both or of none.
fn written_by(log: &[u8], of: char) -> Vec<u8> {
    let is_whole = |line: &[u8]| {
        let text = std::str::from_utf8(line).unwrap();
        let first = text.chars().next();
        let digits = text.get(1..8).is_some_and(|digits| digits.parse::<u32>().is_ok());
        digits && text[8..].trim_end_matches('\n').chars().all(|c| Some(c) == first)
    };
    let mut found = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        assert!(is_whole(line), "{}", String::from_utf8_lossy(line));
        if line[0] == of as u8 {
            found.extend_from_slice(line);
        }
    }
    found
}

async fn create_two(client: &mut Client) {
    let mut labelled = stdio("");
    labelled.labels.insert("domain".into(), "vm".into());
    client.create("a", stdio("vm")).await;
    client.create("b", labelled).await;
    for id in ["a", "b"] {
        client.until_state(id, State::Connected).await;
    }
}

fn flood(client: &Client, id: &'static str, data: &[u8]) -> tokio::task::JoinHandle<()> {
    let (mut client, data) = (client.clone(), data.to_vec());
    tokio::spawn(async move { send_all(&mut client, id, &data).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consoles_that_flood_a_log_never_mix_a_line_and_roll_it_over() {
    let (_server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let (a, b) = (lines('a', 3 << 20), lines('b', 3 << 20));
    let floods = [flood(&client, "a", &a), flood(&client, "b", &b)];
    for flood in floods {
        soon("end of the flood", flood).await.unwrap();
    }
    let all = whole(&logs, "vm");
    assert_eq!(all.len(), a.len() + b.len(), "nothing was added");
    assert!(written_by(&all, 'a') == a && written_by(&all, 'b') == b);
    for suffix in [".0", ".1"] {
        let len = fs::metadata(logs.join(format!("vm.log{suffix}"))).unwrap().len();
        assert!(len <= LIMIT && len > LIMIT - 80, "{suffix} has {len}");
    }
    assert!(!logs.join("vm.log.2").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_old_files_are_kept() {
    let (_server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let a = lines('a', 11 << 20);
    send_all(&mut client, "a", &a).await;
    let all = whole(&logs, "vm");
    assert!(a.ends_with(&all), "the newest");
    assert!(all.len() as u64 > 3 * (LIMIT - 80));
    let mut names: Vec<_> =
        fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["vm.log", "vm.log.0", "vm.log.1", "vm.log.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_rotator_gets_along_with_it() {
    let (server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let (a, b) = (lines('a', 3 << 20), lines('b', 3 << 20));
    let floods = [flood(&client, "a", &a), flood(&client, "b", &b)];
    let (path, mut all) = (logs.join("vm.log"), Vec::new());
    while !floods.iter().all(|flood| flood.is_finished()) {
        let moved = server.dir().join("moved");
        // Often enough that it never is rolled over by itself.
        if fs::rename(&path, &moved).is_ok() {
            until("quiet", || {
                let len = fs::metadata(&moved).unwrap().len();
                let new = fs::metadata(&path).is_ok_and(|file| file.len() > 200_000);
                (new || floods.iter().all(|flood| flood.is_finished())).then_some(len)
            })
            .await;
            all.extend(fs::read(&moved).unwrap());
        }
        tokio::task::yield_now().await;
    }
    for flood in floods {
        soon("end of the flood", flood).await.unwrap();
    }
    all.extend(fs::read(&path).unwrap_or_default());
    assert!(!logs.join("vm.log.0").exists());
    assert!(written_by(&all, 'a') == a && written_by(&all, 'b') == b);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_a_line_is_acknowledged_and_written_when_it_is_time() {
    let (_server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let path = logs.join("vm.log");
    let is = async |text: &str| {
        let what = format!("{text:?} in the log");
        until(&what, || (fs::read_to_string(&path).ok()? == text).then_some(())).await;
    };
    // Nobody waits for a newline.
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    for (at, key) in "login: ".chars().enumerate() {
        attacher.type_text(&key.to_string()).await;
        attacher.until("ack", |a| a.ack.offset == at as u64 + 1).await;
    }
    is("login: ").await;
    client.write("b", b"boot\n").await.unwrap();
    is("login: \nboot\n").await;
    attacher.type_text("ro").await;
    attacher.type_text("ot\nhal").await;
    attacher.until("ack", |a| a.ack.offset == 15).await;
    is("login: \nboot\nroot\nhal").await;
    // A device that stops writes what it holds.
    attacher.type_text("t").await;
    attacher.until("ack", |a| a.ack.offset == 16).await;
    client.stop("a").await;
    client.until_state("a", State::Stopped).await;
    is("login: \nboot\nroot\nhalt").await;
    client.write("b", b"two").await.unwrap();
    client.delete("b").await;
    is("login: \nboot\nroot\nhalt\ntwo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_does_not_hold_up_anybody() {
    let (server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let before = server.resident_bytes();
    let endless = vec![b'x'; 1 << 20];
    let (endless_flood, b) = (flood(&client, "a", &endless), lines('b', 500_000));
    let other = flood(&client, "b", &b);
    soon("end of the flood", endless_flood).await.unwrap();
    soon("end of the flood", other).await.unwrap();
    client.stop("a").await;
    client.until_state("a", State::Stopped).await;
    let all = whole(&logs, "vm");
    let (mut x, mut rest) = (0, Vec::new());
    for line in all.split_inclusive(|byte| *byte == b'\n') {
        if line[0] == b'x' {
            x += line.iter().filter(|byte| **byte == b'x').count();
        } else {
            rest.extend_from_slice(line);
        }
    }
    assert_eq!(x, endless.len());
    assert!(written_by(&rest, 'b') == b);
    assert!(server.resident_bytes().saturating_sub(before) < 16 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_cuts_no_line_and_loses_none() {
    let mut server = Server::start();
    assert!(server.stop().await.success());
    let Some(disk) = Disk::small(&server, "domains", 1 << 20) else { return };
    server.start_with_config(&format!(
        "[host_interfaces]\ndomain_logs = '{}'\n",
        disk.path().display()
    ));
    let mut client = server.client().await;
    create_two(&mut client).await;
    fs::write(disk.path().join("more"), vec![0; 900_000]).unwrap();
    let (a, b) = (lines('a', 300_000), lines('b', 300_000));
    let floods = [flood(&client, "a", &a), flood(&client, "b", &b)];
    for id in ["a", "b"] {
        let status = client.until_state(id, State::Backoff).await;
        assert!(status.last_error.contains("the disk is full"), "{}", status.last_error);
    }
    fs::remove_file(disk.path().join("more")).unwrap();
    for flood in floods {
        soon("the rest", flood).await.unwrap();
    }
    let all = whole(disk.path(), "vm");
    assert!(written_by(&all, 'a') == a && written_by(&all, 'b') == b);
    assert_eq!(all.len(), a.len() + b.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_when_a_device_stops_on_a_full_disk_is_counted() {
    let mut server = Server::start();
    assert!(server.stop().await.success());
    let Some(disk) = Disk::small(&server, "domains", 64 << 10) else { return };
    server.start_with_config(&format!(
        "[host_interfaces]\ndomain_logs = '{}'\n",
        disk.path().display()
    ));
    let mut client = server.client().await;
    client.create("a", stdio("vm")).await;
    client.until_state("a", State::Connected).await;
    disk.fill();
    assert_eq!(client.write("a", b"held").await.unwrap(), 4);
    client.stop("a").await;
    client.until_state("a", State::Stopped).await;
    assert_eq!(metric(&server, "input_dropped_bytes").await, 4);
    until("log line", || server.log().contains("could not be written").then_some(())).await;
    disk.make_room();
    client.start("a").await;
    client.until_state("a", State::Connected).await;
    client.write("a", b"again\n").await.unwrap();
    assert_eq!(whole(disk.path(), "vm"), b"again\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_forgets_no_acknowledged_line_and_mixes_none() {
    let (mut server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let (a, b) = (lines('a', 3 << 20), lines('b', 3 << 20));
    let mut attachers = Vec::new();
    for id in ["a", "b"] {
        attachers.push(Attacher::new(&mut client, id, AttachMode::Write, 0).await);
    }
    let enough = |a: &Attacher| a.ack.offset > 1_000_000;
    let second = attachers.pop().unwrap();
    let first = attachers.pop().unwrap();
    let (first, second) = tokio::join!(send_some(first, &a, enough), send_some(second, &b, enough));
    server.kill();
    server.start_again();
    let mut client = server.client().await;
    client.until_state("a", State::Connected).await;
    client.write("a", b"a0000000\n").await.unwrap();
    let all = whole(&logs, "vm");
    // A kill may cut the last line; what comes after it is a line of its own.
    let all: Vec<u8> = all
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.len() > 8)
        .flatten()
        .copied()
        .collect();
    for (of, sent, attacher) in [('a', &a, first), ('b', &b, second)] {
        let mut found = written_by(&all, of);
        if of == 'a' {
            found.truncate(found.len() - 9);
        }
        let acked = usize::try_from(attacher.ack.offset).unwrap();
        let lines = sent[..acked].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        assert!(found.starts_with(&sent[..lines]), "{of}: {} of {lines}", found.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_moves_to_the_log_of_another_domain() {
    let (_server, mut client, logs) = server().await;
    client.create("a", stdio("one")).await;
    client.until_state("a", State::Connected).await;
    client.write("a", b"first\n").await.unwrap();
    client
        .change("a", |spec| spec.host_interface = stdio("two").spec.unwrap().host_interface)
        .await;
    client.until_status("a", "the other", |s| s.link_count == 2).await;
    client.until_state("a", State::Connected).await;
    client.write("a", b"second\n").await.unwrap();
    assert_eq!((whole(&logs, "one"), whole(&logs, "two")), (b"first\n".into(), b"second\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_that_are_no_file_names_and_logs_without_a_folder_are_refused() {
    let (mut server, mut client, _) = server().await;
    for domain in ["", ".hidden", "a/b", "../x", "a\nb", &"x".repeat(201)] {
        let error = client.try_create("a", stdio(domain)).await.unwrap_err();
        assert_eq!(violations(&error), ["spec.stdio.domain"], "{domain:?}");
    }
    let path = server.dir().join("a");
    let twice = with_log(file(&path, pb::Switch::On), &path, pb::Switch::On);
    assert_eq!(violations(&client.try_create("a", twice).await.unwrap_err()), ["spec.log.file"]);

    assert!(server.stop().await.success());
    server.start_with_config("[host_interfaces]\n");
    let mut client = server.client().await;
    client.create("pty", pty()).await;
    let copied = with_log(null(), &path, pb::Switch::On);
    for (device, rule) in [
        (stdio("vm"), "host_interfaces.domain_logs"),
        (file(&path, pb::Switch::On), "host_interfaces.folders"),
        (copied, "host_interfaces.folders"),
    ] {
        let error = client.try_create("a", device).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::PermissionDenied, "NOT_ALLOWED_HERE")
        );
        assert!(error.message().contains(rule), "{}", error.message());
    }
    let mut device = client.get("pty").await;
    device.spec.as_mut().unwrap().log = log(&path, pb::Switch::On);
    let update_mask = Some(prost_types::FieldMask { paths: vec!["spec.log".into()] });
    let request =
        pb::UpdateDeviceRequest { device: Some(device), update_mask, validate_only: false };
    let error = client.devices.update_device(request).await.unwrap_err();
    assert_eq!(reason(&error), "NOT_ALLOWED_HERE");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_starts_leave_nothing_behind() {
    let (server, mut client, logs) = server().await;
    create_two(&mut client).await;
    let mut before = None;
    for round in 0..240 {
        client.until_state("a", State::Connected).await;
        client.write("a", format!("{round}\n").as_bytes()).await.unwrap();
        client.stop("a").await;
        client.start("a").await;
        if round == 40 {
            before = Some(Resources::of(&server));
        }
    }
    is_given_back(&server, before.unwrap());
    let all: String = (0..240).map(|round| format!("{round}\n")).collect();
    assert_eq!(String::from_utf8(whole(&logs, "vm")).unwrap(), all);
}
