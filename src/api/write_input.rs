//! One WriteInput call: an attachment that lives as long as its input.

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    Api,
    attach::{check_input, parse_mode},
    authorize::device_id,
    status::Error,
};
use crate::{
    auth::Action,
    device::Fault,
    limits,
    line::{Attachment, Mode, Progress, Refusal},
    name::DeviceId,
    pb::{self, write_input_request::Payload},
};

/// Sends input and waits until the far side's end took it.
pub(super) async fn serve(
    api: Api,
    extensions: http::Extensions,
    request: pb::WriteInputRequest,
) -> Result<pb::WriteInputResponse, Error> {
    let id = device_id("device", &request.device)?;
    let caller = api.authorize(&extensions, Action::Write, Some(&id))?;
    let mode = parse_write_mode(request.mode)?;
    api.may_claim(&caller, mode, &id)?;
    let data = match request.payload {
        Some(Payload::Data(data)) => data,
        Some(Payload::Text(text)) => text.into(),
        None => Bytes::new(),
    };
    if data.is_empty() {
        return Err(Error::Fields(vec![Fault::new("payload", "data or text must not be empty")]));
    }
    check_input("payload", data.len())?;
    let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id.clone()))?;
    let _permit = api.attachment_permit()?;
    let failed = |error| Error::Line(error, id.clone());
    let attachment = entry.line.attach(caller.name("WriteInput"), mode).await.map_err(failed)?;
    attachment
        .check_writer()
        .map_err(|writers| Error::NotWriter { device: id.clone(), writers })?;
    let next_offset = attachment.journal().status().next_offset;
    let wanted = data.len() as u64;
    let written = timeout(limits::WRITE_INPUT_TIMEOUT, write(&attachment, data, wanted)).await;
    let (accepted, refusal) = match written {
        Ok(progress) => {
            let progress = progress.map_err(failed)?;
            (progress.written, progress.refusal)
        }
        // What was not written by now never will be: the answer is final.
        Err(_) => (attachment.input().drop_waiting().await.written, None),
    };
    if accepted == wanted {
        return Ok(pb::WriteInputResponse { accepted_bytes: accepted, next_offset });
    }
    Err(incomplete(&attachment, id, accepted, refusal))
}

/// The mode of a call that writes and leaves again.
pub(super) fn parse_write_mode(mode: i32) -> Result<Mode, Error> {
    match parse_mode("mode", mode)? {
        Mode::Observe if mode == 0 => Ok(Mode::Write),
        Mode::Observe | Mode::Wait => {
            let problem = "must be ATTACH_MODE_WRITE, WRITE_FORCE or WRITE_SHARED";
            Err(Error::Fields(vec![Fault::new("mode", problem)]))
        }
        mode @ (Mode::Write | Mode::Force | Mode::Shared) => Ok(mode),
    }
}

async fn write(
    attachment: &Attachment,
    data: Bytes,
    wanted: u64,
) -> Result<Progress, crate::line::Error> {
    attachment.input().send(None, data).await?;
    let mut seen = Progress::default();
    loop {
        let progress = attachment.input_progress();
        progress.until_changed(seen).await;
        if let Some(now) = progress.take_if_changed(seen) {
            if now.written == wanted || now.refusal.is_some() {
                return Ok(now);
            }
            seen = now;
        }
    }
}

fn incomplete(
    attachment: &Attachment,
    device: DeviceId,
    accepted: u64,
    refusal: Option<Refusal>,
) -> Error {
    let message = match refusal {
        None => format!("the far side took no more within {:?}", limits::WRITE_INPUT_TIMEOUT),
        Some(Refusal::NotConnected) => {
            let status = attachment.status();
            let status = status.borrow();
            let error = status.last_error.as_ref().map(|error| error.message.clone());
            error.unwrap_or_else(|| format!("its state is {}", status.state.as_str()))
        }
        Some(Refusal::NoInput) => return Error::NoInput { device },
        Some(Refusal::NotWriter) => "somebody took the right to write".to_owned(),
        Some(Refusal::QueueFull | Refusal::OffsetGap) => "it was refused".to_owned(),
    };
    if accepted == 0 && refusal == Some(Refusal::NotConnected) {
        Error::NotConnected { device, message }
    } else {
        Error::InputIncomplete { accepted, message }
    }
}
