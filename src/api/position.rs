//! Where readers begin, from messages.

use std::time::SystemTime;

use crate::{
    device::Fault,
    journal::Position,
    pb::{self, journal_position},
};

/// Where to begin; `default` if nothing is said.
pub(super) fn parse(
    field: &str,
    position: Option<&pb::JournalPosition>,
    default: Position,
) -> Result<Position, Fault> {
    let Some(at) = position.and_then(|position| position.at.as_ref()) else {
        return Ok(default);
    };
    Ok(match at {
        journal_position::At::Edge(edge) => match journal_position::Edge::try_from(*edge) {
            Ok(journal_position::Edge::Unspecified | journal_position::Edge::Now) => Position::Now,
            Ok(journal_position::Edge::Beginning) => Position::Beginning,
            Err(_) => {
                let problem = format!("{edge} is not a value that this server knows");
                return Err(Fault::new(format!("{field}.edge"), problem));
            }
        },
        journal_position::At::Offset(offset) => Position::Offset(*offset),
        journal_position::At::LastBytes(bytes) => Position::LastBytes(*bytes),
        journal_position::At::LastLines(lines) => Position::LastLines(*lines),
        journal_position::At::Time(time) => {
            Position::Time(parse_time(&format!("{field}.time"), time)?)
        }
    })
}

/// A moment.
pub(super) fn parse_time(field: &str, time: &prost_types::Timestamp) -> Result<SystemTime, Fault> {
    SystemTime::try_from(*time)
        .map_err(|_| Fault::new(field, "must be a time between years 1 and 9999"))
}
