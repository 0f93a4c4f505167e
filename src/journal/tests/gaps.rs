//! Output that was lost before it came to the journal: whatever happens between,
//! every reader is told exactly that, and never sees the zero bytes of a hole.

use super::*;
use crate::journal::index::{Index, Kind, Record};

/// What is said at an offset; never zero.
fn byte(offset: u64) -> u8 {
    u8::try_from(1 + offset % 251).unwrap()
}

fn say_next(writer: &mut Writer, len: u64) {
    let from = writer.next_offset();
    let text: Vec<u8> = (from..from + len).map(byte).collect();
    writer.append(&text);
}

/// Until everything is on disk and the scribe is done with it.
async fn written(writer: &mut Writer) {
    writer.flush();
    let end = writer.next_offset();
    let mut published = writer.journal().shared.subscribe();
    let all = published.wait_for(|published| *published >= end);
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("written in time").unwrap();
    drop(writer.journal().shared.disk.lock().unwrap());
}

fn drop_tail(writer: &Writer) {
    writer.journal().shared.core().tail.trim(0);
}

/// Files in the journal's folder that end so.
fn count(dir: &Path, extension: &str) -> usize {
    let folder = file(dir, 0, "log").parent().unwrap().to_owned();
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|end| end == extension)).count()
}

/// What a server killed now leaves behind.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let folder = file(dir, 0, "log").parent().unwrap().to_owned();
    let to = file(copy.path(), 0, "log").parent().unwrap().to_owned();
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    fs::copy(dir.join("boot"), copy.path().join("boot")).unwrap();
    copy
}

/// What was said and lost: the whole truth.
#[derive(Debug, Default, Clone)]
struct Truth {
    next: u64,
    lost: Vec<(u64, u64)>,
}

impl Truth {
    fn lose(&mut self, n: u64) {
        match self.lost.last_mut() {
            Some((_, to)) if *to == self.next => *to += n,
            _ => self.lost.push((self.next, self.next + n)),
        }
        self.next += n;
    }

    fn said_between(&self, from: u64, to: u64) -> u64 {
        let overlap = |(a, b): &(u64, u64)| to.min(*b).saturating_sub(from.max(*a));
        to.saturating_sub(from) - self.lost.iter().map(overlap).sum::<u64>()
    }

    fn was_said(&self, offset: u64) -> bool {
        offset < self.next && self.said_between(offset, offset + 1) == 1
    }

    /// Reads from `from` to the end and finds everything as it was.
    async fn check(&self, writer: &Writer, from: u64) {
        let oldest = writer.journal().status().oldest_offset;
        let mut cursor = writer.journal().cursor(from);
        let mut at = from;
        let mut after_gap = false;
        while let Some(item) = cursor.try_next().await.unwrap() {
            match item {
                Item::Frame(frame) => {
                    assert_eq!(frame.offset(), at);
                    for (offset, seen) in (at..).zip(frame.data()) {
                        assert_eq!(*seen, byte(offset), "at {offset}");
                    }
                    let len = frame.len() as u64;
                    assert_eq!(self.said_between(at, frame.end()), len, "from {at}");
                    at = frame.end();
                    after_gap = false;
                }
                Item::Gap { from: gap, to } => {
                    assert_eq!(gap, at);
                    assert!(!after_gap, "one gap, not two, at {gap}");
                    assert_eq!(self.said_between(gap.max(oldest), to), 0, "{gap}-{to}");
                    assert!(to == self.next || self.was_said(to), "{gap}-{to} to its end");
                    at = to;
                    after_gap = true;
                }
            }
        }
        assert_eq!(at, self.next);
    }

    /// From memory and disk, from disk alone, and from what another has read.
    async fn check_all(&self, writer: &Writer, from: u64) {
        self.check(writer, from).await;
        drop_tail(writer);
        self.check(writer, from).await;
        self.check(writer, from).await;
    }
}

