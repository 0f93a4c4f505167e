//! Pages (AIP-158): a token is the last name that was told, bound to the filter
//! it was made for, and opaque to callers.

use crate::{limits, name::DeviceId};

/// How many devices to tell at once.
pub(super) fn size(asked: i32) -> Result<usize, String> {
    match usize::try_from(asked) {
        Err(_) => Err(format!("must not be negative, not {asked}")),
        Ok(0) => Ok(limits::PAGE_SIZE_DEFAULT),
        Ok(asked) => Ok(asked.min(limits::PAGE_SIZE_MAX)),
    }
}

/// The token to go on after `last` with the same filter.
pub(super) fn token(last: &DeviceId, filter: &str) -> String {
    let sum = crc32fast::hash(filter.as_bytes());
    let hex: String = last.as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{sum:08x}{hex}")
}

/// The name to go on after; `None` for the first page.
pub(super) fn after(token: &str, filter: &str) -> Result<Option<DeviceId>, InvalidToken> {
    if token.is_empty() {
        return Ok(None);
    }
    let (sum, hex) = token.split_at_checked(8).ok_or(InvalidToken)?;
    if u32::from_str_radix(sum, 16).ok() != Some(crc32fast::hash(filter.as_bytes())) {
        return Err(InvalidToken);
    }
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).map_err(|_| InvalidToken)?;
        u8::from_str_radix(pair, 16).map_err(|_| InvalidToken)
    };
    let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect::<Result<_, _>>()?;
    let id = String::from_utf8(bytes).map_err(|_| InvalidToken)?;
    Ok(Some(id.parse().map_err(|_| InvalidToken)?))
}

/// The token is not ours, or was made for another filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_where_it_was_made_and_nowhere_else() {
        let id: DeviceId = "node7".parse().unwrap();
        let token = token(&id, "state = STOPPED");
        assert_eq!(after(&token, "state = STOPPED"), Ok(Some(id)));
        assert_eq!(after("", "x"), Ok(None));
        for (token, filter) in
            [(token.as_str(), ""), ("x", ""), ("00000000zz", ""), ("é€aaaaaaaa", "")]
        {
            assert_eq!(after(token, filter), Err(InvalidToken), "{token:?}");
        }
    }

    #[test]
    fn sizes_are_coerced_and_negative_ones_refused() {
        assert_eq!(size(0), Ok(limits::PAGE_SIZE_DEFAULT));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(i32::MAX), Ok(limits::PAGE_SIZE_MAX));
        assert!(size(-1).is_err());
    }
}
