//! The program: parses its arguments, sets up what is of the whole process, and
//! hands over to the server or to a client command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lineman::{cli, serve};

/// Consoles over the network: serve serial lines, ptys and sockets, attach to
/// them, type, watch, replay and resume
///
/// Everything that a device says is a log: any number of people and programs
/// read it at once, from any point, and go on after a lost connection or a
/// restarted server without a hole.
///
/// First steps: `lineman serve --dev` in one terminal; in another
/// `lineman get devices`.
#[derive(Debug, Parser)]
#[command(name = "lineman", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    ///
    /// With --dev the server needs nothing: it makes a CA, a certificate and an
    /// administrator's token, keeps them over restarts, listens on loopback and
    /// writes a client context named "dev" that the other commands find. With
    /// --config it runs from a file.
    #[command(after_long_help = serve::HELP)]
    Serve(serve::ServeArgs),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    // Before anything can ask for TLS: one provider for the whole process.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return serve::complain(&format!("cannot start: {error}")),
    };
    let code = match arguments.command {
        Command::Serve(args) => runtime.block_on(serve::run(args)),
        Command::Client(command) => runtime.block_on(cli::run(arguments.global, command)),
    };
    // A thread that reads a terminal, or a disk that hangs, must not keep us.
    runtime.shutdown_background();
    code
}