#[tokio::test]
async fn a_loss_is_one_gap_wherever_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    let mut live = writer.journal().cursor(0);
    writer.append(b"gathered");
    writer.lose(3);
    writer.lose(0);
    writer.lose(4);
    say(&mut writer, b"after");
    let all = b"gathered<gap 8-15>after";
    // Who is there when it happens may be told of it in two parts.
    let told = read_to(&mut live, 20).await;
    let in_parts = b"gathered<gap 8-11><gap 11-15>after";
    assert!(told == all || told == in_parts, "{}", String::from_utf8_lossy(&told));
    assert_eq!(read_to(&mut writer.journal().cursor(0), 20).await, all);
    assert_eq!(read_to(&mut writer.journal().cursor(10), 20).await, b"<gap 10-15>after");
    drop_tail(&writer);
    assert_eq!(read_to(&mut writer.journal().cursor(0), 20).await, all, "from disk");
    assert_eq!(read_to(&mut writer.journal().cursor(0), 20).await, all, "read by another");
    assert_eq!(read_to(&mut writer.journal().cursor(10), 20).await, b"<gap 10-15>after");
    assert_eq!(writer.journal().shared.metrics.journal_recorded_gaps.get(), 1);
    assert_eq!(writer.journal().shared.metrics.journal_recorded_gap_bytes.get(), 7);
    assert_eq!(writer.journal().status().lost_bytes, 0);
    assert_eq!(count(dir.path(), "log"), 1);

    let killed = copy(dir.path());
    let (_root, mut again) = open(killed.path());
    assert_eq!(again.journal().status().recovery, None);
    assert_eq!(read_to(&mut again.journal().cursor(0), 20).await, all, "after a kill");
    say(&mut again, b"!");
    assert_eq!(read_to(&mut again.journal().cursor(10), 21).await, b"<gap 10-15>after!");

    drop(writer);
    root.close();
    let (_root, writer) = open(dir.path());
    assert_eq!(read_to(&mut writer.journal().cursor(0), 20).await, all, "after a restart");
}

#[tokio::test]
async fn a_gap_with_nothing_after_it_is_told_and_kept() {
    for before in ["", "said"] {
        let mut dir = tempfile::tempdir().unwrap();
        let (root, mut writer) = open(dir.path());
        let from = before.len() as u64;
        say(&mut writer, before.as_bytes());
        writer.lose(5);
        let told = format!("{before}<gap {from}-{}>", from + 5);
        assert_eq!(read_to(&mut writer.journal().cursor(0), from + 5).await, told.as_bytes());
        assert_eq!(writer.journal().status().next_offset, from + 5);
        let killed = copy(dir.path());
        drop(writer);
        root.close();
        for again in [killed, std::mem::replace(&mut dir, tempfile::tempdir().unwrap())] {
            let (root, mut writer) = open(again.path());
            assert_eq!(writer.next_offset(), from + 5);
            assert_eq!(writer.journal().status().recovery, None);
            writer.lose(6);
            say(&mut writer, b"new");
            written(&mut writer).await;
            let all = format!("{before}<gap {from}-{}>new", from + 11);
            for _ in 0..2 {
                let seen = read_to(&mut writer.journal().cursor(0), from + 14).await;
                assert_eq!(String::from_utf8(seen).unwrap(), all);
                drop_tail(&writer);
            }
            drop(writer);
            root.close();
        }
    }
}

#[tokio::test]
async fn a_flood_of_gaps_makes_no_flood_of_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    let mut truth = Truth::default();
    for round in 0..5_000u64 {
        say_next(&mut writer, 20);
        truth.next += 20;
        let n = 1 + round % 3;
        writer.lose(n);
        truth.lose(n);
        writer.room().await;
    }
    written(&mut writer).await;
    assert!(count(dir.path(), "log") <= 1 + 8, "{}", count(dir.path(), "log"));
    for from in [0, 31, 20_000, truth.next - 1] {
        truth.check_all(&writer, from).await;
    }
    drop(writer);
    root.close();
}

