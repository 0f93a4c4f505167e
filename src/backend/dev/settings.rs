//! Line settings as a terminal's attributes (termios(3)) and back. Pure.
//!
//! Beside what settings say, a port is always raw and 8 bit clean, does not care
//! for the carrier (`CLOCAL`), receives (`CREAD`) and marks breaks (`PARMRK`,
//! see `marks`); it drops DTR when it is closed (`HUPCL`) only if that is asked
//! for, because on many boards DTR is the reset.

use rustix::termios::{ControlModes, InputModes, SpecialCodeIndex, Termios};

use crate::device::{DataBits, FlowControl, LineSettings, Parity, StopBits};

/// XON and XOFF (ASCII DC1 and DC3).
const XON: u8 = 0x11;
const XOFF: u8 = 0x13;
/// Part of the speed that a port may be off, in percent: dividers of UARTs
/// seldom hit a speed exactly, and receivers bear about twice this.
const BAUD_TOLERANCE_PERCENT: u64 = 2;

/// What becomes of DTR when the port is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnClose {
    /// It stays.
    KeepDtr,
    /// It drops.
    DropDtr,
}

/// Why a port was not set as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unset {
    /// Linux knows one and two.
    #[error("a port of this host has one or two stop bits, not 1.5")]
    StopBits,
    /// Drivers take what they can and say nothing; so the port is asked.
    #[error("asked for {wanted}, the port sets itself to {got}")]
    Differs {
        /// As asked.
        wanted: LineSettings,
        /// What it was read back as.
        got: LineSettings,
    },
    /// The driver failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes settings into attributes.
pub(super) fn apply(
    termios: &mut Termios,
    wanted: &LineSettings,
    on_close: OnClose,
) -> Result<(), Unset> {
    termios.make_raw();
    termios.input_modes -= InputModes::IXON
        | InputModes::IXOFF
        | InputModes::IXANY
        | InputModes::IGNPAR
        | InputModes::INPCK
        | InputModes::IMAXBEL
        | InputModes::IUCLC;
    termios.input_modes |= InputModes::PARMRK;
    termios.control_modes -= ControlModes::CSIZE
        | ControlModes::PARENB
        | ControlModes::PARODD
        | ControlModes::CMSPAR
        | ControlModes::CSTOPB
        | ControlModes::CRTSCTS
        | ControlModes::HUPCL;
    termios.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    if on_close == OnClose::DropDtr {
        termios.control_modes |= ControlModes::HUPCL;
    }
    termios.control_modes |= match wanted.data_bits {
        DataBits::Five => ControlModes::CS5,
        DataBits::Six => ControlModes::CS6,
        DataBits::Seven => ControlModes::CS7,
        DataBits::Eight => ControlModes::CS8,
    };
    termios.control_modes |= match wanted.parity {
        Parity::None => ControlModes::empty(),
        Parity::Even => ControlModes::PARENB,
        Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
        Parity::Space => ControlModes::PARENB | ControlModes::CMSPAR,
        Parity::Mark => ControlModes::PARENB | ControlModes::CMSPAR | ControlModes::PARODD,
    };
    if wanted.parity != Parity::None {
        termios.input_modes |= InputModes::INPCK;
    }
    match wanted.stop_bits {
        StopBits::One => {}
        StopBits::Two => termios.control_modes |= ControlModes::CSTOPB,
        StopBits::OnePointFive => return Err(Unset::StopBits),
    }
    match wanted.flow_control {
        FlowControl::None => {}
        FlowControl::Software => {
            termios.input_modes |= InputModes::IXON | InputModes::IXOFF;
            termios.special_codes[SpecialCodeIndex::VSTART] = XON;
            termios.special_codes[SpecialCodeIndex::VSTOP] = XOFF;
        }
        FlowControl::Hardware => termios.control_modes |= ControlModes::CRTSCTS,
    }
    // Speeds without a name (74880 of a boot ROM) are set too, if the driver can.
    termios.set_speed(wanted.baud).map_err(|errno| Unset::Io(errno.into()))
}

/// Reads settings out of attributes.
pub(super) fn read(termios: &Termios) -> LineSettings {
    let (control, input) = (termios.control_modes, termios.input_modes);
    let size = control & ControlModes::CSIZE;
    let odd = control.contains(ControlModes::PARODD);
    LineSettings {
        baud: termios.output_speed(),
        data_bits: if size == ControlModes::CS5 {
            DataBits::Five
        } else if size == ControlModes::CS6 {
            DataBits::Six
        } else if size == ControlModes::CS7 {
            DataBits::Seven
        } else {
            DataBits::Eight
        },
        parity: match (
            control.contains(ControlModes::PARENB),
            control.contains(ControlModes::CMSPAR),
            odd,
        ) {
            (false, _, _) => Parity::None,
            (true, false, false) => Parity::Even,
            (true, false, true) => Parity::Odd,
            (true, true, false) => Parity::Space,
            (true, true, true) => Parity::Mark,
        },
        stop_bits: if control.contains(ControlModes::CSTOPB) {
            StopBits::Two
        } else {
            StopBits::One
        },
        flow_control: if control.contains(ControlModes::CRTSCTS) {
            FlowControl::Hardware
        } else if input.intersects(InputModes::IXON | InputModes::IXOFF) {
            FlowControl::Software
        } else {
            FlowControl::None
        },
    }
}

