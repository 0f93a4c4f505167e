//! `break` and `line`: what a serial line has beside its bytes.
//!
//! A thing of its own because people write settings as `9600,7E1,rtscts`, in
//! any order and only what they mean to change, while the API takes them whole.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    connect::{Consoles, Server},
    exit::{Failure, on_stdout},
    select,
};
use crate::{
    name::DeviceId,
    pb::{
        AttachMode, GetLineSettingsRequest, LineSettings, ModemLines, SendBreakRequest,
        SetLineSettingsRequest, SetModemLinesRequest,
        line_settings::{FlowControl, Parity, StopBits},
    },
};

/// What `break` is told.
#[derive(Debug, Args)]
pub struct BreakArgs {
    /// The device
    #[arg(value_name = "NAME", value_parser = select::device)]
    device: DeviceId,
    /// How long to hold the line, 1ms to 10s; 250ms if not said
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    right: Right,
}

/// What `line` is told.
#[derive(Debug, Args)]
pub struct LineArgs {
    /// The device
    #[arg(value_name = "NAME", value_parser = select::device)]
    device: DeviceId,
    /// How to set the line, such as 9600,7E1,rtscts; what is left out stays
    #[arg(value_name = "SETTINGS", value_parser = wanted)]
    settings: Option<Wanted>,
    /// Turn the line "data terminal ready" on or off
    #[arg(long, value_enum)]
    dtr: Option<OnOff>,
    /// Turn the line "request to send" on or off
    #[arg(long, value_enum)]
    rts: Option<OnOff>,
    #[command(flatten)]
    right: Right,
}

/// The right to write, which all changes need.
#[derive(Debug, Clone, Copy, Args)]
struct Right {
    /// Do it although somebody else writes, who is then an observer
    #[arg(long)]
    force: bool,
}

impl Right {
    fn mode(self) -> i32 {
        if self.force { AttachMode::WriteForce } else { AttachMode::Write }.into()
    }
}

/// A line that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

/// The part of the settings that was named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    baud: Option<u32>,
    character: Option<(u32, Parity, StopBits)>,
    flow_control: Option<FlowControl>,
}

impl Wanted {
    /// Puts what was named in the place of what is.
    fn onto(self, mut settings: LineSettings) -> LineSettings {
        if let Some(baud) = self.baud {
            settings.baud = baud;
        }
        if let Some((bits, parity, stop)) = self.character {
            settings.data_bits = bits;
            settings.set_parity(parity);
            settings.set_stop_bits(stop);
        }
        if let Some(flow_control) = self.flow_control {
            settings.set_flow_control(flow_control);
        }
        settings
    }
}

pub(super) async fn send_break(server: &Server, args: BreakArgs) -> Result<(), Failure> {
    // What is too long for the message is too long for the server, which says so.
    let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
    let duration = args.duration.map(|duration| duration.try_into().unwrap_or(longest));
    let device = args.device.resource_name();
    let request = SendBreakRequest { device, duration, mode: args.right.mode() };
    server.consoles().await?.send_break(request).await?;
    Ok(())
}

pub(super) async fn line(server: &Server, args: LineArgs) -> Result<(), Failure> {
    let mut client = server.consoles().await?;
    let device = || args.device.resource_name();
    let mode = args.right.mode();
    if let Some(wanted) = args.settings {
        let (now, _) = get(&mut client, &args.device).await?;
        let line_settings = Some(wanted.onto(now));
        let request = SetLineSettingsRequest { device: device(), line_settings, mode };
        client.set_line_settings(request).await?;
    }
    if args.dtr.is_some() || args.rts.is_some() {
        let [dtr, rts] = [args.dtr, args.rts].map(|line| line.map(|line| line == OnOff::On));
        let request = SetModemLinesRequest { device: device(), dtr, rts, mode };
        client.set_modem_lines(request).await?;
    }
    let (settings, lines) = get(&mut client, &args.device).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "Settings:     {}", settings_text(&settings)).map_err(on_stdout)?;
    let lines = lines.map_or_else(|| "none".to_owned(), |lines| modem_lines_text(&lines));
    writeln!(out, "Modem lines:  {lines}").map_err(on_stdout)
}

async fn get(
    client: &mut Consoles,
    device: &DeviceId,
) -> Result<(LineSettings, Option<ModemLines>), Failure> {
    let request = GetLineSettingsRequest { device: device.resource_name() };
    let got = client.get_line_settings(request).await?.into_inner();
    Ok((got.line_settings.unwrap_or_default(), got.modem_lines))
}

