//! What a serial line has beside its bytes: how it is set, its modem lines, the
//! size of the terminal on it. Said by owners in specs, by RFC 2217 on the wire
//! and by the operating system of a port; all three in these words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a line is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSettings {
    /// Bits a second.
    pub baud: u32,
    /// Bits of a character.
    #[serde(default)]
    pub data_bits: DataBits,
    /// Check bit.
    #[serde(default)]
    pub parity: Parity,
    /// Pause after a character.
    #[serde(default)]
    pub stop_bits: StopBits,
    /// Who may hold the other end back.
    #[serde(default)]
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

/// As `115200 8N1`, with `RTS/CTS` or `XON/XOFF` behind it if there is flow
/// control.
impl fmt::Display for LineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Odd => 'O',
            Parity::Even => 'E',
            Parity::Mark => 'M',
            Parity::Space => 'S',
        };
        let stop = match self.stop_bits {
            StopBits::One => "1",
            StopBits::OnePointFive => "1.5",
            StopBits::Two => "2",
        };
        write!(f, "{} {}{parity}{stop}", self.baud, self.data_bits.count())?;
        match self.flow_control {
            FlowControl::None => Ok(()),
            FlowControl::Software => f.write_str(" XON/XOFF"),
            FlowControl::Hardware => f.write_str(" RTS/CTS"),
        }
    }
}

/// Bits of a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataBits {
    /// Five.
    Five,
    /// Six.
    Six,
    /// Seven.
    Seven,
    /// Eight.
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

/// A check bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// No check bit.
    #[default]
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// Pause after a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopBits {
    /// One bit.
    #[default]
    One,
    /// One and a half; RFC 2217 only.
    OnePointFive,
    /// Two bits.
    Two,
}

/// Who may hold the other end back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowControl {
    /// Nobody.
    #[default]
    None,
    /// XON and XOFF in the stream.
    Software,
    /// RTS and CTS.
    Hardware,
}

/// The lines of a serial port beside its data, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ModemLines(u8);

impl ModemLines {
    /// None is on.
    pub const NONE: Self = Self(0);
    /// Data terminal ready: ours.
    pub const DTR: Self = Self(1);
    /// Request to send: ours.
    pub const RTS: Self = Self(2);
    /// Clear to send.
    pub const CTS: Self = Self(4);
    /// Data set ready.
    pub const DSR: Self = Self(8);
    /// Ring indicator.
    pub const RI: Self = Self(16);
    /// Carrier detect.
    pub const CD: Self = Self(32);

    /// Whether all of `lines` are on.
    pub fn has(self, lines: Self) -> bool {
        self.0 & lines.0 == lines.0
    }

    /// With `lines` on.
    #[must_use]
    pub fn with(self, lines: Self) -> Self {
        Self(self.0 | lines.0)
    }

    /// With `lines` off.
    #[must_use]
    pub fn without(self, lines: Self) -> Self {
        Self(self.0 & !lines.0)
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
        assert_eq!(LineSettings::default().to_string(), "115200 8N1");
        let settings = LineSettings {
            baud: 9600,
            data_bits: DataBits::Seven,
            parity: Parity::Even,
            stop_bits: StopBits::Two,
            flow_control: FlowControl::Hardware,
        };
        assert_eq!(settings.to_string(), "9600 7E2 RTS/CTS");
    }

    #[test]
    fn modem_lines_are_a_set() {
        let lines = ModemLines::NONE.with(ModemLines::DTR).with(ModemLines::CTS);
        assert!(lines.has(ModemLines::DTR) && !lines.has(ModemLines::RTS));
        assert!(!lines.without(ModemLines::DTR).has(ModemLines::DTR));
    }
}
