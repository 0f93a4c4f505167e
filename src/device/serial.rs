//! A serial line's settings and its modem lines, as every host interface that
//! has them means them: a port of this machine, or one reached by RFC 2217.

use std::{
    fmt,
    ops::{BitAnd, BitOr},
};

use serde::{Deserialize, Serialize};

/// How a serial line is set. What is not said is 115200 8N1 without flow
/// control, what nearly every console of the last twenty years uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineSettings {
    /// Bits a second, at least 1.
    pub baud: u32,
    /// Bits of a character.
    pub data_bits: DataBits,
    /// The check bit.
    pub parity: Parity,
    /// What ends a character.
    pub stop_bits: StopBits,
    /// How the two ends hold each other up.
    pub flow_control: FlowControl,
}

impl LineSettings {
    /// Bits a second of a line of which nothing is said: what consoles of
    /// servers and boards use.
    pub const BAUD_DEFAULT: u32 = 115_200;
}

impl Default for LineSettings {
    fn default() -> Self {
        Self {
            baud: Self::BAUD_DEFAULT,
            data_bits: DataBits::default(),
            parity: Parity::default(),
            stop_bits: StopBits::default(),
            flow_control: FlowControl::default(),
        }
    }
}

/// As people write it: `115200 8N1`, and the flow control if there is any.
impl fmt::Display for LineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_bits = match self.data_bits {
            DataBits::Five => '5',
            DataBits::Six => '6',
            DataBits::Seven => '7',
            DataBits::Eight => '8',
        };
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Odd => 'O',
            Parity::Even => 'E',
            Parity::Mark => 'M',
            Parity::Space => 'S',
        };
        let stop_bits = match self.stop_bits {
            StopBits::One => "1",
            StopBits::OnePointFive => "1.5",
            StopBits::Two => "2",
        };
        let flow_control = match self.flow_control {
            FlowControl::None => "",
            FlowControl::Software => " XON/XOFF",
            FlowControl::Hardware => " RTS/CTS",
        };
        write!(f, "{} {data_bits}{parity}{stop_bits}{flow_control}", self.baud)
    }
}

/// Bits of a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataBits {
    /// 5, teleprinters.
    Five,
    /// 6.
    Six,
    /// 7, ASCII with parity.
    Seven,
    /// 8.
    #[default]
    Eight,
}

impl DataBits {
    /// So many.
    pub fn count(self) -> u8 {
        match self {
            Self::Five => 5,
            Self::Six => 6,
            Self::Seven => 7,
            Self::Eight => 8,
        }
    }

    /// The one with so many bits.
    pub fn from_count(count: u32) -> Option<Self> {
        match count {
            5 => Some(Self::Five),
            6 => Some(Self::Six),
            7 => Some(Self::Seven),
            8 => Some(Self::Eight),
            _ => None,
        }
    }
}

/// The check bit of a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// There is none.
    #[default]
    None,
    /// Makes the number of ones odd.
    Odd,
    /// Makes the number of ones even.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// What ends a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopBits {
    /// 1.
    #[default]
    One,
    /// 1.5, with five data bits.
    OnePointFive,
    /// 2.
    Two,
}

/// How the two ends of a line hold each other up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowControl {
    /// They do not.
    #[default]
    None,
    /// XON and XOFF among the data, which is then not transparent.
    Software,
    /// RTS and CTS.
    Hardware,
}

/// Which modem lines are asserted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ModemLines(u8);

impl ModemLines {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Data terminal ready: ours.
    pub const DTR: Self = Self(1);
    /// Request to send: ours.
    pub const RTS: Self = Self(1 << 1);
    /// Clear to send: the far side's.
    pub const CTS: Self = Self(1 << 2);
    /// Data set ready: the far side's.
    pub const DSR: Self = Self(1 << 3);
    /// Ring indicator: the far side's.
    pub const RI: Self = Self(1 << 4);
    /// Carrier detect: the far side's.
    pub const CD: Self = Self(1 << 5);

    const NAMES: [(Self, &str); 6] = [
        (Self::DTR, "DTR"),
        (Self::RTS, "RTS"),
        (Self::CTS, "CTS"),
        (Self::DSR, "DSR"),
        (Self::RI, "RI"),
        (Self::CD, "CD"),
    ];

    /// Whether all of `lines` are asserted.
    pub fn contains(self, lines: Self) -> bool {
        self & lines == lines
    }

    /// These without `lines`.
    #[must_use]
    pub fn without(self, lines: Self) -> Self {
        Self(self.0 & !lines.0)
    }
}

impl BitOr for ModemLines {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for ModemLines {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The names of those asserted, or `none`.
impl fmt::Display for ModemLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let asserted = Self::NAMES.iter().filter(|(line, _)| self.contains(*line));
        for (at, (_, name)) in asserted.enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ModemLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModemLines({self})")
    }
}

/// The size of a terminal, in characters. 0 by 0 is "not known".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_people_write_them() {
        let table = [
            (LineSettings::default(), "115200 8N1"),
            (
                LineSettings {
                    baud: 300,
                    data_bits: DataBits::Seven,
                    parity: Parity::Even,
                    stop_bits: StopBits::Two,
                    flow_control: FlowControl::Software,
                },
                "300 7E2 XON/XOFF",
            ),
            (
                LineSettings {
                    baud: 50,
                    data_bits: DataBits::Five,
                    parity: Parity::Mark,
                    stop_bits: StopBits::OnePointFive,
                    flow_control: FlowControl::Hardware,
                },
                "50 5M1.5 RTS/CTS",
            ),
        ];
        for (settings, text) in table {
            assert_eq!(settings.to_string(), text);
        }
    }

    #[test]
    fn settings_that_say_little_mean_the_usual() {
        let settings: LineSettings =
            serde_json::from_str(r#"{"baud": 9600, "parity": "odd"}"#).unwrap();
        assert_eq!(settings.to_string(), "9600 8O1");
        assert_eq!(
            serde_json::to_string(&settings).unwrap(),
            r#"{"baud":9600,"data_bits":"eight","parity":"odd","stop_bits":"one","flow_control":"none"}"#
        );
        assert!(serde_json::from_str::<LineSettings>(r#"{"bauds": 9600}"#).is_err());
    }

    #[test]
    fn modem_lines_are_a_set() {
        let lines = ModemLines::DTR | ModemLines::RTS;
        assert!(lines.contains(ModemLines::DTR));
        assert!(!lines.contains(ModemLines::DTR | ModemLines::CTS));
        assert_eq!(lines.without(ModemLines::DTR), ModemLines::RTS);
        assert_eq!((lines | ModemLines::CD).to_string(), "DTR RTS CD");
        assert_eq!(ModemLines::NONE.to_string(), "none");
    }
}
