//! The command line: everything that a person or a script does with a server,
//! over the same API that everybody else has.
//!
//! A room of its own that knows `pb` and `name` only: what it can do, any other
//! client can. `libvirt normalize` asks no server. `main` flattens [`Command`] beside `serve` and hands it to
//! [`run`] with the [`Global`] flags.
//!
//! Invariants: output of devices and of commands goes to standard output and
//! nothing else does; everything told goes to standard error; each failure is
//! one sentence and one of the documented exit codes (`exit`). A terminal is
//! left as it was found on every way out (`attach::terminal`).

mod apply;
mod attach;
mod change;
mod connect;
pub mod context;
mod cursor;
mod describe;
mod display;
mod exit;
mod get;
mod help;
mod json;
mod libvirt;
mod logs;
mod position;
mod retry;
mod select;
mod send;
mod source;
mod table;
mod text;
mod watch;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};

use self::{
    change::Verb,
    connect::Server,
    context::Overrides,
    exit::{Exit, Failure},
};

/// Which server to talk to. Every flag is read from the environment too.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The context to use, from the contexts file
    #[arg(
        long,
        global = true,
        env = "LINEMAN_CONTEXT",
        value_name = "NAME",
        help_heading = "Server"
    )]
    context: Option<String>,
    /// The server to talk to; without --context this needs --ca-file and
    /// --token-file too
    #[arg(
        long,
        global = true,
        env = "LINEMAN_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Server"
    )]
    server: Option<String>,
    /// The certificates to trust, in PEM
    #[arg(
        long,
        global = true,
        env = "LINEMAN_CA_FILE",
        value_name = "FILE",
        help_heading = "Server"
    )]
    ca_file: Option<PathBuf>,
    /// The file with the bearer token
    #[arg(
        long,
        global = true,
        env = "LINEMAN_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Server"
    )]
    token_file: Option<PathBuf>,
}

/// The commands of a client.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show devices
    ///
    /// Shows all devices, those named, or those selected by label and state.
    /// The word "devices" may be left out.
    #[command(visible_alias = "list", after_long_help = help::get())]
    Get(get::GetArgs),
    /// Tell everything about devices, for people
    ///
    /// Shows one device on many lines: its state and why, where to open its pty
    /// or reach its socket, its journal and its counters. Programs should read
    /// `lineman get NAME -o json`.
    #[command(after_long_help = help::describe())]
    Describe(get::DescribeArgs),
    /// Create devices, or change them to match documents
    ///
    /// Reads documents in YAML (several to a file, separated by ---) or JSON,
    /// each a device in the API's own form. A device that does not exist is
    /// created. One that exists is changed in the fields that the document has;
    /// all others stay as they are. A field set to null goes back to its
    /// default. Nothing is sent before all documents were read, and fields that
    /// do not exist are refused. What `lineman get -o yaml` prints can be edited
    /// and applied; its etag makes the update fail if somebody was faster.
    #[command(after_long_help = help::apply())]
    Apply(apply::ApplyArgs),
    /// Delete devices with their journals
    ///
    /// Ends all attachments, closes the host interfaces and removes the devices
    /// and all that they ever said. This cannot be undone; `lineman stop` keeps
    /// the journal.
    #[command(after_long_help = exit::HELP)]
    Delete(change::ChangeArgs),
    /// Open the host interfaces of devices, now and whenever they are lost
    ///
    /// Also of a running device: tries at once, without waiting for the back-off.
    #[command(after_long_help = exit::HELP)]
    Start(change::ChangeArgs),
    /// Close the host interfaces of devices and leave them closed
    ///
    /// The journal stays readable, and attachments stay and see the state.
    #[command(after_long_help = exit::HELP)]
    Stop(change::ChangeArgs),
    /// Attach to a device: its output comes, what is typed goes
    ///
    /// Shows a device's output on standard output and sends it what is typed, as
    /// if the terminal were connected to it. Any number of people and programs
    /// can be attached at once; one of them writes, unless the device allows
    /// sharing. Output is a log: attaching can begin anywhere in it.
    #[command(after_long_help = help::attach())]
    Attach(attach::AttachArgs),
    /// Print the output of a device, from the past or as it comes
    #[command(after_long_help = help::logs())]
    Logs(logs::LogsArgs),
    /// Send input to a device, without attaching
    #[command(after_long_help = help::send())]
    Send(send::SendArgs),
    /// Follow the state of devices, one line for each change
    #[command(after_long_help = help::watch())]
    Watch(watch::WatchArgs),
    /// Read and write libvirt's XML of character devices
    #[command(subcommand)]
    Libvirt(libvirt::LibvirtCommand),
}

/// Runs a command to its end and tells how it went. The TLS provider must have
/// been installed.
pub async fn run(global: Global, command: Command) -> ExitCode {
    match execute(global, command).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_quiet() {
                // Nobody is left to tell if standard error is gone.
                writeln!(io::stderr(), "lineman: {failure}").ok();
            }
            failure.exit.into()
        }
    }
}

async fn execute(global: Global, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Get(args) => get::get(&server(global)?, args).await?,
        Command::Describe(args) => get::describe(&server(global)?, args).await?,
        Command::Apply(args) => apply::run(&server(global)?, args).await?,
        Command::Delete(args) => change::run(&server(global)?, Verb::Delete, args).await?,
        Command::Start(args) => change::run(&server(global)?, Verb::Start, args).await?,
        Command::Stop(args) => change::run(&server(global)?, Verb::Stop, args).await?,
        Command::Attach(args) => return attach::run(&server(global)?, args).await,
        Command::Logs(args) => logs::run(&server(global)?, args).await?,
        Command::Send(args) => send::run(&server(global)?, args).await?,
        Command::Watch(args) => watch::run(&server(global)?, args).await?,
        Command::Libvirt(command) => libvirt::run(command, || server(global)).await?,
    }
    Ok(Exit::Done)
}

/// The server that the flags and the context mean; only commands that talk to
/// one ask for it.
fn server(global: Global) -> Result<Server, Failure> {
    let context = context::resolve(Overrides {
        context: global.context,
        server: global.server,
        ca_file: global.ca_file,
        token_file: global.token_file,
    });
    let context = context.map_err(|error| Failure::new(Exit::Invalid, error.to_string()))?;
    Ok(Server::new(context))
}
