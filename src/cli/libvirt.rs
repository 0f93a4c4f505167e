//! `libvirt`: documents of libvirt, without a server.
//!
//! A thing of its own because faults are told as compilers do, one line each
//! with its place, so that an editor can jump to it. Bounds: a file or stream is
//! read at most one byte past `limits::DOMAIN_BYTES_MAX`, however long it is.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    exit::{Exit, Failure, on_stdout},
    help,
    text::plain,
};
use crate::{
    libvirt::{Flavour, Style, parse, write},
    limits,
};

/// What to do with a document.
#[derive(Debug, Subcommand)]
pub enum LibvirtCommand {
    /// Print the character devices of a document as libvirt would store them
    #[command(after_long_help = help::libvirt_normalize())]
    Normalize(NormalizeArgs),
}

/// What `libvirt normalize` is told.
#[derive(Debug, Args)]
pub struct NormalizeArgs {
    /// The document; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(command: LibvirtCommand) -> Result<(), Failure> {
    match command {
        LibvirtCommand::Normalize(args) => normalize(&args.file),
    }
}

fn normalize(file: &Path) -> Result<(), Failure> {
    let document = read(file).map_err(|error| {
        let message = format!("cannot read {}: {error}", plain(&file.to_string_lossy()));
        Failure::new(Exit::Failed, message)
    })?;
    let domain = parse(&document).map_err(|faults| {
        let mut stderr = io::stderr().lock();
        for fault in faults {
            let (file, message) = (plain(&file.to_string_lossy()), plain(&fault.message));
            // Nobody is left to tell if standard error is gone.
            writeln!(stderr, "{file}:{}:{}: {}: {message}", fault.line, fault.column, fault.class)
                .ok();
        }
        Failure::quiet(Exit::Data)
    })?;
    let text = write(&domain.devices, Style::Indented, Flavour::Stored);
    io::stdout().write_all(text.as_bytes()).map_err(on_stdout)
}

/// The document, or enough of it to see that it is too long.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let bytes_max = u64::try_from(limits::DOMAIN_BYTES_MAX).unwrap_or(u64::MAX);
    let mut document = Vec::new();
    source.take(bytes_max.saturating_add(1)).read_to_end(&mut document)?;
    Ok(document)
}
