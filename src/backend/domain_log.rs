//! The logs of domains: one file a domain, `DOMAIN.log`, that all devices of the
//! domain write to, so that a guest's consoles are read in one place. There is
//! one writer for each file in this server, found here; [`DomainLogs`] holds it
//! weakly, so it lives as long as a device uses it.
//!
//! - Lines of two devices are never mixed: a batch of a device is written before
//!   another's begins, and an unfinished line of one is ended with a newline
//!   before another writes.
//! - A line that a full disk cuts is finished first of all when there is room
//!   again; its bytes count as written meanwhile (at most one batch).
//! - Rolled over as virtlogd does it: at 2 MiB, and rather after a newline in the
//!   last 80 bytes before; `.0` is the newest old file, `.2` the oldest. Old
//!   files move only as far as there is a free name, so a kill between two steps
//!   removes nothing. One after another they are the log, byte for byte.
//! - Others may rotate it too; see `append`.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{
    Allow, Begin, Error,
    append::{Appender, Same, Target, write_some},
};
use crate::{device::Uid, limits, telemetry::Metrics};

/// Fewer logs than this are not looked through for those that are gone.
const SWEEP_MIN: usize = 64;

/// The logs of domains that devices write to now. Bounded by twice the devices.
#[derive(Debug, Default)]
pub struct DomainLogs {
    open: Mutex<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    by_domain: HashMap<String, Weak<tokio::sync::Mutex<DomainLog>>>,
    sweep_at: usize,
}

impl DomainLogs {
    /// The log of a domain, for as long as the caller keeps it.
    pub(super) fn log(
        &self,
        domain: &str,
        allow: &Arc<Allow>,
        metrics: &Arc<Metrics>,
    ) -> Arc<tokio::sync::Mutex<DomainLog>> {
        let mut logs = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.by_domain.get(domain).and_then(Weak::upgrade) {
            return log;
        }
        if logs.by_domain.len() >= logs.sweep_at {
            logs.by_domain.retain(|_, log| log.strong_count() > 0);
            logs.sweep_at = SWEEP_MIN.max(2 * logs.by_domain.len());
        }
        let log = DomainLog::new(domain, allow.clone(), metrics.clone());
        let log = Arc::new(tokio::sync::Mutex::new(log));
        logs.by_domain.insert(domain.to_owned(), Arc::downgrade(&log));
        log
    }
}

/// Counts bytes that were reported as written and could not be.
pub(super) fn lost(metrics: &Metrics, domain: &str, bytes: usize) {
    if bytes > 0 {
        metrics.input_dropped_bytes.inc_by(bytes as u64);
        tracing::warn!(
            domain,
            bytes,
            "the beginning of a line could not be written to the log of its domain"
        );
    }
}

/// The log of one domain. Blocks.
#[derive(Debug)]
pub(super) struct DomainLog {
    domain: String,
    file: Appender,
    /// How long we left the file; otherwise somebody else has changed it.
    len: u64,
    end: End,
    /// Whether what comes goes to a new file.
    full: bool,
    /// The rest of a line that was begun.
    torn: Vec<u8>,
    torn_of: Uid,
    metrics: Arc<Metrics>,
}

/// How the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a whole line, or it is empty.
    Line,
    /// With the beginning of a line of this device.
    Unfinished(Uid),
    /// With the beginning of a line; nobody knows whose.
    Unknown,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Appended {
    /// So many bytes at its front are in the file, or will be before anything
    /// else is.
    pub(super) bytes: usize,
    /// What happened then.
    pub(super) result: Result<(), Error>,
}

impl DomainLog {
    fn new(domain: &str, allow: Arc<Allow>, metrics: Arc<Metrics>) -> Self {
        let name = OsString::from(format!("{domain}.log"));
        Self {
            domain: domain.to_owned(),
            file: Appender::new(allow, Target::DomainLog(name), Begin::Keep),
            len: 0,
            end: End::Line,
            full: false,
            torn: Vec::new(),
            torn_of: Uid(0),
            metrics,
        }
    }

