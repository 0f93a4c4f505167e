//! The calls that ask something of the other end beside its bytes: breaks, line
//! settings, modem lines, window sizes. Each is an attachment that lives as long
//! as the call, so that the rules of writing hold: nobody sends a break into a
//! console that somebody else writes to without saying so.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Api,
    authorize::device_id,
    convert::{line_settings_to_pb, modem_lines_to_pb, parse_line_settings, parse_window},
    status::Error,
    write_input::parse_write_mode,
};
use crate::{
    auth::Action,
    backend::{Control, ControlError},
    device::{Fault, LineSettings, State},
    limits,
    name::DeviceId,
    pb,
};

/// Holds the line in the break state for a while.
pub(super) async fn send_break(
    api: Api,
    extensions: http::Extensions,
    request: pb::SendBreakRequest,
) -> Result<pb::SendBreakResponse, Error> {
    let duration = match request.duration {
        None => limits::BREAK_DEFAULT,
        Some(span) => Duration::try_from(span)
            .ok()
            .filter(|span| (limits::BREAK_MIN..=limits::BREAK_MAX).contains(span))
            .ok_or_else(|| Error::Fields(vec![Fault::new("duration", "must be 1ms to 10s")]))?,
    };
    let control = Control::Break(duration);
    ask(&api, &extensions, &request.device, request.mode, control).await?;
    Ok(pb::SendBreakResponse {})
}

/// Tells how the line is set.
pub(super) async fn get_line_settings(
    api: Api,
    extensions: http::Extensions,
    request: pb::GetLineSettingsRequest,
) -> Result<pb::GetLineSettingsResponse, Error> {
    let id = device_id("device", &request.device)?;
    api.authorize(&extensions, Action::Get, Some(&id))?;
    let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id.clone()))?;
    // A port does not tell when it changes. One that does not answer, or has too
    // many that ask, is told as it was last seen.
    let _unless_it_does_not_answer = timeout(limits::CONTROL_TIMEOUT * 2, entry.line.look()).await;
    let facts = entry.line.status().link.facts;
    let Some(settings) = facts.line_settings else {
        let error = if entry.line.state() == State::Connected {
            ControlError::Unsupported("line settings")
        } else {
            ControlError::NotConnected
        };
        return Err(Error::Line(error.into(), id));
    };
    Ok(pb::GetLineSettingsResponse {
        line_settings: Some(line_settings_to_pb(&settings)),
        modem_lines: facts.modem_lines.map(modem_lines_to_pb),
    })
}

/// Sets the line until it is next opened.
pub(super) async fn set_line_settings(
    api: Api,
    extensions: http::Extensions,
    request: pb::SetLineSettingsRequest,
) -> Result<pb::SetLineSettingsResponse, Error> {
    let mut faults = Vec::new();
    let settings = match &request.line_settings {
        Some(settings) => parse_line_settings("line_settings", settings, &mut faults),
        None => {
            faults.push(Fault::new("line_settings", "must be given"));
            LineSettings::default()
        }
    };
    if !faults.is_empty() {
        return Err(Error::Fields(faults));
    }
    let control = Control::LineSettings(settings);
    let id = ask(&api, &extensions, &request.device, request.mode, control).await?;
    let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id))?;
    let taken = entry.line.status().link.facts.line_settings.unwrap_or(settings);
    Ok(pb::SetLineSettingsResponse { line_settings: Some(line_settings_to_pb(&taken)) })
}

/// Sets DTR and RTS.
pub(super) async fn set_modem_lines(
    api: Api,
    extensions: http::Extensions,
    request: pb::SetModemLinesRequest,
) -> Result<pb::SetModemLinesResponse, Error> {
    if request.dtr.is_none() && request.rts.is_none() {
        return Err(Error::Fields(vec![Fault::new("dtr", "must be given, or else `rts`")]));
    }
    let control = Control::ModemLines { dtr: request.dtr, rts: request.rts };
    ask(&api, &extensions, &request.device, request.mode, control).await?;
    Ok(pb::SetModemLinesResponse {})
}

/// Tells the other end the size of the terminal.
pub(super) async fn set_window_size(
    api: Api,
    extensions: http::Extensions,
    request: pb::SetWindowSizeRequest,
) -> Result<pb::SetWindowSizeResponse, Error> {
    let mut faults = Vec::new();
    let window = parse_window("window", request.window.unwrap_or_default(), &mut faults);
    if !faults.is_empty() {
        return Err(Error::Fields(faults));
    }
    ask(&api, &extensions, &request.device, request.mode, Control::Window(window)).await?;
    Ok(pb::SetWindowSizeResponse {})
}

/// Attaches to write, asks, and leaves.
async fn ask(
    api: &Api,
    extensions: &http::Extensions,
    device: &str,
    mode: i32,
    control: Control,
) -> Result<DeviceId, Error> {
    let id = device_id("device", device)?;
    let caller = api.authorize(extensions, Action::Write, Some(&id))?;
    let mode = parse_write_mode(mode)?;
    api.may_claim(&caller, mode, &id)?;
    let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id.clone()))?;
    let _permit = api.attachment_permit()?;
    let failed = |error| Error::Line(error, id.clone());
    let attachment = entry.line.attach(caller.name(control.name()), mode).await.map_err(failed)?;
    attachment
        .check_writer()
        .map_err(|writers| Error::NotWriter { device: id.clone(), writers })?;
    let patience = match control {
        Control::Break(duration) => limits::CONTROL_TIMEOUT * 2 + duration,
        Control::LineSettings(_) | Control::ModemLines { .. } | Control::Window(_) => {
            limits::CONTROL_TIMEOUT * 2
        }
    };
    let asked = timeout(patience, attachment.input().control(control)).await;
    let late = || Err(ControlError::Failed("no answer in time".into()).into());
    asked.unwrap_or_else(|_| late()).map_err(failed)?;
    api.inner.metrics.controls.inc();
    Ok(id)
}
