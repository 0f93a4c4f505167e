//! Places in a journal and moments, as people write them.
//!
//! A thing of its own so that `attach --from` and `logs --since` understand the
//! same words. Pure: what depends on the clock is worked out when it is asked
//! for, not when it is parsed.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use crate::pb::{
    JournalPosition,
    journal_position::{At, Edge},
};

/// Where output begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// With what comes.
    Now,
    /// With the oldest byte held.
    Beginning,
    /// With this byte.
    Offset(u64),
    /// So many bytes before the newest.
    LastBytes(u64),
    /// The last so many lines.
    LastLines(u32),
    /// With what was received from this moment on.
    Since(Moment),
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(SystemTime),
}

impl Place {
    pub(super) fn to_position(self, now: SystemTime) -> JournalPosition {
        let at = match self {
            Self::Now => At::Edge(Edge::Now.into()),
            Self::Beginning => At::Edge(Edge::Beginning.into()),
            Self::Offset(offset) => At::Offset(offset),
            Self::LastBytes(bytes) => At::LastBytes(bytes),
            Self::LastLines(lines) => At::LastLines(lines),
            Self::Since(moment) => At::Time(moment.to_timestamp(now)),
        };
        JournalPosition { at: Some(at) }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => return Ok(Self::Now),
            "beginning" => return Ok(Self::Beginning),
            _ => {}
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let too_large = |_| format!("{text} is too large");
        if let Some(bytes) = text.strip_prefix('-').filter(|rest| digits(rest)) {
            return bytes.parse().map(Self::LastBytes).map_err(too_large);
        }
        if digits(text) {
            return text.parse().map(Self::Offset).map_err(too_large);
        }
        text.parse().map(Self::Since).map_err(|_| {
            "must be now, beginning, an offset, -BYTES, a time span like 10m or a time like \
             2025-03-01T08:00:00Z"
                .to_owned()
        })
    }
}

impl Moment {
    pub(super) fn to_timestamp(self, now: SystemTime) -> prost_types::Timestamp {
        let time = match self {
            Self::Ago(span) => now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(time) => time,
        };
        time.into()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = humantime::parse_duration(text) {
            return Ok(Self::Ago(span));
        }
        humantime::parse_rfc3339_weak(text).map(Self::At).map_err(|_| {
            "must be a time span like 10m or 2h30m, or a time like 2025-03-01T08:00:00Z".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        let check = |text: &str, expected| assert_eq!(text.parse(), Ok(expected), "{text}");
        check("now", Place::Now);
        check("beginning", Place::Beginning);
        check("0", Place::Offset(0));
        check("4096", Place::Offset(4096));
        check("-4096", Place::LastBytes(4096));
        let ago = |seconds| Place::Since(Moment::Ago(Duration::from_secs(seconds)));
        check("10m", ago(600));
        check("1h 5s", ago(3605));
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        check("1970-01-02T00:00:00Z", Place::Since(Moment::At(then)));
        for bad in ["", "-", "later", "-10m", "99999999999999999999", "10 potatoes"] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_count_back_from_when_they_are_asked() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let seconds = |span| Moment::Ago(Duration::from_secs(span)).to_timestamp(now).seconds;
        assert_eq!(seconds(10), 90);
        assert_eq!(seconds(1_000), -900);
    }
}