    /// Opens the log and finishes what was torn.
    pub(super) fn ready(&mut self) -> Result<(), Error> {
        self.file.ready()?;
        self.finish_torn()
    }

    /// Appends a batch of a device.
    pub(super) fn append(&mut self, from: Uid, batch: &[u8]) -> Appended {
        if let Err(error) = self.finish_torn() {
            return Appended { bytes: 0, result: Err(error) };
        }
        let mut bytes = 0;
        while bytes < batch.len() {
            match self.append_some(from, &batch[bytes..]) {
                Ok(n) => bytes += n,
                Err(error) => {
                    if bytes > 0 && batch[bytes - 1] != b'\n' {
                        let rest = &batch[bytes..];
                        let end = rest.iter().position(|byte| *byte == b'\n');
                        let rest = &rest[..end.map_or(rest.len(), |at| at + 1)];
                        self.torn = rest.to_vec();
                        self.torn_of = from;
                        bytes += rest.len();
                    }
                    return Appended { bytes, result: Err(error) };
                }
            }
        }
        Appended { bytes, result: Ok(()) }
    }

    fn finish_torn(&mut self) -> Result<(), Error> {
        while !self.torn.is_empty() {
            let torn = std::mem::take(&mut self.torn);
            let written = self.append_some(self.torn_of, &torn);
            self.torn = torn;
            self.torn.drain(..written?);
        }
        Ok(())
    }

    fn append_some(&mut self, from: Uid, data: &[u8]) -> Result<usize, Error> {
        loop {
            let here = self.file.here()?;
            if here.same == Same::No || here.len != self.len {
                self.end =
                    End::read(here.file, here.len).map_err(|source| here.folder.io(source))?;
                self.len = here.len;
                self.full = false;
            }
            if self.end != End::Line && self.end != End::Unfinished(from) {
                // Also past the limit, so that old and new files together have
                // it where it belongs.
                let written = write_some(here.file, b"\n");
                self.len += self.file.took(written)? as u64;
                self.end = End::Line;
                continue;
            }
            let room = limits::DOMAIN_LOG_BYTES_MAX.saturating_sub(self.len);
            if self.full || room == 0 {
                self.roll_over()?;
                continue;
            }
            let part = &data[..cut(data, usize::try_from(room).unwrap_or(usize::MAX))];
            let written = write_some(here.file, part);
            let n = self.file.took(written)?;
            self.len += n as u64;
            self.full = n == part.len() && n < data.len();
            self.end = if data[n - 1] == b'\n' { End::Line } else { End::Unfinished(from) };
            return Ok(n);
        }
    }

    fn roll_over(&mut self) -> Result<(), Error> {
        let folder = self.file.here()?.folder;
        let old = |at: usize| -> OsString {
            let mut name = folder.path().file_name().unwrap_or(OsStr::new("log")).to_owned();
            name.push(format!(".{at}"));
            name
        };
        let mut free = limits::DOMAIN_LOGS_KEPT - 1;
        for at in 0..limits::DOMAIN_LOGS_KEPT {
            let old = folder.sibling(&old(at))?;
            match old.identity() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    free = at;
                    break;
                }
                Err(source) => return Err(old.io(source).into()),
                Ok(_) => {}
            }
        }
        for at in (0..free).rev() {
            folder.sibling(&old(at))?.rename_to(&old(at + 1))?;
        }
        folder.rename_to(&old(0))?;
        self.file.close();
        Ok(())
    }
}

impl Drop for DomainLog {
    fn drop(&mut self) {
        lost(&self.metrics, &self.domain, self.torn.len());
    }
}

impl End {
    fn read(file: &File, len: u64) -> io::Result<Self> {
        let mut last = [b'\n'];
        if let Some(at) = len.checked_sub(1) {
            // Nothing is read if it was truncated meanwhile.
            file.read_at(&mut last, at)?;
        }
        Ok(if last == *b"\n" { Self::Line } else { Self::Unknown })
    }
}

