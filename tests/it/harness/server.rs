//! The server as a process: started, killed, started again on the same state.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, until};

/// The program under test.
pub(crate) const LINEMAN: &str = env!("CARGO_BIN_EXE_lineman");

/// A server with a state folder of its own.
pub(crate) struct Server {
    dir: TempDir,
    child: Option<Child>,
    address: String,
    /// What it printed on standard output before it was ready.
    ready: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a server on a port that the kernel chooses.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("lineman-").tempdir().unwrap();
        let mut server = Self {
            dir,
            child: None,
            address: "127.0.0.1:0".into(),
            ready: Vec::new(),
            log: Arc::default(),
        };
        server.start_again();
        server
    }

    /// Starts it on the state and the port it had.
    pub(crate) fn start_again(&mut self) {
        let mut command = self.lineman();
        command.args(["serve", "--dev", "--listen", &self.address, "--state-dir"]);
        command.arg(self.state_dir());
        // The last line of what is said when ready is the one for grpcurl.
        self.launch(command, "grpcurl");
    }

    /// Runs what development mode made with a configuration file instead.
    pub(crate) fn start_with_config(&mut self, more: &str) {
        let dev = self.state_dir().join("dev");
        let config = format!(
            "listen = '{}'\nstate_dir = '{}'\n[tls]\ncertificate = '{}'\nkey = '{}'\n\
             [[tokens]]\nuser = 'ops'\nfile = '{}'\n{more}",
            self.address,
            self.state_dir().display(),
            dev.join("server.pem").display(),
            dev.join("server.key").display(),
            dev.join("admin.token").display(),
        );
        let path = self.dir().join("lineman.toml");
        fs::write(&path, config).unwrap();
        let mut command = self.lineman();
        command.args(["serve", "--config"]).arg(path);
        self.launch(command, "lineman is ready on");
    }

    fn launch(&mut self, mut command: Command, last: &str) {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.ready.clear();
        while !self.ready.last().is_some_and(|line| line.contains(last)) {
            let mut line = String::new();
            let n = stdout.read_line(&mut line).unwrap();
            assert!(n > 0, "the server did not become ready: {}", self.log());
            self.ready.push(line.trim_end().to_owned());
        }
        let first = self.ready.first().unwrap();
        self.address = first.strip_prefix("lineman is ready on ").unwrap().to_owned();
        self.child = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("end of the server", || child.try_wait().unwrap()).await
    }

    /// Stops in order.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pid = self.pid().as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it said when it was ready.
    pub(crate) fn ready(&self) -> &[String] {
        &self.ready
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A folder for the test; sockets may be here.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.state_dir().join("dev/ca.pem")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.state_dir().join("dev/admin.token")
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.token_file()).unwrap().trim().to_owned()
    }

    /// A client of its own connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self).await
    }

    /// `lineman …` as its user would run it, with contexts of its own.
    pub(crate) fn lineman(&self) -> Command {
        let mut command = Command::new(LINEMAN);
        command.env("XDG_CONFIG_HOME", self.dir().join("config")).stdin(Stdio::null());
        for variable in ["LINEMAN_CONFIG", "LINEMAN_CONTEXT", "LINEMAN_SERVER", "LINEMAN_LOG"] {
            command.env_remove(variable);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("--- the server's log ends with:\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}
