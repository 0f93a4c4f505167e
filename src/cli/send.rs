//! `send`: input for a device, without attaching.
//!
//! A thing of its own because a script wants to know whether input arrived and
//! nothing else: it returns when the host interface has taken everything.

use std::{fs::File, path::PathBuf};

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};

use super::{
    connect::Server,
    exit::{Exit, Failure},
    select,
    source::Source,
};
use crate::{
    name::DeviceId,
    pb::{AttachMode, WriteInputRequest, write_input_request::Payload},
};

/// What the server takes at once.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What `send` is told.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The device
    #[arg(value_name = "NAME", value_parser = select::device)]
    device: DeviceId,
    /// What to send; the words are joined by spaces
    #[arg(value_name = "TEXT", conflicts_with = "file",
        required_unless_present_any = ["file", "enter"])]
    text: Vec<String>,
    /// Send what is in this file; - reads standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Press Enter at the end: append a carriage return
    #[arg(long)]
    enter: bool,
    /// What if somebody else writes
    #[arg(long, value_enum, default_value_t = Mode::Write)]
    mode: Mode,
}

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Fail if somebody else writes
    Write,
    /// Write, and turn whoever writes now into an observer
    Force,
    /// Write together with others, if the device allows it
    Shared,
}

impl From<Mode> for AttachMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Write => Self::Write,
            Mode::Force => Self::WriteForce,
            Mode::Shared => Self::WriteShared,
        }
    }
}

pub(super) async fn run(server: &Server, args: SendArgs) -> Result<(), Failure> {
    let end: &[u8] = if args.enter { b"\r" } else { b"" };
    let mut pieces = match &args.file {
        Some(file) => Pieces::File(open(file)?),
        None => Pieces::Text(args.text.join(" ").into()),
    };
    let mut client = server.consoles().await?;
    let mut sent_bytes = 0_u64;
    let mut is_last = false;
    while !is_last {
        let (mut data, ends) = pieces.next().await?;
        is_last = ends;
        if is_last && !end.is_empty() {
            data = [&data[..], end].concat().into();
        }
        if data.is_empty() {
            break;
        }
        let request = WriteInputRequest {
            device: args.device.resource_name(),
            mode: AttachMode::from(args.mode).into(),
            payload: Some(Payload::Data(data)),
        };
        let response = client.write_input(request).await.map_err(|status| {
            let failure = Failure::from(status).of(&args.device);
            if sent_bytes == 0 {
                failure
            } else {
                failure.of(format_args!("after {sent_bytes} bytes were sent"))
            }
        })?;
        sent_bytes += response.into_inner().accepted_bytes;
    }
    Ok(())
}

/// Input, cut for the server; the last piece has room for the Enter key.
enum Pieces {
    Text(Bytes),
    File(Source),
}

impl Pieces {
    /// The next piece, and whether it is the last.
    async fn next(&mut self) -> Result<(Bytes, bool), Failure> {
        let whole = PIECE_BYTES_MAX - 1;
        match self {
            Self::Text(text) => {
                let piece = text.split_to(text.len().min(whole));
                Ok((piece, text.is_empty()))
            }
            Self::File(source) => {
                let mut piece = BytesMut::new();
                while piece.len() < whole {
                    let read = source.read(whole - piece.len()).await;
                    let read = read.map_err(|error| {
                        Failure::new(Exit::Failed, format!("cannot read the input: {error}"))
                    })?;
                    if read.is_empty() {
                        return Ok((piece.freeze(), true));
                    }
                    piece.extend_from_slice(&read);
                }
                Ok((piece.freeze(), false))
            }
        }
    }
}

fn open(file: &PathBuf) -> Result<Source, Failure> {
    let source = if file.as_os_str() == "-" {
        Source::stdin()
    } else {
        File::open(file).and_then(|file| Source::new(file.into()))
    };
    source.map_err(|error| {
        let message = format!("cannot read {}: {error}", file.display());
        Failure::new(Exit::Failed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lengths(mut pieces: Pieces) -> Vec<usize> {
        let mut lengths = Vec::new();
        loop {
            let (piece, is_last) = pieces.next().await.unwrap();
            lengths.push(piece.len());
            if is_last {
                return lengths;
            }
        }
    }

    #[tokio::test]
    async fn long_input_is_cut_and_enter_always_fits() {
        let text = |bytes| Pieces::Text(vec![b'x'; bytes].into());
        assert_eq!(lengths(text(0)).await, [0]);
        assert_eq!(lengths(text(65_535)).await, [65_535]);
        assert_eq!(lengths(text(65_536)).await, [65_535, 1]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let file = Pieces::File(open(&path).unwrap());
        assert_eq!(lengths(file).await, [65_535, 4_465]);
    }
}
