//! The folder that holds every device's journal, and the threads that write
//! there.
//!
//! `<root>/<device>@<uid>/` is one journal. `<root>/boot` is the mark of the last
//! run: the machine's boot id, and whether that run ended in order and was
//! synced. From it follows what can be trusted when journals are opened. Folders
//! of devices that the store does not know are moved to `<root>/orphaned/`,
//! never deleted: the store may be an older copy.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use super::{
    Error, Writer,
    frame::Framer,
    micros,
    recover::{Recovered, Trust, recover},
    scribe::{self, Queue, Work},
    segment,
    shared::{Shared, TailBudget},
};
use crate::{device::Uid, limits, name::DeviceId, telemetry::Metrics};

const BOOT_FILE: &str = "boot";
/// Where journals of unknown devices are moved.
const ORPHANED: &str = "orphaned";
const RUNNING: &str = "running";
const CLOSED: &str = "closed";
/// Changes with every start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where offsets go on when a journal cannot be read: no device ever says so
/// much, and with the time added no two runs meet.
const UNREADABLE_FROM: u64 = 1 << 62;

/// Whether a device may have a journal already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It was made just now.
    New,
    /// It was in the store when the server started.
    Known,
}

/// Where journals live.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder; made if missing.
    pub dir: PathBuf,
    /// Writes the header of a frame.
    pub framer: Framer,
}

/// All journals of a server.
#[derive(Debug)]
pub struct Root {
    config: Config,
    metrics: Arc<Metrics>,
    boot_id: Option<String>,
    trust: Trust,
    queues: Vec<Arc<Queue>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    budget: Arc<TailBudget>,
}

impl Root {
    /// Makes the folder and starts the scribes. Blocks.
    pub fn open(config: Config, metrics: Arc<Metrics>) -> Result<Self, Error> {
        segment::create_dir(&config.dir).map_err(Error::io(&config.dir))?;
        let boot_id = fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned());
        let mark = fs::read_to_string(config.dir.join(BOOT_FILE)).unwrap_or_default();
        let trust = match mark.trim().split_once(' ') {
            Some((boot, _)) if Some(boot) == boot_id.as_deref() => Trust::Killed,
            Some((_, CLOSED)) => Trust::Synced,
            _ => Trust::PowerLost,
        };
        let queues: Vec<Arc<Queue>> = (0..limits::SCRIBES).map(|_| Arc::default()).collect();
        let mut threads = Vec::new();
        for (at, queue) in queues.iter().enumerate() {
            threads.extend(scribe::spawn(queue.clone(), at).map_err(Error::Thread)?);
        }
        let threads = Mutex::new(threads);
        Ok(Self { config, metrics, boot_id, trust, queues, threads, budget: Arc::default() })
    }

    /// Opens one device's journal, repairing what an unclean end left. Blocks.
    ///
    /// A console is never down because of its log: a journal that cannot be read
    /// goes on, and says so, at an offset that was certainly never given out.
    pub fn journal(&self, id: &DeviceId, uid: Uid, retention: u64, age: Age) -> Writer {
        let dir = self.config.dir.join(folder(id, uid));
        let trust = match age {
            Age::New => Trust::Killed,
            Age::Known => self.trust,
        };
        let recovered = recover(&dir, trust).unwrap_or_else(|error| {
            self.metrics.journal_errors.inc();
            let next = UNREADABLE_FROM + micros(SystemTime::now());
            let report = format!(
                "what was said before cannot be read ({error}); output goes on at offset {next}"
            );
            Recovered { next, report: Some(report), ..Recovered::default() }
        });
        if let Some(report) = &recovered.report {
            self.metrics.journal_recoveries.inc();
            tracing::warn!(device = %id, report, "journal was not closed in order");
        }
        let at = usize::try_from(uid.0).unwrap_or(0) % self.queues.len();
        let shared = Shared::new(
            dir,
            self.config.framer,
            self.metrics.clone(),
            recovered,
            retention,
            self.queues[at].clone(),
            self.budget.clone(),
        );
        Writer::new(shared)
    }

    /// Moves journals of devices that the store does not know aside, and ends
    /// removals that were cut short. Touches nothing else. Blocks.
    pub fn set_aside_others(
        &self,
        known: impl Iterator<Item = (DeviceId, Uid)>,
    ) -> Result<(), Error> {
        let known: HashSet<OsString> = known.map(|(id, uid)| folder(&id, uid).into()).collect();
        let dir = &self.config.dir;
        for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
            let entry = entry.map_err(Error::io(dir))?;
            let path = entry.path();
            let name = entry.file_name();
            let result = match name.to_str().map(kind_of) {
                Some(Kind::Removed) => fs::remove_dir_all(&path),
                Some(Kind::Journal) if !known.contains(&name) => {
                    tracing::warn!(journal = %path.display(), "set aside the journal of a device that the store does not know");
                    let aside = dir.join(ORPHANED);
                    segment::create_dir(&aside).and_then(|()| fs::rename(&path, aside.join(&name)))
                }
                _ => Ok(()),
            };
            if let Err(error) = result {
                tracing::warn!(journal = %path.display(), %error, "left-over journal stays where it is");
            }
        }
        Ok(())
    }

    /// All journals of the store are open: from now on a kill loses nothing
    /// that was written, and a power loss is known as one. Blocks.
    pub fn all_open(&self) -> Result<(), Error> {
        self.mark(RUNNING)
    }

    fn mark(&self, how: &str) -> Result<(), Error> {
        let Some(boot_id) = &self.boot_id else { return Ok(()) };
        let path = self.config.dir.join(BOOT_FILE);
        let new = self.config.dir.join("boot.new");
        let write = || {
            let mut file = fs::File::create(&new)?;
            file.write_all(format!("{boot_id} {how}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.config.dir)?.sync_all()
        };
        write().map_err(Error::io(&path))
    }

    /// Writes everything, marks every journal whose writer is gone as closed,
    /// and asks the disk to keep it. Blocks.
    pub fn close(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        for queue in &self.queues {
            queue.push(Work::Stop);
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a journal thread panicked");
            }
        }
        let synced = fs::File::open(&self.config.dir)
            .and_then(|dir| rustix::fs::syncfs(dir).map_err(io::Error::from));
        let marked = synced.map_err(Error::io(&self.config.dir)).and_then(|()| self.mark(CLOSED));
        if let Err(error) = marked {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "journals may not survive a power loss"
            );
        }
    }
}

fn folder(id: &DeviceId, uid: Uid) -> String {
    format!("{id}@{uid}")
}

/// What an entry of the root is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Journal,
    /// A removal that was cut short.
    Removed,
    /// Not ours.
    Other,
}

fn kind_of(name: &str) -> Kind {
    let (journal, kind) = match name.strip_suffix(segment::REMOVED_SUFFIX) {
        Some(journal) => (journal, Kind::Removed),
        None => (name, Kind::Journal),
    };
    let ours = journal.split_once('@').is_some_and(|(id, uid)| {
        id.parse::<DeviceId>().is_ok()
            && uid.len() == 16
            && uid.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if ours { kind } else { Kind::Other }
}
