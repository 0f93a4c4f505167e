//! Commands as a script runs them: to their end, or in the background with their
//! output in files.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use super::{soon, until};

/// How a command ended and what it said.
pub(crate) struct Outcome {
    command: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// What it printed; it has succeeded and complained of nothing.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        let Self { command, code, stdout, stderr } = self;
        assert_eq!((code, stderr.as_str()), (0, ""), "{command}\n{stdout}");
        stdout
    }

    /// What it complained of; it has failed with this code and printed nothing.
    #[track_caller]
    pub(crate) fn fails(self, expected: i32) -> String {
        let Self { command, code, stdout, stderr } = self;
        assert_eq!((code, stdout.as_str()), (expected, ""), "{command}\n{stderr}");
        stderr
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command, input: impl AsRef<[u8]>) -> Outcome {
    let told = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // Whoever fails early does not read on.
        stdin.write_all(input.as_ref()).await.ok();
        drop(stdin);
    };
    let what = format!("end of {told}");
    let ((), output) = soon(&what, async { tokio::join!(write, child.wait_with_output()) }).await;
    let output = output.unwrap();
    Outcome {
        command: told,
        code: shell_code(output.status),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command in the background that ends with the test.
pub(crate) struct Background {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Background {
    /// Its standard output and error go to files in `dir`, named after it.
    pub(crate) fn spawn(mut command: Command, dir: &Path, name: &str) -> Self {
        let (stdout, stderr) = (dir.join(name), dir.join(format!("{name}.err")));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Self { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// The same, but its standard input and output are the caller's.
    pub(super) fn spawn_piped(
        mut command: Command,
        dir: &Path,
        name: &str,
    ) -> (Self, ChildStdin, ChildStdout) {
        let (stdout, stderr) = (dir.join(name), dir.join(format!("{name}.err")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&stderr).unwrap()).spawn().unwrap();
        let pipes = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        (Self { child, stdout, stderr }, pipes.0, pipes.1)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The code that a shell would show, if it has ended.
    pub(super) fn has_ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(shell_code)
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until a line that has all of these words was printed, and returns
    /// it.
    pub(crate) async fn prints(&self, words: &[&str]) -> String {
        until(&format!("line with {words:?}"), || {
            let stdout = self.stdout();
            let stdout = String::from_utf8_lossy(&stdout);
            let whole = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let mut found = whole.filter(|line| words.iter().all(|word| line.contains(word)));
            found.next().map(str::to_owned)
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended, and returns the code that a shell would show.
    pub(crate) async fn ended(&mut self) -> i32 {
        let child = &mut self.child;
        shell_code(until("end of a command", || child.try_wait().unwrap()).await)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- {} says:\n{}", self.stderr.display(), self.stderr());
        }
    }
}

/// The code that a shell would show: 128 + N after signal N.
pub(super) fn shell_code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
}
