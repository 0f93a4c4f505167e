//! Named pipes, and programs that read and write them and go again, as shells
//! and log collectors do.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Background, FarSide, run};

/// `PATH.in`, which is written by the far side, and `PATH.out`, which it reads.
pub(crate) struct FifoPair {
    path: PathBuf,
}

impl FifoPair {
    pub(crate) fn make(path: PathBuf) -> Self {
        let pair = Self { path };
        make_fifo(&pair.input());
        make_fifo(&pair.output());
        pair
    }

    /// The path without the endings, as the host interface wants it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn input(&self) -> PathBuf {
        with_ending(&self.path, "in")
    }

    pub(crate) fn output(&self) -> PathBuf {
        with_ending(&self.path, "out")
    }

    /// Somebody who holds both open all the time. Neither open waits for the
    /// other end, since each is for reading and writing.
    pub(crate) fn far(&self) -> FarSide {
        FarSide::between(open_both_ways(&self.output()), open_both_ways(&self.input()))
    }

    /// A program that opens the input, writes, and is gone.
    pub(crate) async fn write_and_go(&self, bytes: &[u8]) {
        let mut command = Command::new("sh");
        command.args(["-c", "exec cat >\"$0\""]).arg(self.input());
        run(command, bytes).await.ok();
    }

    /// A program that reads the output until it is dropped; what it read is its
    /// `stdout()`.
    pub(crate) fn reader(&self, dir: &Path, name: &str) -> Background {
        let mut command = Command::new("cat");
        command.arg(self.output()).stdin(Stdio::null());
        Background::spawn(command, dir, name)
    }
}

pub(crate) fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

fn open_both_ways(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}
