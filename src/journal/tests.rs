//! The room from outside: what is appended is read, whatever happens between.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Age, Config, Cursor, FrameHead, Item, Position, Root, Writer};
use crate::{device::Uid, limits, telemetry::Metrics};

mod gaps;

const RETENTION: u64 = 1 << 20;

fn framer(_head: FrameHead, out: &mut BytesMut) {
    out.extend_from_slice(b"head");
}

fn open(dir: &Path) -> (Root, Writer) {
    open_with(dir, RETENTION)
}

fn open_with(dir: &Path, retention: u64) -> (Root, Writer) {
    let config = Config { dir: dir.to_owned(), framer };
    let root = Root::open(config, Arc::new(Metrics::new())).unwrap();
    let age = if dir.join("boot").exists() { Age::Known } else { Age::New };
    let writer = root.journal(&"node7".parse().unwrap(), Uid(1), retention, age);
    root.all_open().unwrap();
    (root, writer)
}

/// As if the server had been killed: nothing is closed in order.
fn kill(root: Root, writer: Writer) {
    std::mem::forget((root, writer));
}

fn say(writer: &mut Writer, text: &[u8]) {
    writer.append(text);
    writer.flush();
}

async fn read_to(cursor: &mut Cursor, end: u64) -> Vec<u8> {
    let mut seen = Vec::new();
    while cursor.offset() < end {
        let next = tokio::time::timeout(Duration::from_secs(10), cursor.next());
        match next.await.expect("output in time").unwrap() {
            Item::Frame(frame) => seen.extend_from_slice(frame.data()),
            Item::Gap { from, to } => {
                seen.extend_from_slice(format!("<gap {from}-{to}>").as_bytes())
            }
        }
    }
    seen
}

fn file(dir: &Path, start: u64, extension: &str) -> PathBuf {
    dir.join("node7@0000000000000001").join(format!("{start:020}.{extension}"))
}

#[tokio::test]
async fn segments_are_the_bytes_that_were_said() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"U-Boot 2023.01\r\n");
    say(&mut writer, b"=> ");
    let mut cursor = writer.journal().cursor(0);
    assert_eq!(read_to(&mut cursor, 19).await, b"U-Boot 2023.01\r\n=> ");
    assert_eq!(fs::read(file(dir.path(), 0, "log")).unwrap(), b"U-Boot 2023.01\r\n=> ");
    drop(writer);
    root.close();
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_seen_and_offsets_go_on() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3u64 {
        let (root, mut writer) = open(dir.path());
        assert_eq!(writer.next_offset(), run * 6);
        assert_eq!(writer.journal().status().recovery, None);
        say(&mut writer, b"hello\n");
        read_to(&mut writer.journal().cursor(run * 6), run * 6 + 6).await;
        kill(root, writer);
    }
    let (_root, writer) = open(dir.path());
    assert_eq!(read_to(&mut writer.journal().cursor(0), 18).await, b"hello\nhello\nhello\n");
}

#[tokio::test]
async fn bytes_written_without_their_record_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"seen");
    read_to(&mut writer.journal().cursor(0), 4).await;
    kill(root, writer);
    let mut log = OpenOptions::new().append(true).open(file(dir.path(), 0, "log")).unwrap();
    log.write_all(b" and not recorded").unwrap();
    let mut index = OpenOptions::new().append(true).open(file(dir.path(), 0, "idx")).unwrap();
    index.write_all(b"torn").unwrap();

    let (_root, mut writer) = open(dir.path());
    assert!(writer.journal().status().recovery.unwrap().contains("17 bytes"));
    say(&mut writer, b"!");
    assert_eq!(read_to(&mut writer.journal().cursor(0), 22).await, b"seen and not recorded!");
}

#[tokio::test]
async fn a_torn_log_is_cut_to_the_last_whole_record_and_its_offsets_are_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"whole");
    read_to(&mut writer.journal().cursor(0), 5).await;
    say(&mut writer, b"to be torn");
    read_to(&mut writer.journal().cursor(5), 15).await;
    kill(root, writer);
    let log = OpenOptions::new().write(true).open(file(dir.path(), 0, "log")).unwrap();
    log.set_len(9).unwrap();

    // Twice: the repair itself must survive being killed.
    for _ in 0..2 {
        let (root, writer) = open(dir.path());
        assert_eq!(writer.next_offset(), 15);
        kill(root, writer);
    }
    let (_root, mut writer) = open(dir.path());
    say(&mut writer, b"new");
    assert_eq!(read_to(&mut writer.journal().cursor(0), 18).await, b"whole<gap 5-15>new");
}