#[tokio::test]
async fn long_gaps_and_gaps_alone_do_not_collect_files() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    let mut truth = Truth::default();
    for round in 0..60u64 {
        let n = if round % 2 == 0 { limits::HOLE_BYTES_MAX + 1 } else { 1 };
        writer.lose(n);
        truth.lose(n);
        written(&mut writer).await;
    }
    assert_eq!(count(dir.path(), "log"), 1, "nothing was ever said");
    for _ in 0..60 {
        say_next(&mut writer, 1);
        truth.next += 1;
        writer.lose(limits::HOLE_BYTES_MAX + 1);
        truth.lose(limits::HOLE_BYTES_MAX + 1);
        written(&mut writer).await;
    }
    let most = usize::try_from(limits::RETENTION_BYTES_MIN / limits::SEGMENT_BYTES_MIN).unwrap();
    assert!(count(dir.path(), "log") <= most);
    assert!(writer.journal().status().disk_bytes <= limits::RETENTION_BYTES_MIN);
    truth.check_all(&writer, 0).await;
    drop(writer);
    root.close();
    let (_root, writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    assert_eq!(writer.next_offset(), truth.next);
    truth.check_all(&writer, 0).await;
}

#[tokio::test]
async fn retention_takes_the_marks_of_gaps_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_root, mut writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    for _ in 0..200 {
        say_next(&mut writer, 1000);
        writer.lose(10);
        written(&mut writer).await;
    }
    assert!(count(dir.path(), "gaps") > 1);
    assert!(count(dir.path(), "gaps") <= count(dir.path(), "log"));
}

#[tokio::test]
async fn a_segment_that_cannot_tell_its_gaps_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    for _ in 0..12 {
        say_next(&mut writer, 1000);
        writer.lose(10);
        written(&mut writer).await;
    }
    drop(writer);
    root.close();
    assert!(count(dir.path(), "log") > 1);
    // One record, then all of them.
    let index = file(dir.path(), 0, "idx");
    let mut bytes = fs::read(&index).unwrap();
    bytes[32 + 2 * 16 + 14] = 0xff;
    fs::write(&index, &bytes).unwrap();
    {
        let (_root, writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
        let seen = read_to(&mut writer.journal().cursor(0), 4_040).await;
        assert!(!seen.contains(&0));
        assert!(String::from_utf8_lossy(&seen).contains("<gap 1000-2020>"));
    }
    bytes[0] ^= 1;
    fs::write(&index, &bytes).unwrap();
    let (_root, writer) = open_with(dir.path(), limits::RETENTION_BYTES_MIN);
    let mut cursor = writer.journal().cursor(0);
    let Item::Gap { from: 0, to } = cursor.next().await.unwrap() else { panic!("a gap") };
    assert!(file(dir.path(), to, "log").exists(), "up to the next segment: {to}");
}

#[tokio::test]
async fn a_gap_while_the_disk_fails_is_told_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    let mut cursor = writer.journal().cursor(0);
    say(&mut writer, b"before");
    read_to(&mut cursor, 6).await;
    writer.journal().shared.disk.lock().unwrap().release();
    let folder = file(dir.path(), 0, "log").parent().unwrap().to_owned();
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "").unwrap();
    writer.lose(4);
    assert_eq!(read_to(&mut cursor, 10).await, b"<gap 6-10>", "attachers go on from memory");
    say(&mut writer, b"during");
    writer.lose(2);
    assert_eq!(read_to(&mut cursor, 18).await, b"during<gap 16-18>");
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    drop(writer);
    root.close();
    let (_root, writer) = open(dir.path());
    let all = b"before<gap 6-10>during<gap 16-18>";
    assert_eq!(read_to(&mut writer.journal().cursor(0), 18).await, all);
}

