//! `lineman serve`: the server as a command. Finds its configuration, raises the
//! limit of open files, says when it is ready, and stops on a signal: in order on
//! the first, at once on the second.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::context,
    config::{self, Config, Dev},
    server::Server,
    telemetry::{LogFormat, init_log},
};

/// The context that development mode writes.
const DEV_CONTEXT: &str = "dev";
/// Exit code when arguments or configuration are wrong (as clap's).
const EXIT_USAGE: u8 = 2;
/// Exit code when the server could not start, or was stopped by a second signal.
const EXIT_FAILURE: u8 = 1;

/// What `lineman serve --help` says at its end.
pub const HELP: &str = "\
The log goes to standard error; LINEMAN_LOG sets what is logged, such as
\"debug\" or \"lineman::line=debug\" (default \"info\").

Signals: SIGTERM or SIGINT stops in order: attachers are told where to resume,
journals are closed, exit code 0. A second one stops at once, exit code 1.

Exit codes: 0 stopped in order; 1 could not start, or stopped at once; 2 wrong
arguments or configuration.

A configuration file:
  listen = \"0.0.0.0:7823\"
  state_dir = \"/var/lib/lineman\"
  [tls]
  certificate = \"/etc/lineman/server.pem\"
  key = \"/etc/lineman/server.key\"
  [[tokens]]                        # each an administrator
  user = \"ops\"
  file = \"/etc/lineman/ops.token\"   # at least 32 characters
  [host_interfaces]                 # what devices may name; default nothing
  networks = [\"10.20.0.0/16\", {net = \"192.0.2.0/24\", ports = \"1024-65535\"}]
  folders = [\"/run/lineman\"]        # sockets, pipes, files, links to ptys below
  devices = [\"/dev/serial/by-id\", \"/dev/ttyUSB0\"]
  domain_logs = \"/var/log/lineman/domains\"
  [credentials.consoles]            # TLS of devices that name \"consoles\"; a
                                    # set called \"default\" is for those that name none
  ca = \"/etc/lineman/consoles-ca.pem\"         # who is trusted, to connect to
  certificate = \"/etc/lineman/consoles.pem\"   # shown, needed to listen
  key = \"/etc/lineman/consoles.key\"
  client_auth = \"required\"          # or \"optional\", \"none\"; default with a ca
  [limits]
  connections = 10000               # the default";

/// How to serve.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Development mode: loopback only, credentials made on first start
    #[arg(long, conflicts_with = "config")]
    dev: bool,
    /// Where to listen in development mode; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7823", requires = "dev")]
    listen: SocketAddr,
    /// Where development mode keeps devices, journals and credentials
    /// [default: $XDG_STATE_HOME/lineman or ~/.local/state/lineman]
    #[arg(long, value_name = "DIR", requires = "dev")]
    state_dir: Option<PathBuf>,
    /// Run from this configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs the server until a signal comes.
pub async fn run(args: ServeArgs) -> ExitCode {
    let prepared = match (&args.config, args.dev) {
        (Some(path), _) => config::load(path).map(|config| (config, None)),
        (None, true) => config::prepare_dev(args.listen, args.state_dir)
            .map(|(config, dev)| (config, Some(dev))),
        (None, false) => {
            complain(
                "refusing to serve without credentials: use --dev to try it on this machine, \
                 or --config FILE with a certificate and tokens (see lineman serve --help)",
            );
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let (config, dev) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    init_log(args.log_format);
    raise_open_files();
    survive_full_files();
    match serve(config, dev).await {
        Ok(code) => code,
        Err(error) => complain(&explain(&*error)),
    }
}

async fn serve(config: Config, dev: Option<Dev>) -> Result<ExitCode, Box<dyn Error>> {
    // Before the server is ready, so that no signal is missed.
    let mut signals = Signals::new()?;
    let server = Server::start(config).await?;
    if let Some(dev) = dev {
        announce_dev(&server, &dev)?;
    } else {
        say(&format!("lineman is ready on {}\n", server.address()))?;
    }
    signals.next().await;
    tokio::select! {
        () = server.stop() => Ok(ExitCode::SUCCESS),
        () = signals.next() => {
            tracing::warn!("stopping at once");
            Ok(ExitCode::from(EXIT_FAILURE))
        }
    }
}

/// Says what a first session needs, ready to be pasted.
fn announce_dev(server: &Server, dev: &Dev) -> Result<(), Box<dyn Error>> {
    let address = server.address();
    let (ca, token) = (dev.ca_file.display(), dev.token_file.display());
    let context = context::Context {
        server: address.to_string(),
        ca_file: dev.ca_file.clone(),
        token_file: dev.token_file.clone(),
    };
    let saved = match context::save(DEV_CONTEXT, &context) {
        Ok(path) => format!("context \"{DEV_CONTEXT}\" in {}", path.display()),
        // The server is fine without it.
        Err(error) => format!("not written: {error}"),
    };
    say(&format!(
        "lineman is ready on {address}\n\
         \x20 CA certificate  {ca}\n\
         \x20 admin token     {token}\n\
         \x20 client          {saved}\n\
         try:\n\
         \x20 lineman get devices\n\
         \x20 grpcurl -cacert {ca} -H \"authorization: Bearer $(cat {token})\" {address} lineman.v1.DeviceService/ListDevices\n"
    ))?;
    Ok(())
}

/// What stops a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ten thousand consoles need more than the usual 1,024 descriptors. What the
/// administrator set as the hard limit holds.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// A file that reaches the limit of this process (`ulimit -f`) is an error of
/// that file, not the end of the server (setrlimit(2), SIGXFSZ).
fn survive_full_files() {
    if let Err(error) = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())) {
        tracing::warn!(%error, "cannot survive the limit of file sizes");
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One sentence on standard error, and the exit code of a failure.
pub fn complain(problem: &str) -> ExitCode {
    // With standard error gone there is nobody to tell.
    writeln!(io::stderr(), "lineman: {problem}").ok();
    ExitCode::from(EXIT_FAILURE)
}

/// An error and its causes in one line.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