/// Whether a port that was asked for `wanted` and read back as `got` does what
/// was asked.
pub(super) fn check(wanted: &LineSettings, got: &LineSettings) -> Result<(), Unset> {
    let off = u64::from(wanted.baud.abs_diff(got.baud)) * 100;
    let fits = off <= u64::from(wanted.baud) * BAUD_TOLERANCE_PERCENT
        && LineSettings { baud: wanted.baud, ..*got } == *wanted;
    if fits { Ok(()) } else { Err(Unset::Differs { wanted: *wanted, got: *got }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::{
        pty::{OpenptFlags, openpt},
        termios::tcgetattr,
    };

    use super::*;
    use crate::limits;

    /// Some attributes to begin with.
    fn termios() -> Termios {
        tcgetattr(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap()).unwrap()
    }

    fn settings() -> impl Strategy<Value = LineSettings> {
        let baud = prop_oneof![
            Just(9600_u32),
            Just(115_200),
            Just(74_880),
            limits::BAUD_MIN..=limits::BAUD_MAX
        ];
        let parity = prop::sample::select(vec![
            Parity::None,
            Parity::Odd,
            Parity::Even,
            Parity::Mark,
            Parity::Space,
        ]);
        let flow = prop::sample::select(vec![
            FlowControl::None,
            FlowControl::Software,
            FlowControl::Hardware,
        ]);
        let stop = prop::sample::select(vec![StopBits::One, StopBits::Two]);
        (baud, 5..=8_u32, parity, stop, flow).prop_map(|(baud, bits, parity, stop_bits, flow)| {
            LineSettings {
                baud,
                data_bits: DataBits::from_count(bits).unwrap(),
                parity,
                stop_bits,
                flow_control: flow,
            }
        })
    }

    proptest! {
        #[test]
        fn every_setting_comes_back_whatever_was_set_before(
            before in settings(),
            wanted in settings(),
        ) {
            let mut termios = termios();
            apply(&mut termios, &before, OnClose::DropDtr).unwrap();
            apply(&mut termios, &wanted, OnClose::KeepDtr).unwrap();
            prop_assert_eq!(read(&termios), wanted);
            prop_assert!(check(&wanted, &read(&termios)).is_ok());
            prop_assert!(!termios.control_modes.contains(ControlModes::HUPCL));
            prop_assert!(termios.input_modes.contains(InputModes::PARMRK));
            prop_assert_eq!(
                termios.input_modes.contains(InputModes::INPCK),
                wanted.parity != Parity::None
            );
        }
    }

    #[test]
    fn dtr_drops_on_close_only_if_asked() {
        let mut termios = termios();
        apply(&mut termios, &LineSettings::default(), OnClose::DropDtr).unwrap();
        assert!(termios.control_modes.contains(ControlModes::HUPCL));
        apply(&mut termios, &LineSettings::default(), OnClose::KeepDtr).unwrap();
        assert!(!termios.control_modes.contains(ControlModes::HUPCL));
        assert!(termios.control_modes.contains(ControlModes::CLOCAL | ControlModes::CREAD));
    }

    #[test]
    fn one_and_a_half_stop_bits_are_refused() {
        let wanted = LineSettings { stop_bits: StopBits::OnePointFive, ..Default::default() };
        let error = apply(&mut termios(), &wanted, OnClose::KeepDtr).unwrap_err();
        assert!(matches!(error, Unset::StopBits));
    }

    #[test]
    fn a_speed_may_be_a_little_off_and_nothing_else() {
        let wanted = LineSettings { baud: 921_600, ..Default::default() };
        let baud = |baud| LineSettings { baud, ..wanted };
        assert!(check(&wanted, &baud(923_076)).is_ok());
        assert!(check(&wanted, &baud(940_100)).is_err());
        assert!(check(&wanted, &baud(9600)).is_err());
        let got = LineSettings { data_bits: DataBits::Seven, ..wanted };
        let error = check(&wanted, &got).unwrap_err().to_string();
        assert_eq!(error, "asked for 921600 8N1, the port sets itself to 921600 7N1");
    }
}