/// How much of `data` goes into a file that has `room`, which is not 0.
fn cut(data: &[u8], room: usize) -> usize {
    if data.len() <= room {
        return data.len();
    }
    let near = room.saturating_sub(limits::DOMAIN_LOG_CUT_BYTES);
    match data[near..room].iter().rposition(|byte| *byte == b'\n') {
        Some(at) => near + at + 1,
        None => room,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    fn log(dir: &Path) -> DomainLog {
        let allow = Allow { domain_logs: Some(dir.to_owned()), ..Allow::default() };
        DomainLog::new("vm", Arc::new(allow), Arc::default())
    }

    fn append(log: &mut DomainLog, from: u64, batch: &[u8]) {
        let appended = log.append(Uid(from), batch);
        appended.result.unwrap();
        assert_eq!(appended.bytes, batch.len());
    }

    /// Oldest first.
    fn whole(dir: &Path) -> Vec<u8> {
        let names = ["vm.log.2", "vm.log.1", "vm.log.0", "vm.log"];
        names.iter().flat_map(|name| fs::read(dir.join(name)).unwrap_or_default()).collect()
    }

    #[test]
    fn unfinished_lines_of_two_devices_are_not_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = log(dir.path());
        append(&mut first, 1, b"log");
        append(&mut first, 1, b"in: ");
        append(&mut first, 2, b"two\n");
        append(&mut first, 1, b"root\n");
        append(&mut first, 2, b"cut by a ki");
        drop(first);
        append(&mut log(dir.path()), 2, b"ll\n");
        assert_eq!(whole(dir.path()), b"login: \ntwo\nroot\ncut by a ki\nll\n");
    }

    #[test]
    fn a_truncated_log_goes_on_and_a_renamed_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.log");
        let mut log = log(dir.path());
        append(&mut log, 1, b"unfinished");
        fs::write(&path, "").unwrap();
        append(&mut log, 2, b"two\n");
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        append(&mut log, 1, b"unfinished");
        fs::rename(&path, dir.path().join("x")).unwrap();
        append(&mut log, 2, b"three\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn four_files_are_kept_and_a_kill_between_two_steps_removes_none() {
        let dir = tempfile::tempdir().unwrap();
        let size = limits::DOMAIN_LOG_BYTES_MAX;
        let mut log = log(dir.path());
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..5 * size / 100 {
            append(&mut log, 1, &line);
        }
        for name in ["vm.log.0", "vm.log.1", "vm.log.2"] {
            let len = fs::metadata(dir.path().join(name)).unwrap().len();
            assert!(len <= size && len > size - 100, "{name} has {len}");
        }
        assert!(!dir.path().join("vm.log.3").exists());
        // As after a kill: the oldest had been moved, the newest had not.
        let before = fs::read(dir.path().join("vm.log.2")).unwrap();
        fs::rename(dir.path().join("vm.log.0"), dir.path().join("vm.log.1")).unwrap();
        log.roll_over().unwrap();
        assert_eq!(fs::read(dir.path().join("vm.log.2")).unwrap(), before);
        assert!(dir.path().join("vm.log.0").exists());
    }

    #[test]
    fn logs_that_nobody_uses_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let allow =
            Arc::new(Allow { domain_logs: Some(dir.path().to_owned()), ..Allow::default() });
        let (logs, metrics) = (DomainLogs::default(), Arc::default());
        let kept = logs.log("kept", &allow, &metrics);
        assert!(Arc::ptr_eq(&kept, &logs.log("kept", &allow, &metrics)));
        for at in 0..1000 {
            logs.log(&format!("vm{at}"), &allow, &metrics);
        }
        assert!(logs.open.lock().unwrap().by_domain.len() <= SWEEP_MIN);
        assert!(Arc::ptr_eq(&kept, &logs.log("kept", &allow, &metrics)));
    }

    proptest! {
        #[test]
        fn a_cut_takes_something_and_fits(
            data in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'x')], 1..400),
            room in 1usize..400,
        ) {
            let at = cut(&data, room);
            prop_assert!(at > 0 && at <= room && at <= data.len());
            if at < data.len() && at < room {
                prop_assert_eq!(data[at - 1], b'\n');
                prop_assert!(room - at < limits::DOMAIN_LOG_CUT_BYTES);
            }
        }
    }
}
