//! `attach`: a terminal, pipe or script at a device, for as long as it takes.
//!
//! ```text
//!  stdin ─thread─▶ escape ─▶ input ─────────▶ stream ─▶ server
//!                    │detach   ▲ acks           │
//!  stdout ◀thread─ display ◀─ session ◀─────────┘
//! ```
//!
//! `session` and its parts decide and do no I/O; `drive` moves bytes between
//! them and the outside, in one task; `terminal` makes the terminal raw and puts
//! it back.

mod drive;
mod escape;
mod input;
mod session;
mod terminal;

use std::time::SystemTime;

use clap::{Args, ValueEnum};

use self::{
    drive::{AtEnd, AtFirst, Drive},
    escape::EscapeKey,
    input::Origin,
    session::{Plan, Session},
};
use super::{
    connect::Server,
    exit::{Exit, Failure},
    position::Place,
    select,
    source::{Kind, Source},
};
use crate::{name::DeviceId, pb::AttachMode};

/// What others see of a client at most.
const CLIENT_BYTES_MAX: usize = 128;

/// What `attach` is told.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The device
    #[arg(value_name = "NAME", value_parser = select::device)]
    device: DeviceId,
    /// Whether to write, and what if somebody else does
    #[arg(long, value_enum, default_value_t = Mode::Write)]
    mode: Mode,
    /// Where output begins: now, beginning, an offset, -BYTES before the newest,
    /// a time span like 10m, or a time like 2025-03-01T08:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "now", allow_hyphen_values = true)]
    from: Place,
    /// Begin with the last N lines
    #[arg(long, value_name = "N", conflicts_with = "from")]
    tail: Option<u32>,
    /// Leave when standard input has ended and all of it has arrived
    #[arg(long)]
    exit_on_eof: bool,
    /// The key that detaches: like ^], one ASCII character, or none to send
    /// everything, ~ escapes too
    #[arg(long, value_name = "KEY", default_value = "^]")]
    escape: EscapeKey,
    /// Try again even if the first connection fails
    #[arg(long)]
    retry: bool,
}

/// How to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Only watch
    Observe,
    /// Write if nobody else does, otherwise watch
    Write,
    /// Watch until it is our turn, then write
    Wait,
    /// Write, and turn whoever writes now into an observer
    Force,
    /// Write together with others, if the device allows it
    Shared,
}

impl From<Mode> for AttachMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Write => Self::Write,
            Mode::Wait => Self::WriteWait,
            Mode::Force => Self::WriteForce,
            Mode::Shared => Self::WriteShared,
        }
    }
}

pub(super) async fn run(server: &Server, args: AttachArgs) -> Result<Exit, Failure> {
    let kind = Source::stdin_kind();
    let plan = Plan {
        device: args.device,
        mode: args.mode.into(),
        from: args.tail.map_or(args.from, Place::LastLines),
        origin: match kind {
            Kind::Terminal => Origin::Keys,
            Kind::Stream => Origin::Stream,
        },
        client: client(),
        hint: match (kind, args.escape) {
            (Kind::Terminal, EscapeKey::Byte(_)) => {
                Some(format!("{} detaches, Enter ~? tells more", args.escape))
            }
            (Kind::Terminal, EscapeKey::None) => Some("no key detaches".to_owned()),
            (Kind::Stream, _) => None,
        },
    };
    let session = Session::new(plan, SystemTime::now());
    let at_first = if args.retry { AtFirst::Retry } else { AtFirst::Fail };
    let at_end = if args.exit_on_eof { AtEnd::Leave } else { AtEnd::Stay };
    let drive = Drive::new(session, kind, args.escape, at_end)?;
    drive.run(server, at_first).await
}

/// What others see of this client besides its identity.
fn client() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let client = format!("lineman attach {} pid {}", host.trim(), std::process::id());
    let printable = client.trim_end().chars();
    let printable = printable.filter(|c| c.is_ascii() && !c.is_ascii_control());
    printable.take(CLIENT_BYTES_MAX).collect()
}
