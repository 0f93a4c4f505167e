//! What a terminal with `PARMRK` puts in front of characters that are not what
//! they seem (termios(3)): FF 00 00 is a break, FF 00 X is X with a wrong check
//! bit, FF FF is FF. A reading of its own because a mark may be cut anywhere by
//! the end of a read.
//!
//! The kernel cannot tell a NUL with a wrong check bit from a break, so it is
//! told as a break here too; that only happens on lines with parity.
//!
//! Pure, and never longer than what came: works in the place of its input.

/// Where in a mark the input ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Not in one.
    #[default]
    Outside,
    /// Behind FF.
    Escaped,
    /// Behind FF 00.
    Marked,
}

/// The state between two reads.
#[derive(Debug, Default)]
pub(super) struct Marks {
    place: Place,
    faulty: u64,
}

/// What was made of a piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    /// So much of the input is done with.
    pub(super) taken: usize,
    /// So many bytes are left of it, at the front of the same piece.
    pub(super) kept: usize,
    /// A break came behind them.
    pub(super) is_break: bool,
}

impl Marks {
    /// Takes marks out of `piece`, up to and with the first break.
    pub(super) fn decode(&mut self, piece: &mut [u8]) -> Decoded {
        // Most consoles never say FF.
        let mut kept = match self.place {
            Place::Outside => piece.iter().position(|&b| b == 0xff).unwrap_or(piece.len()),
            Place::Escaped | Place::Marked => 0,
        };
        let begin = kept;
        for taken in begin..piece.len() {
            let byte = piece[taken];
            let (place, say) = match (self.place, byte) {
                (Place::Outside, 0xff) => (Place::Escaped, false),
                (Place::Escaped, 0) => (Place::Marked, false),
                (Place::Marked, 0) => {
                    self.place = Place::Outside;
                    return Decoded { taken: taken + 1, kept, is_break: true };
                }
                (Place::Marked, _) => {
                    self.faulty += 1;
                    (Place::Outside, true)
                }
                // Behind FF, FF is itself. Nothing else can come there, and is
                // not thrown away if it does.
                (Place::Outside | Place::Escaped, _) => (Place::Outside, true),
            };
            self.place = place;
            if say {
                piece[kept] = byte;
                kept += 1;
            }
        }
        Decoded { taken: piece.len(), kept, is_break: false }
    }

    /// Characters that came with a wrong check bit.
    pub(super) fn faulty(&self) -> u64 {
        self.faulty
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    enum Came {
        Byte(u8),
        Faulty(u8),
        Break,
    }

    fn came() -> impl Strategy<Value = Came> {
        prop_oneof![
            3 => any::<u8>().prop_map(Came::Byte),
            2 => Just(Came::Byte(0xff)),
            1 => (1..=u8::MAX).prop_map(Came::Faulty),
            1 => Just(Came::Byte(0)),
            1 => Just(Came::Break),
        ]
    }

    /// As the kernel's line discipline marks it.
    fn marked(came: &[Came]) -> Vec<u8> {
        let mark = |came: &Came| match *came {
            Came::Byte(0xff) => vec![0xff, 0xff],
            Came::Byte(byte) => vec![byte],
            Came::Faulty(byte) => vec![0xff, 0, byte],
            Came::Break => vec![0xff, 0, 0],
        };
        came.iter().flat_map(mark).collect()
    }

    /// Bytes as they are, and breaks as `None`.
    fn seen(marks: &mut Marks, piece: &[u8], seen: &mut Vec<Option<u8>>) {
        let mut rest = piece.to_vec();
        while !rest.is_empty() {
            let decoded = marks.decode(&mut rest);
            seen.extend(rest[..decoded.kept].iter().copied().map(Some));
            if decoded.is_break {
                seen.push(None);
            }
            rest.drain(..decoded.taken);
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_tells_the_same(
            came in vec(came(), 0..64),
            cuts in vec(0_usize..200, 0..8),
        ) {
            let bytes = marked(&came);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut marks, mut got) = (Marks::default(), Vec::new());
            for pair in cuts.windows(2) {
                seen(&mut marks, &bytes[pair[0]..pair[1]], &mut got);
            }
            let expected: Vec<Option<u8>> = came
                .iter()
                .map(|came| match *came {
                    Came::Byte(byte) | Came::Faulty(byte) => Some(byte),
                    Came::Break => None,
                })
                .collect();
            prop_assert_eq!(got, expected);
            let faulty = came.iter().filter(|came| matches!(came, Came::Faulty(_))).count();
            prop_assert_eq!(marks.faulty(), faulty as u64);
        }

        #[test]
        fn nothing_that_can_come_is_more_than_it_was(bytes in vec(any::<u8>(), 0..256)) {
            let (mut marks, mut got) = (Marks::default(), Vec::new());
            seen(&mut marks, &bytes, &mut got);
            prop_assert!(got.len() <= bytes.len());
        }
    }

    #[test]
    fn a_break_ends_a_piece_and_the_rest_is_for_the_next() {
        let mut piece = *b"ab\xff\0\0cd";
        let mut marks = Marks::default();
        let decoded = marks.decode(&mut piece);
        assert_eq!(decoded, Decoded { taken: 5, kept: 2, is_break: true });
        let decoded = marks.decode(&mut piece[5..]);
        assert_eq!(decoded, Decoded { taken: 2, kept: 2, is_break: false });
    }
}
