//! The folder that holds every device's journal, and the threads that write
//! there.
//!
//! `<root>/<device>@<uid>/` is one journal. `<root>/boot` holds the boot id of
//! the machine's last run in which all journals were opened: as long as it is
//! the current one, a server that died was only killed, and everything it wrote
//! is there.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use super::{
    Error, Writer,
    frame::Framer,
    recover::{Trust, recover},
    scribe::{self, Queue, Work},
    segment,
    shared::{Shared, TailBudget},
};
use crate::{device::Uid, limits, name::DeviceId, telemetry::Metrics};

const BOOT_FILE: &str = "boot";
/// Changes with every start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

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
    threads: Vec<JoinHandle<()>>,
    budget: Arc<TailBudget>,
}

impl Root {
    /// Makes the folder and starts the scribes. Blocks.
    pub fn open(config: Config, metrics: Arc<Metrics>) -> Result<Self, Error> {
        segment::create_dir(&config.dir).map_err(Error::io(&config.dir))?;
        let boot_id = fs::read_to_string(BOOT_ID).ok();
        let last = fs::read_to_string(config.dir.join(BOOT_FILE)).ok();
        let trust =
            if boot_id.is_some() && boot_id == last { Trust::Killed } else { Trust::PowerLost };
        let queues: Vec<Arc<Queue>> = (0..limits::SCRIBES).map(|_| Arc::default()).collect();
        let mut threads = Vec::new();
        for (at, queue) in queues.iter().enumerate() {
            threads.extend(scribe::spawn(queue.clone(), at).map_err(Error::Thread)?);
        }
        Ok(Self { config, metrics, boot_id, trust, queues, threads, budget: Arc::default() })
    }

    /// Opens one device's journal, repairing what an unclean end left. Blocks.
    pub fn journal(&self, id: &DeviceId, uid: Uid, retention: u64) -> Result<Writer, Error> {
        let dir = self.config.dir.join(folder(id, uid));
        let recovered = recover(&dir, self.trust).map_err(Error::io(&dir))?;
        if let Some(report) = &recovered.report {
            self.metrics.journal_recoveries.inc();
            tracing::warn!(device = %id, report, "journal was repaired after an unclean end");
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
        Ok(Writer::new(shared))
    }

    /// Removes journals of devices that no longer exist: a delete that was cut
    /// short. Blocks.
    pub fn remove_others(&self, known: impl Iterator<Item = (DeviceId, Uid)>) -> Result<(), Error> {
        let known: HashSet<OsString> = known.map(|(id, uid)| folder(&id, uid).into()).collect();
        let dir = &self.config.dir;
        for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
            let entry = entry.map_err(Error::io(dir))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && !known.contains(&entry.file_name())
            {
                tracing::info!(journal = %path.display(), "removing the journal of a device that no longer exists");
                remove_left_over(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// All journals of the store are open: from now on a kill loses nothing
    /// that was written. Blocks.
    pub fn all_open(&self) -> Result<(), Error> {
        let Some(boot_id) = &self.boot_id else {
            return Ok(());
        };
        let path = self.config.dir.join(BOOT_FILE);
        fs::write(&path, boot_id).map_err(Error::io(&path))
    }

    /// Writes everything, marks every journal whose writer is gone as closed,
    /// and asks the disk to keep it. Blocks.
    pub fn close(self) {
        for queue in &self.queues {
            queue.push(Work::Stop);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a journal thread panicked");
            }
        }
        let synced = fs::File::open(&self.config.dir)
            .and_then(|dir| rustix::fs::syncfs(dir).map_err(io::Error::from));
        if let Err(error) = synced {
            tracing::error!(%error, "journals may not survive a power loss");
        }
    }
}

fn folder(id: &DeviceId, uid: Uid) -> String {
    format!("{id}@{uid}")
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    if path.extension().is_some_and(|extension| extension == "deleted") {
        fs::remove_dir_all(path)
    } else {
        segment::remove_dir(path)
    }
}