#[tokio::test]
async fn readers_begin_where_they_ask_beside_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let (_root, mut writer) = open(dir.path());
    say(&mut writer, b"one\ntwo\n");
    written(&mut writer).await;
    let later = SystemTime::now();
    writer.lose(10);
    written(&mut writer).await;
    let journal = writer.journal();
    let start = async |position| journal.start(position).await.unwrap().offset;
    assert_eq!(start(Position::LastLines(1)).await, 4, "what was lost is no line");
    assert_eq!(start(Position::Time(later)).await, 18, "nothing was received since");
    say(&mut writer, b"three\n");
    written(&mut writer).await;
    for _ in 0..2 {
        assert_eq!(start(Position::Now).await, 24);
        assert_eq!(start(Position::Beginning).await, 0);
        assert_eq!(start(Position::Time(later)).await, 18);
        assert_eq!(start(Position::LastLines(1)).await, 8, "with the gap before it");
        assert_eq!(start(Position::LastLines(3)).await, 0);
        assert_eq!(start(Position::LastBytes(10)).await, 14);
        drop_tail(&writer);
    }
}

/// Readers that keep up, fall behind and come back, while it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_find_the_truth_while_it_is_written() {
    const ROUNDS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open_with(dir.path(), 16 << 20);
    let mut truth = Truth::default();
    let round_of = |round: u64| (1 + round * 7 % 400, 1 + round % 5);
    for round in 0..ROUNDS {
        let (said, lost) = round_of(round);
        truth.next += said;
        truth.lose(lost);
    }
    let mut readers = Vec::new();
    for from in [0, truth.next / 2] {
        let (journal, truth) = (writer.journal(), truth.clone());
        readers.push(tokio::spawn(async move {
            let mut cursor = journal.cursor(from);
            let mut gaps = Vec::new();
            while cursor.offset() < truth.next {
                match cursor.next().await.unwrap() {
                    Item::Gap { from, to } => gaps.push((from, to)),
                    Item::Frame(frame) => {
                        for (offset, seen) in (frame.offset()..).zip(frame.data()) {
                            assert_eq!(*seen, byte(offset), "at {offset}");
                        }
                    }
                }
            }
            let mut lost = truth.lost;
            lost.retain(|(_, to)| *to > from);
            if let Some((first, _)) = lost.first_mut() {
                *first = from.max(*first);
            }
            assert!(gaps == lost, "exactly the gaps that were told");
        }));
    }
    for round in 0..ROUNDS {
        let (said, lost) = round_of(round);
        say_next(&mut writer, said);
        writer.lose(lost);
        writer.room().await;
        if round % 50 == 0 {
            drop_tail(&writer);
        }
    }
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(20), reader).await.expect("in time").unwrap();
    }
    drop(writer);
    root.close();
}