#[tokio::test]
async fn after_a_power_loss_no_offset_is_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"whole");
    read_to(&mut writer.journal().cursor(0), 5).await;
    kill(root, writer);
    fs::write(dir.path().join("boot"), "another boot").unwrap();

    let (root, mut writer) = open(dir.path());
    let next = 5 + limits::OFFSET_JUMP;
    assert_eq!(writer.next_offset(), next);
    say(&mut writer, b"new");
    let expected = format!("whole<gap 5-{next}>new");
    assert_eq!(read_to(&mut writer.journal().cursor(0), next + 3).await, expected.as_bytes());
    drop(writer);
    root.close();

    // Closed in order and synced: nothing to jump over after a restart.
    another_boot(dir.path());
    let (root, writer) = open(dir.path());
    assert_eq!(writer.next_offset(), next + 3);
    assert_eq!(writer.journal().status().recovery, None);

    // This run speaks, and then the power is lost before any of it is on disk:
    // what is there looks closed in order, and must not be believed.
    kill(root, writer);
    another_boot(dir.path());
    let (_root, writer) = open(dir.path());
    assert_eq!(writer.next_offset(), next + 3 + limits::OFFSET_JUMP);
}

/// The mark of the last run, as another start of the machine finds it.
fn another_boot(dir: &Path) {
    let mark = fs::read_to_string(dir.join("boot")).unwrap();
    let (_, how) = mark.split_once(' ').unwrap();
    fs::write(dir.join("boot"), format!("another-boot {how}")).unwrap();
}

#[tokio::test]
async fn a_journal_that_never_reached_the_disk_is_not_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let (root, writer) = open(dir.path());
    kill(root, writer);
    another_boot(dir.path());
    for _ in 0..2 {
        let (root, writer) = open(dir.path());
        assert_eq!(writer.next_offset(), limits::OFFSET_JUMP);
        kill(root, writer);
    }
}

#[tokio::test]
async fn what_is_not_a_journal_is_left_alone_and_what_is_unknown_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"history");
    read_to(&mut writer.journal().cursor(0), 7).await;
    for name in ["lost+found", "my-backup", "node7@short", "old@0000000000000002.deleted"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), "").unwrap();
    }
    root.set_aside_others(std::iter::empty()).unwrap();
    for kept in [
        "lost+found/file",
        "my-backup/file",
        "node7@short/file",
        "orphaned/node7@0000000000000001/00000000000000000000.log",
    ] {
        assert!(dir.path().join(kept).exists(), "{kept}");
    }
    assert!(!dir.path().join("old@0000000000000002.deleted").exists());
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_does_not_stop_its_console() {
    let dir = tempfile::tempdir().unwrap();
    let (root, writer) = open(dir.path());
    drop(writer);
    root.close();
    fs::write(dir.path().join("node7@0000000000000001"), "a file").unwrap();
    let (_root, mut writer) = open(dir.path());
    let status = writer.journal().status();
    assert!(status.recovery.unwrap().contains("cannot be read"));
    let from = writer.next_offset();
    say(&mut writer, b"alive");
    assert_eq!(read_to(&mut writer.journal().cursor(from), from + 5).await, b"alive");
}

#[tokio::test]
async fn retention_bounds_the_disk_and_is_told_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    let mut slow = writer.journal().cursor(0);
    let mut line = 0u64;
    for _ in 0..200 {
        let text: Vec<u8> =
            (0..2000).map(|n| b'a' + u8::try_from((line + n) % 26).unwrap()).collect();
        say(&mut writer, &text);
        line += 2000;
        read_to(&mut writer.journal().cursor(line - 2000), line).await;
    }
    let status = writer.journal().status();
    assert!(status.disk_bytes <= limits::RETENTION_BYTES_MIN, "{status:?}");
    let folder = file(dir.path(), 0, "log").parent().unwrap().to_owned();
    let on_disk: u64 =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= limits::RETENTION_BYTES_MIN + 8192, "{on_disk}");

    // Drop the tail, so that the rest comes from disk.
    writer.journal().shared.core().tail.trim(0);
    let oldest = writer.journal().status().oldest_offset;
    assert!(oldest > 0);
    let Item::Gap { from: 0, to } = slow.next().await.unwrap() else { panic!("a gap first") };
    assert_eq!(to, oldest);
    let rest = read_to(&mut slow, line).await;
    assert_eq!(rest.len() as u64, line - oldest);
    for (offset, byte) in (oldest..).zip(rest) {
        let expected = b'a' + u8::try_from((offset / 2000 * 2000 + offset % 2000) % 26).unwrap();
        assert_eq!(byte, expected, "at {offset}");
    }
    drop(writer);
    root.close();
}

#[tokio::test]
async fn readers_begin_where_they_ask() {
    let dir = tempfile::tempdir().unwrap();
    let (_root, mut writer) = open(dir.path());
    for line in ["one\n", "two\n", "three\n"] {
        say(&mut writer, line.as_bytes());
    }
    read_to(&mut writer.journal().cursor(0), 14).await;
    let later = SystemTime::now();
    say(&mut writer, b"unfinished");
    let next = 24;
    read_to(&mut writer.journal().cursor(0), next).await;

    let journal = writer.journal();
    for (position, offset) in [
        (Position::Now, next),
        (Position::Beginning, 0),
        (Position::Offset(9), 9),
        (Position::Offset(u64::MAX), next),
        (Position::LastBytes(4), next - 4),
        (Position::LastBytes(u64::MAX), 0),
        (Position::LastLines(0), next),
        (Position::LastLines(1), 14),
        (Position::LastLines(2), 8),
        (Position::LastLines(100), 0),
        (Position::Time(SystemTime::UNIX_EPOCH), 0),
        (Position::Time(later), 14),
        (Position::Time(SystemTime::now()), next),
    ] {
        assert_eq!(journal.start(position).await.unwrap().offset, offset, "{position:?}");
    }
    say(&mut writer, b"\n");
    read_to(&mut writer.journal().cursor(0), 25).await;
    assert_eq!(journal.start(Position::LastLines(1)).await.unwrap().offset, 14);
}