/// Settings as people write them: `115200 8N1`, and flow control if there is.
pub(super) fn settings_text(settings: &LineSettings) -> String {
    let parity = match settings.parity() {
        Parity::Unspecified | Parity::None => 'N',
        Parity::Odd => 'O',
        Parity::Even => 'E',
        Parity::Mark => 'M',
        Parity::Space => 'S',
    };
    let stop = match settings.stop_bits() {
        StopBits::Unspecified | StopBits::One => "1",
        StopBits::OnePointFive => "1.5",
        StopBits::Two => "2",
    };
    let flow_control = match settings.flow_control() {
        FlowControl::Unspecified | FlowControl::None => "",
        FlowControl::Software => " XON/XOFF",
        FlowControl::Hardware => " RTS/CTS",
    };
    format!("{} {}{parity}{stop}{flow_control}", settings.baud, settings.data_bits)
}

/// The lines with what they are, ours first.
pub(super) fn modem_lines_text(lines: &ModemLines) -> String {
    let ModemLines { dtr, rts, cts, dsr, ri, cd } = *lines;
    let named = [("DTR", dtr), ("RTS", rts), ("CTS", cts), ("DSR", dsr), ("RI", ri), ("CD", cd)];
    let text = named.map(|(name, on)| format!("{name} {}", if on { "on" } else { "off" }));
    text.join(", ")
}

/// Parses settings: a speed, a character such as 8N1, and flow control (none,
/// rtscts or xonxoff), joined by commas in any order.
fn wanted(text: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for part in text.split(',').map(|part| part.trim().to_ascii_lowercase()) {
        let named_before = if let Some(flow) = flow_control(&part) {
            wanted.flow_control.replace(flow).is_some()
        } else if let Some(character) = character(&part) {
            wanted.character.replace(character).is_some()
        } else if let Ok(baud) = part.parse() {
            // 0 would be the server's default, and hangs up elsewhere.
            if baud == 0 {
                return Err("the speed cannot be 0".to_owned());
            }
            wanted.baud.replace(baud).is_some()
        } else {
            return Err(format!(
                "{part:?} is neither a speed, nor a character such as 8N1, nor none, rtscts or \
                 xonxoff"
            ));
        };
        if named_before {
            return Err(format!("{part:?} says again what was said before"));
        }
    }
    Ok(wanted)
}

fn flow_control(part: &str) -> Option<FlowControl> {
    match part {
        "none" => Some(FlowControl::None),
        "rtscts" | "rts/cts" => Some(FlowControl::Hardware),
        "xonxoff" | "xon/xoff" => Some(FlowControl::Software),
        _ => None,
    }
}

/// Parses `8n1`.
fn character(part: &str) -> Option<(u32, Parity, StopBits)> {
    let mut parts = part.chars();
    let bits = parts.next()?.to_digit(10).filter(|bits| (5..=8).contains(bits))?;
    let parity = match parts.next()? {
        'n' => Parity::None,
        'o' => Parity::Odd,
        'e' => Parity::Even,
        'm' => Parity::Mark,
        's' => Parity::Space,
        _ => return None,
    };
    let stop = match parts.as_str() {
        "1" => StopBits::One,
        "1.5" => StopBits::OnePointFive,
        "2" => StopBits::Two,
        _ => return None,
    };
    Some((bits, parity, stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_any_order_and_only_what_is_named_changes() {
        let all = wanted("9600,7E1,rtscts").unwrap();
        assert_eq!(wanted("RTSCTS, 7e1,9600"), Ok(all));
        assert_eq!(settings_text(&all.onto(LineSettings::default())), "9600 7E1 RTS/CTS");
        let now = all.onto(LineSettings::default());
        let text = |words| settings_text(&wanted(words).unwrap().onto(now));
        assert_eq!(text("115200"), "115200 7E1 RTS/CTS");
        assert_eq!(text("8M2"), "9600 8M2 RTS/CTS");
        assert_eq!(text("xonxoff"), "9600 7E1 XON/XOFF");
        assert_eq!(text("none,5o1.5"), "9600 5O1.5");
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for text in ["", "fast", "9N1", "8X1", "8N3", "-1", "9600,,8N1", "0", "4294967296"] {
            assert!(wanted(text).is_err(), "{text}");
        }
        assert!(wanted("9600,19200").unwrap_err().contains("again"));
        assert!(wanted("8N1,none,7E1").unwrap_err().contains("again"));
    }

    #[test]
    fn lines_are_told_with_what_they_are() {
        let lines = ModemLines { dtr: true, cd: true, ..ModemLines::default() };
        let text = "DTR on, RTS off, CTS off, DSR off, RI off, CD on";
        assert_eq!(modem_lines_text(&lines), text);
    }
}
