use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    global: lineman::cli::Global,
    #[command(subcommand)]
    command: lineman::cli::Command,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    lineman::cli::run(cli.global, cli.command).await
}
