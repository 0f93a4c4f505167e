//! Numbers as C's `strtoul` and libvirt's checks around it read them.
//!
//! A thing of its own because blanks, signs, wrap-around and bases are part of
//! what libvirt accepts: ` +7` and `-2` are ports, `0x1` is not.

/// Which digits a number has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// Ten.
    Decimal,
    /// Sixteen, with or without `0x`.
    Hexadecimal,
    /// By its prefix: `0x` is sixteen, `0` eight, otherwise ten.
    ByPrefix,
}

/// A number of 32 bits that is never negative.
pub(super) fn unsigned(text: &str, base: Base) -> Option<u32> {
    unsigned_long(text, base).and_then(|number| u32::try_from(number).ok())
}

/// A number of 64 bits that is never negative.
pub(super) fn unsigned_long(text: &str, base: Base) -> Option<u64> {
    let (sign, digits) = split_sign(text);
    if sign == Sign::Minus { None } else { magnitude(digits, base) }
}

/// The port of a target: 32 bits that wrap around, then read as signed. So -1
/// and 4294967295 are the same, and both mean "not given".
pub(super) fn wrapping_port(text: &str) -> Option<Option<i32>> {
    let (sign, digits) = split_sign(text);
    let number = u32::try_from(magnitude(digits, Base::Decimal)?).ok()?;
    let number = match sign {
        Sign::Plus => number,
        Sign::Minus => number.wrapping_neg(),
    };
    let port = number.cast_signed();
    Some(if port == -1 { None } else { Some(port) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

fn split_sign(text: &str) -> (Sign, &str) {
    // The blanks of C's isspace: Rust's own set lacks the vertical tab.
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    match text.strip_prefix('-') {
        Some(digits) => (Sign::Minus, digits),
        None => (Sign::Plus, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn magnitude(digits: &str, base: Base) -> Option<u64> {
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (base, hexadecimal) {
        (Base::Decimal, _) => (digits, 10),
        (Base::Hexadecimal | Base::ByPrefix, Some(digits)) => (digits, 16),
        (Base::Hexadecimal, None) => (digits, 16),
        (Base::ByPrefix, None) if digits.starts_with('0') => (digits, 8),
        (Base::ByPrefix, None) => (digits, 10),
    };
    // A second sign is not a digit.
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_wrap_as_in_c() {
        for (text, port) in [
            ("0", Some(Some(0))),
            (" \t+7", Some(Some(7))),
            ("-1", Some(None)),
            ("4294967295", Some(None)),
            ("-2", Some(Some(-2))),
            ("-4294967295", Some(Some(1))),
            ("-0", Some(Some(0))),
            ("2147483648", Some(Some(i32::MIN))),
            ("4294967296", None),
            ("-4294967296", None),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("7 ", None),
            ("0x1", None),
        ] {
            assert_eq!(wrapping_port(text), port, "{text:?}");
        }
    }

    #[test]
    fn bases_and_bounds() {
        assert_eq!(unsigned("4294967295", Base::Decimal), Some(u32::MAX));
        assert_eq!(unsigned("4294967296", Base::Decimal), None);
        assert_eq!(unsigned("-0", Base::Decimal), None);
        assert_eq!(unsigned("10", Base::Hexadecimal), Some(16));
        assert_eq!(unsigned("0x10", Base::Hexadecimal), Some(16));
        assert_eq!(unsigned("010", Base::ByPrefix), Some(8));
        assert_eq!(unsigned("0", Base::ByPrefix), Some(0));
        assert_eq!(unsigned("0x", Base::ByPrefix), None);
        assert_eq!(unsigned("08", Base::ByPrefix), None);
        assert_eq!(unsigned_long("99999999999999999999", Base::Decimal), None);
    }
}