/// Every state of the files that a kill can leave: records up to any, and of
/// what comes next in the log all, a part or nothing.
#[tokio::test]
async fn a_kill_at_any_moment_leaves_no_hole_that_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut writer) = open(dir.path());
    let mut truth = Truth::default();
    for (said, lost) in [(5, 0), (7, 3), (1, 2), (4, 0), (9, 70), (6, 0), (2, 1), (3, 5)] {
        say_next(&mut writer, said);
        truth.next += said;
        writer.lose(lost);
        if lost > 0 {
            truth.lose(lost);
        }
        if said != 9 {
            written(&mut writer).await;
        }
    }
    written(&mut writer).await;
    let whole = copy(dir.path());
    drop(writer);
    root.close();

    let index = Index::open(&file(whole.path(), 0, "idx"), 0).unwrap();
    let mut records = Vec::new();
    for at in 0..index.count() {
        records.push(index.record(at).unwrap().unwrap());
    }
    assert_eq!(records.iter().filter(|record| record.kind == Kind::Gap).count(), 5);
    for kept in 0..=records.len() {
        let (before, after) = records.split_at(kept);
        let end = before.last().map_or(0, |record| u64::from(record.end));
        let is_output = |record: &&Record| record.kind == Kind::Data;
        let output = before.iter().rfind(is_output).map_or(0, |record| u64::from(record.end));
        let ahead = after.iter().take_while(is_output).last();
        let ahead = ahead.map_or(output, |record| u64::from(record.end));
        for log_len in [output, output.midpoint(ahead), ahead] {
            if log_len > output && log_len <= end {
                // A hole is not written to.
                continue;
            }
            let killed = copy(whole.path());
            let cut = |extension, len| {
                let path = file(killed.path(), 0, extension);
                OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
            };
            cut("idx", 32 + kept as u64 * 16);
            cut("log", log_len);
            if before.iter().all(|record| record.kind == Kind::Data) {
                fs::remove_file(file(killed.path(), 0, "gaps")).unwrap();
            }
            let mut known = truth.clone();
            known.next = end.max(log_len);
            known.lost.retain(|(from, _)| *from < known.next);
            let (root, mut writer) = open(killed.path());
            assert_eq!(writer.next_offset(), known.next, "{kept} records, {log_len} bytes");
            known.check(&writer, 0).await;
            writer.lose(3);
            known.lose(3);
            say_next(&mut writer, 5);
            known.next += 5;
            written(&mut writer).await;
            known.check_all(&writer, 0).await;
            drop(writer);
            root.close();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64),
    Lose(u64),
    Flush,
    Written,
    DropTail,
    Read(u16),
    Restart,
    Kill,
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u64..3000).prop_map(Step::Say),
        4 => (1u64..20).prop_map(Step::Say),
        6 => (1u64..20).prop_map(Step::Lose),
        2 => (1u64..5000).prop_map(Step::Lose),
        1 => (60_000u64..80_000).prop_map(Step::Lose),
        3 => Just(Step::Flush),
        3 => Just(Step::Written),
        2 => Just(Step::DropTail),
        4 => any::<u16>().prop_map(Step::Read),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerLoss),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever is said, lost and done, readers from anywhere find the truth.
    #[test]
    fn readers_find_what_was_said_and_lost(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let open = |dir: &tempfile::TempDir| open_with(dir.path(), limits::RETENTION_BYTES_MIN);
            let mut dir = tempfile::tempdir().unwrap();
            let (mut root, mut writer) = open(&dir);
            let mut truth = Truth::default();
            for step in steps {
                match step {
                    Step::Say(len) => {
                        say_next(&mut writer, len);
                        truth.next += len;
                    }
                    Step::Lose(n) => {
                        writer.lose(n);
                        truth.lose(n);
                    }
                    Step::Flush => writer.flush(),
                    Step::Written => written(&mut writer).await,
                    Step::DropTail => drop_tail(&writer),
                    Step::Read(at) => {
                        written(&mut writer).await;
                        // Near the end, where output is held.
                        let back = (u64::from(at) * 2).min(truth.next);
                        truth.check_all(&writer, truth.next - back).await;
                    }
                    Step::Restart => {
                        drop(writer);
                        root.close();
                        (root, writer) = open(&dir);
                    }
                    Step::Kill | Step::PowerLoss => {
                        written(&mut writer).await;
                        let killed = copy_if_any(dir.path());
                        drop(writer);
                        root.close();
                        dir = killed;
                        if matches!(step, Step::PowerLoss) {
                            another_boot(dir.path());
                            truth.lose(limits::OFFSET_JUMP);
                        }
                        (root, writer) = open(&dir);
                    }
                }
                assert_eq!(writer.next_offset(), truth.next);
            }
            written(&mut writer).await;
            let status = writer.journal().status();
            assert!(status.disk_bytes <= 2 * limits::RETENTION_BYTES_MIN, "{status:?}");
            truth.check_all(&writer, 0).await;
            truth.check_all(&writer, status.oldest_offset).await;
            drop(writer);
            root.close();
        });
    }
}

/// A journal that has said nothing has no folder yet.
fn copy_if_any(dir: &Path) -> tempfile::TempDir {
    if file(dir, 0, "log").parent().unwrap().exists() {
        return copy(dir);
    }
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.join("boot"), copy.path().join("boot")).unwrap();
    copy
}
