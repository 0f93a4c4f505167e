//! What the server takes of the machine: descriptors, threads, processor.

use std::{fs, time::Duration};

use super::Server;

impl Server {
    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let pid = self.pid().as_raw_nonzero();
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// Threads that it has.
    pub(crate) fn threads(&self) -> usize {
        let pid = self.pid().as_raw_nonzero();
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
    }

    /// Time on a processor that it has used, in steps of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        let pid = self.pid().as_raw_nonzero();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // proc(5): fields 14 and 15, counted from behind the name.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}