#[tokio::test]
async fn a_disk_that_fails_degrades_and_heals_without_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    say(&mut writer, b"before ");
    let mut cursor = writer.journal().cursor(0);
    read_to(&mut cursor, 7).await;
    // The folder becomes a file: every write fails until it is a folder again.
    writer.journal().shared.disk.lock().unwrap().release();
    let folder = file(dir.path(), 0, "log").parent().unwrap().to_owned();
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "").unwrap();
    say(&mut writer, b"during ");
    assert_eq!(read_to(&mut cursor, 14).await, b"during ", "attachers go on from memory");
    assert!(writer.journal().status().degraded.holds.is_some());
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    say(&mut writer, b"after");
    assert_eq!(read_to(&mut cursor, 19).await, b"after");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while writer.journal().status().degraded.holds.is_some() {
        assert!(std::time::Instant::now() < deadline, "heals by itself");
        tokio::task::yield_now().await;
    }
    drop(writer);
    root.close();
    let (_root, writer) = open(dir.path());
    assert_eq!(read_to(&mut writer.journal().cursor(0), 19).await, b"before during after");
}

/// What happens to the files of a journal that was not closed.
#[derive(Debug, Clone)]
enum Damage {
    LogCut(u16),
    IndexCut(u16),
    IndexFlip(u16, u8),
    LogGarbage(Vec<u8>),
    IndexGarbage(Vec<u8>),
    PowerLoss,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<u16>().prop_map(Damage::LogCut),
        any::<u16>().prop_map(Damage::IndexCut),
        (any::<u16>(), 1u8..).prop_map(|(at, flip)| Damage::IndexFlip(at, flip)),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(Damage::LogGarbage),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(Damage::IndexGarbage),
        Just(Damage::PowerLoss),
    ]
}

fn apply(dir: &Path, damage: &Damage) {
    let edit = |extension: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = file(dir, 0, extension);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    let cut = |at: &u16| {
        let at = usize::from(*at);
        move |bytes: &mut Vec<u8>| bytes.truncate(at % (bytes.len() + 1))
    };
    match damage {
        Damage::LogCut(at) => edit("log", &cut(at)),
        Damage::IndexCut(at) => edit("idx", &cut(at)),
        Damage::IndexFlip(at, flip) => edit("idx", &|bytes| {
            let at = usize::from(*at) % bytes.len();
            bytes[at] ^= flip;
        }),
        Damage::LogGarbage(more) => edit("log", &|bytes| bytes.extend_from_slice(more)),
        Damage::IndexGarbage(more) => edit("idx", &|bytes| bytes.extend_from_slice(more)),
        Damage::PowerLoss => fs::write(dir.join("boot"), "another boot").unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever became of the newest segment, the journal opens, serves a true
    /// beginning of what was said, and goes on with the next byte. Offsets that
    /// its log or its index speaks of are not given out again.
    #[test]
    fn any_damage_is_repaired(
        pieces in prop::collection::vec(1usize..200, 1..20),
        damages in prop::collection::vec(damage(), 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (root, mut writer) = open(dir.path());
            let mut said = Vec::new();
            for len in pieces {
                let piece: Vec<u8> = (0..len).map(|n| u8::try_from((said.len() + n) % 251).unwrap()).collect();
                say(&mut writer, &piece);
                said.extend_from_slice(&piece);
                read_to(&mut writer.journal().cursor(said.len() as u64 - 1), said.len() as u64).await;
            }
            kill(root, writer);
            for damage in &damages {
                apply(dir.path(), damage);
            }
            let log_len = fs::metadata(file(dir.path(), 0, "log")).unwrap().len();
            for round in 0..2u64 {
                let (root, mut writer) = open(dir.path());
                let next = writer.next_offset();
                assert!(next >= log_len, "{next} {log_len}");
                say(&mut writer, b"new");
                let mut cursor = writer.journal().cursor(0);
                let mut held = Vec::new();
                let mut missing = false;
                while cursor.offset() < next + 3 {
                    match cursor.next().await.unwrap() {
                        Item::Gap { .. } => missing = true,
                        Item::Frame(frame) if !missing && frame.offset() < log_len => {
                            held.extend_from_slice(frame.data());
                        }
                        Item::Frame(_) => {}
                    }
                }
                let garbage = damages.iter().any(|d| matches!(d, Damage::LogGarbage(_)));
                let true_len = held.len().min(said.len());
                if !garbage && round == 0 {
                    assert_eq!(&held[..true_len], &said[..true_len]);
                }
                kill(root, writer);
            }
        });
    }
}
