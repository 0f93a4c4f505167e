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
    api: &Api,
    extensions: &http::Extensions,
    request: pb::WriteInputRequest,
) -> Result<pb::WriteInputResponse, Error> {
    let id = device_id("device", &request.device)?;
    let caller = api.authorize(extensions, Action::Write, Some(&id))?;
    let mode = match parse_mode("mode", request.mode)? {
        Mode::Observe if request.mode == 0 => Mode::Write,
        Mode::Observe | Mode::Wait => {
            let problem = "must be ATTACH_MODE_WRITE, WRITE_FORCE or WRITE_SHARED";
            return Err(Error::Fields(vec![Fault::new("mode", problem)]));
        }
        mode @ (Mode::Write | Mode::Force | Mode::Shared) => mode,
    };
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
    {
        let writers = attachment.writers();
        let writers = writers.borrow();
        if !writers.lock.may_write(attachment.id()) {
            return Err(Error::NotWriter { device: id, writers: writers.names.clone() });
        }
    }
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
        Some(Refusal::NotWriter) => "somebody took the right to write".to_owned(),
        Some(Refusal::QueueFull | Refusal::OffsetGap) => "it was refused".to_owned(),
    };
    if accepted == 0 && refusal == Some(Refusal::NotConnected) {
        Error::NotConnected { device, message }
    } else {
        Error::InputIncomplete { accepted, message }
    }
}
