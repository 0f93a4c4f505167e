//! What a serial line has beside its bytes, to and from its messages.

use super::{Fault, unknown_value};
use crate::{
    device::{
        DataBits, FlowControl, LineSettings, ModemLines, Parity, StopBits, WindowSize,
        check_line_settings, check_window,
    },
    pb::{self, line_settings},
};

pub(in crate::api) fn line_settings_to_pb(settings: &LineSettings) -> pb::LineSettings {
    pb::LineSettings {
        baud: settings.baud,
        data_bits: settings.data_bits.count().into(),
        parity: match settings.parity {
            Parity::None => line_settings::Parity::None,
            Parity::Odd => line_settings::Parity::Odd,
            Parity::Even => line_settings::Parity::Even,
            Parity::Mark => line_settings::Parity::Mark,
            Parity::Space => line_settings::Parity::Space,
        }
        .into(),
        stop_bits: match settings.stop_bits {
            StopBits::One => line_settings::StopBits::One,
            StopBits::OnePointFive => line_settings::StopBits::OnePointFive,
            StopBits::Two => line_settings::StopBits::Two,
        }
        .into(),
        flow_control: match settings.flow_control {
            FlowControl::None => line_settings::FlowControl::None,
            FlowControl::Software => line_settings::FlowControl::Software,
            FlowControl::Hardware => line_settings::FlowControl::Hardware,
        }
        .into(),
    }
}

/// Settings as somebody wants them; what is wrong about them is told as of
/// `field`.
pub(in crate::api) fn parse_line_settings(
    field: &str,
    settings: &pb::LineSettings,
    faults: &mut Vec<Fault>,
) -> LineSettings {
    let mut unknown = |name: &str, value: i32| {
        faults.push(unknown_value(&format!("{field}.{name}"), value));
    };
    let parity = match line_settings::Parity::try_from(settings.parity) {
        Ok(line_settings::Parity::Unspecified | line_settings::Parity::None) => Parity::None,
        Ok(line_settings::Parity::Odd) => Parity::Odd,
        Ok(line_settings::Parity::Even) => Parity::Even,
        Ok(line_settings::Parity::Mark) => Parity::Mark,
        Ok(line_settings::Parity::Space) => Parity::Space,
        Err(_) => {
            unknown("parity", settings.parity);
            Parity::None
        }
    };
    let stop_bits = match line_settings::StopBits::try_from(settings.stop_bits) {
        Ok(line_settings::StopBits::Unspecified | line_settings::StopBits::One) => StopBits::One,
        Ok(line_settings::StopBits::OnePointFive) => StopBits::OnePointFive,
        Ok(line_settings::StopBits::Two) => StopBits::Two,
        Err(_) => {
            unknown("stop_bits", settings.stop_bits);
            StopBits::One
        }
    };
    let flow_control = match line_settings::FlowControl::try_from(settings.flow_control) {
        Ok(line_settings::FlowControl::Unspecified | line_settings::FlowControl::None) => {
            FlowControl::None
        }
        Ok(line_settings::FlowControl::Software) => FlowControl::Software,
        Ok(line_settings::FlowControl::Hardware) => FlowControl::Hardware,
        Err(_) => {
            unknown("flow_control", settings.flow_control);
            FlowControl::None
        }
    };
    let data_bits = match settings.data_bits {
        0 => DataBits::Eight,
        count => DataBits::from_count(count).unwrap_or_else(|| {
            let problem = format!("must be 5 to 8, or 0 for 8, not {count}");
            faults.push(Fault::new(format!("{field}.data_bits"), problem));
            DataBits::Eight
        }),
    };
    let baud = match settings.baud {
        0 => LineSettings::BAUD_DEFAULT,
        baud => baud,
    };
    let settings = LineSettings { baud, data_bits, parity, stop_bits, flow_control };
    check_line_settings(field, &settings, faults);
    settings
}

pub(in crate::api) fn modem_lines_to_pb(lines: ModemLines) -> pb::ModemLines {
    pb::ModemLines {
        dtr: lines.contains(ModemLines::DTR),
        rts: lines.contains(ModemLines::RTS),
        cts: lines.contains(ModemLines::CTS),
        dsr: lines.contains(ModemLines::DSR),
        ri: lines.contains(ModemLines::RI),
        cd: lines.contains(ModemLines::CD),
    }
}

pub(super) fn window_to_pb(window: WindowSize) -> pb::WindowSize {
    pb::WindowSize { rows: window.rows.into(), columns: window.columns.into() }
}

/// A size as somebody wants it.
pub(in crate::api) fn parse_window(
    field: &str,
    window: pb::WindowSize,
    faults: &mut Vec<Fault>,
) -> WindowSize {
    let size = |count| u16::try_from(count).unwrap_or(0);
    let window = WindowSize { rows: size(window.rows), columns: size(window.columns) };
    check_window(field, window, faults);
    window
}
