//! Enums that are words of the XML: each variant beside its word, once.
//!
//! A thing of its own so that no table of words can differ from its enum.

/// An enum whose variants are words.
pub(super) trait Word: Copy + 'static {
    /// Every variant.
    const WORDS: &'static [Self];

    /// The word.
    fn word(self) -> &'static str;
}

/// Declares one.
macro_rules! words {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident { $( $(#[$says:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name {
            $( $(#[$says])* $variant, )+
        }

        impl $name {
            /// Every variant.
            $vis const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl crate::libvirt::words::Word for $name {
            const WORDS: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(super) use words;
