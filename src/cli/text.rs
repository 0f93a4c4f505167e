//! Small forms for people: strings of others made harmless, times, ages, words
//! for enums.
//!
//! A thing of its own because names, labels, addresses and errors come from
//! other people and from far sides: shown raw they could drive the terminal of
//! whoever looks at them. Whatever is not a device's output passes [`plain`].

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::pb::device_status::State;

/// The string without control characters: each becomes U+FFFD.
pub(super) fn plain(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
    };
    text.trim_end().chars().map(harmless).collect()
}

/// A state in one word, as in filters.
pub(super) fn state(number: i32) -> &'static str {
    let state = State::try_from(number).unwrap_or_default();
    let name = state.as_str_name();
    name.strip_prefix("STATE_").unwrap_or(name)
}

/// A time in RFC 3339, to the second.
pub(super) fn time(timestamp: Option<Timestamp>) -> String {
    let Some(time) = timestamp.and_then(|t| SystemTime::try_from(t).ok()) else {
        return "-".to_owned();
    };
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long ago, in the largest unit that says enough.
pub(super) fn age(since: Option<Timestamp>, now: SystemTime) -> String {
    let Some(since) = since.and_then(|t| SystemTime::try_from(t).ok()) else {
        return "-".to_owned();
    };
    // A server whose clock is ahead of ours has made no device in the future.
    let age = now.duration_since(since).unwrap_or(Duration::ZERO);
    match age.as_secs() {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// A number of bytes, as it is said.
pub(super) fn bytes(number: u64) -> String {
    match number {
        1 => "1 byte".to_owned(),
        _ => format!("{number} bytes"),
    }
}

/// The string, or a dash for an empty one.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { plain(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |seconds: i64, expected: &str| {
            let since = Timestamp { seconds: 1_000_000 - seconds, nanos: 0 };
            assert_eq!(age(Some(since), now), expected);
        };
        check(-5, "0s");
        check(119, "119s");
        check(120, "2m");
        check(7_200, "2h");
        check(200_000, "2d");
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn states_are_one_word() {
        assert_eq!(state(4), "CONNECTED");
        assert_eq!(state(99), "UNSPECIFIED");
    }

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(plain("a\u{1b}]0;x\u{7}\n"), "a\u{fffd}]0;x\u{fffd}");
    }
}
