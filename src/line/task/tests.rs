//! A line with a link that does what a test says, and its copy.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{super::Departures, *};
use crate::{
    backend::{Allow, BoxFuture, Environment, Error, Read},
    device::{Counters, HostInterface, LogSpec, Switch, Uid},
    journal::{Age, Config, Item, Root},
    limits,
    telemetry::Metrics,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// What a link tells, one after another; then nothing any more.
struct Script(VecDeque<(Read, &'static [u8])>);

impl Link for Script {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        match self.0.pop_front() {
            Some((read, bytes)) => {
                buf.put_slice(bytes);
                Poll::Ready(Ok(read))
            }
            None => Poll::Pending,
        }
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        Poll::Ready(Ok(data.len()))
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

struct NoBackend;

impl Backend for NoBackend {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(std::future::pending())
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(std::future::pending())
    }
}

/// A line, and what others see of it.
struct Seen {
    line: Line,
    journal: journal::Journal,
    shared: Arc<LineShared>,
    /// How often it said that something changed.
    told: Arc<AtomicUsize>,
    /// Behind the line: its threads write the journal.
    _root: Root,
}

fn line(dir: &Path, log: Option<LogSpec>) -> Seen {
    let metrics = Arc::new(Metrics::new());
    let config = Config { dir: dir.join("journals"), framer: |_, _| {} };
    let root = Root::open(config, metrics.clone()).unwrap();
    let id: crate::name::DeviceId = "node7".parse().unwrap();
    let writer = root.journal(&id, Uid(1), 1 << 20, Age::New);
    let spec = DeviceSpec {
        description: String::new(),
        run_state: RunState::Running,
        host_interface: HostInterface::Udp(Default::default()),
        journal: Default::default(),
        input: Default::default(),
        reconnect: Default::default(),
        log,
        libvirt: None,
    };
    let now = SystemTime::now();
    let device = Arc::new(Device {
        id,
        uid: Uid(1),
        labels: Default::default(),
        spec,
        create_time: now,
        update_time: now,
        revision: 1,
        create_request_id: String::new(),
    });
    let environment = Environment {
        allow: Arc::new(Allow { folders: vec![dir.to_owned()], ..Allow::default() }),
        notes_dir: dir.join("notes"),
        lookups: Arc::new(Semaphore::new(1)),
        metrics: metrics.clone(),
        files: Arc::new(Semaphore::new(2)),
        domain_logs: Arc::default(),
        credentials: Arc::default(),
    };
    let told = Arc::<AtomicUsize>::default();
    let telling = told.clone();
    let stop = CancellationToken::new();
    let shared = Arc::new(LineShared {
        metrics: metrics.clone(),
        counters: Counters::default(),
        departures: Departures::default(),
        input_room: Arc::new(Semaphore::new(limits::LINE_INPUT_BYTES_MAX)),
        ending: stop.child_token(),
        reason: OnceLock::new(),
    });
    let around = Surroundings {
        environment: Arc::new(environment),
        changed: Arc::new(move |_| {
            telling.fetch_add(1, Ordering::Relaxed);
        }),
        metrics,
        stop,
        tasks: TaskTracker::new(),
    };
    let journal = writer.journal();
    let status = watch::Sender::new(LinkStatus::new(State::Opening));
    let writers = watch::Sender::new(Arc::default());
    let line = Line::new(device, writer, around, shared.clone(), status, writers);
    Seen { line, journal, shared, told, _root: root }
}

/// Lets the line serve a link that does this, until `until` is there.
async fn serve<T>(
    line: &mut Line,
    script: &[(Read, &'static [u8])],
    until: impl Future<Output = T>,
) -> T {
    let (_handle, mut commands) = mpsc::channel(1);
    let mut backend = NoBackend;
    let link = Box::new(Script(script.iter().copied().collect()));
    tokio::select! {
        biased;
        _ = line.connected(&mut commands, &mut backend, link) => panic!("the link was lost"),
        result = timeout(PATIENCE, until) => result.expect("in time"),
    }
}

#[tokio::test]
async fn output_that_comes_with_news_of_the_far_side_waits_for_nothing() {
    for news in [Read::Changed, Read::Break] {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = line(dir.path(), None);
        let mut cursor = seen.journal.cursor(0);
        let script = [(Read::Bytes, &b"x"[..]), (news, b"")];
        let item = serve(&mut seen.line, &script, cursor.next()).await.unwrap();
        assert!(matches!(item, Item::Frame(frame) if frame.data() == b"x"), "{news:?}");
    }
}

#[tokio::test]
async fn a_loss_that_nothing_follows_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = line(dir.path(), None);
    let told = seen.told.clone();
    let until = async {
        // The first tells that it is connected.
        while told.load(Ordering::Relaxed) < 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    serve(&mut seen.line, &[(Read::Lost(3), b"")], until).await;
    assert_eq!(Counters::get(&seen.shared.counters.lost), 3);
}

fn copy(file: PathBuf) -> Option<LogSpec> {
    Some(LogSpec { file, append: Switch::On })
}

#[tokio::test]
async fn a_byte_said_while_copies_are_exchanged_is_in_one_of_them() {
    const ROUNDS: usize = 32;
    let dir = tempfile::tempdir().unwrap();
    let files = ["a", "b"].map(|name| dir.path().join(name));
    let Seen { mut line, journal, shared: _shared, _root, .. } = line(dir.path(), None);
    for round in 0..ROUNDS {
        line.spec.log = copy(files[round % 2].clone());
        line.follow_log();
        line.writer.append(b"x");
        line.writer.flush();
        // Shown before the copy before this one hears of its end.
        while journal.status().next_offset <= round as u64 {
            std::thread::yield_now();
        }
        let copied = || line.around.metrics.log_written_bytes.get();
        timeout(PATIENCE, async {
            while copied() <= round as u64 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("a copy in time");
    }
    line.end_log().await;
    let copied = files.map(|file| fs::read(file).unwrap().len());
    assert_eq!(copied, [ROUNDS / 2; 2]);
}

#[tokio::test]
async fn many_gaps_are_counted_in_the_copy_and_told_a_few_times() {
    const GAPS: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let Seen { mut line, told, shared, _root, .. } = line(dir.path(), copy(file.clone()));
    line.follow_log();
    for _ in 0..GAPS {
        line.writer.append(b"x");
        line.writer.lose(1);
    }
    line.writer.append(b"end");
    timeout(PATIENCE, line.end_log()).await.expect("an end in time");
    assert_eq!(fs::read(file).unwrap().len() as u64, GAPS + 3);
    assert_eq!(Counters::get(&shared.counters.log_lost), GAPS);
    let told = told.load(Ordering::Relaxed);
    assert!((1..10).contains(&told), "told {told} times");
}

#[tokio::test]
async fn a_copy_that_can_be_opened_again_says_so_before_anything_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let Seen { mut line, _root, .. } = line(dir.path(), copy(folder.join("a")));
    let mut status = line.status.subscribe();
    line.follow_log();
    let mut until = async |degraded: bool| {
        let is = status.wait_for(|status| status.log_degraded.holds.is_some() == degraded);
        timeout(PATIENCE, is).await.expect("in time").unwrap();
    };
    until(true).await;
    fs::create_dir(&folder).unwrap();
    until(false).await;
}
