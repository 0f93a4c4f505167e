//! Errors as the API tells them: the one place that builds a `tonic::Status`.
//! Matches are exhaustive, so that a new error does not compile until it has a
//! code, a reason and details here. The reasons are API and are listed in the
//! proto files.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    auth::{self, Unauthenticated},
    backend::{self, ControlError},
    device::Fault,
    fleet, journal, limits,
    line::{self, EndReason},
    name::DeviceId,
};

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "lineman.v1";
/// Faults of one request that are told by name: they travel in trailers, and
/// more than 8 KiB of those many clients do not accept. The message tells how
/// many there are.
const FAULTS_BYTES_MAX: usize = 4 << 10;
/// When to try again what was refused for a moment.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Everything a call can end with.
#[derive(Debug)]
pub(super) enum Error {
    /// Fields are wrong; all of them are told.
    Fields(Vec<Fault>),
    /// A document is wrong; all of its faults are told.
    Xml(Vec<Fault>),
    /// There is no device of a domain.
    DomainNotFound,
    /// A device's name does not parse.
    Name { field: &'static str, error: crate::name::Error },
    /// The token is not ours or was made for other arguments.
    PageToken,
    /// The filter does not parse.
    Filter(String),
    /// The etag is not the current one.
    Etag(DeviceId),
    /// The fleet refused.
    Fleet(fleet::Error, DeviceId),
    /// Of several new devices these could not be made, and so none was.
    NotMade(Vec<(DeviceId, fleet::Error)>),
    /// The line refused.
    Line(line::Error, DeviceId),
    /// Stored output could not be read.
    Journal(journal::Error, DeviceId),
    /// A watch cannot go on from there.
    RevisionGone,
    /// Too many attachments or watches on the server.
    ServerLimit { what: &'static str, max: usize },
    /// There is no link for input.
    NotConnected { device: DeviceId, message: String },
    /// The host interface takes no input.
    NoInput { device: DeviceId },
    /// Somebody else writes.
    NotWriter { device: DeviceId, writers: Vec<String> },
    /// Some input was taken.
    InputIncomplete { accepted: u64, message: String },
    /// It is not known who calls.
    Unauthenticated(Unauthenticated),
    /// The caller may not do this.
    Denied(auth::Denied),
    /// The client broke the protocol.
    Protocol(String),
    /// The server stops.
    Stopping,
    /// The client's stream failed or was too large.
    Stream(Status),
}

impl From<auth::Denied> for Error {
    fn from(denied: auth::Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Fields(faults) => fields("INVALID_FIELDS", "fields are wrong", &faults),
            Error::Xml(faults) => fields("INVALID_XML", "faults in the XML", &faults),
            Error::DomainNotFound => {
                status(Code::NotFound, "DEVICE_NOT_FOUND", "there is no device of the domain", &[])
            }
            Error::Name { field, error } => one_field(Fault::new(field, error.to_string())),
            Error::PageToken => fault(
                "INVALID_PAGE_TOKEN",
                Fault::new("page_token", "must be next_page_token of a list with the same filter"),
            ),
            Error::Filter(problem) => fault("INVALID_FILTER", Fault::new("filter", problem)),
            Error::Etag(id) => {
                let message = "the etag is not the current one: read the device again and decide";
                with_resource(Code::Aborted, "ETAG_MISMATCH", message, &id)
            }
            Error::Fleet(error, id) => of_fleet(error, &id),
            Error::NotMade(failed) => not_made(failed),
            Error::Line(error, id) => of_line(error, &id),
            Error::Journal(error, id) => match error {
                journal::Error::Stopping => shutting_down(),
                journal::Error::Io { .. } | journal::Error::Thread(_) => internal(&error, &id),
            },
            Error::RevisionGone => {
                let message = "the revision is no longer known: watch again without one";
                status(Code::OutOfRange, "REVISION_GONE", message, &[])
            }
            Error::ServerLimit { what, max } => {
                let message = format!("the server has {max} {what} already");
                quota("ATTACHMENT_LIMIT", &message, what)
            }
            Error::NotConnected { device, message } => {
                let message = format!("{device} is not connected: {message}");
                let mut details = info("NOT_CONNECTED", &[("device", device.as_str())]);
                details.set_retry_info(Some(RETRY_DELAY));
                Status::with_error_details(Code::Unavailable, message, details)
            }
            Error::NoInput { device } => {
                let message = format!("the host interface of {device} takes no input");
                precondition("INPUT_REFUSED", &message, &device)
            }
            Error::NotWriter { device, writers } => {
                let message = format!("{device} is written to by {}", writers.join(", "));
                precondition("NOT_WRITER", &message, &device)
            }
            Error::InputIncomplete { accepted, message } => {
                let accepted_text = accepted.to_string();
                let message =
                    format!("{accepted} bytes of input were written, the rest was not: {message}");
                status(
                    Code::Aborted,
                    "INPUT_INCOMPLETE",
                    &message,
                    &[("accepted_bytes", &accepted_text)],
                )
            }
            Error::Unauthenticated(error) => {
                status(Code::Unauthenticated, "UNAUTHENTICATED", &error.to_string(), &[])
            }
            Error::Denied(denied) => {
                status(Code::PermissionDenied, "PERMISSION_DENIED", &denied.to_string(), &[])
            }
            Error::Protocol(problem) => one_field(Fault::new("message", problem)),
            Error::Stopping => shutting_down(),
            Error::Stream(status) => status,
        }
    }
}

fn of_fleet(error: fleet::Error, id: &DeviceId) -> Status {
    match error {
        fleet::Error::NotFound => with_resource(
            Code::NotFound,
            "DEVICE_NOT_FOUND",
            &format!("there is no device {id}"),
            id,
        ),
        fleet::Error::Exists => {
            let message = format!("there is a device {id} already");
            with_resource(Code::AlreadyExists, "DEVICE_EXISTS", &message, id)
        }
        fleet::Error::Changed => Error::Etag(id.clone()).into(),
        fleet::Error::Limit => quota(
            "DEVICE_LIMIT",
            &format!("there are {} devices already", limits::DEVICES_MAX),
            "devices",
        ),
        fleet::Error::Denied(ref denied) | fleet::Error::LogDenied(ref denied) => {
            not_allowed(denied, &format!("{id}: {error}"))
        }
        fleet::Error::Credentials(unfit) => {
            one_field(Fault::new("spec.tcp.credentials", unfit.to_string()))
        }
        fleet::Error::Store(error) => {
            tracing::error!(device = %id, error = &error as &dyn std::error::Error, "change not stored");
            let mut details = info("STORE_UNAVAILABLE", &[]);
            details.set_retry_info(Some(RETRY_DELAY));
            let message = "the change could not be stored; read the device before you try again";
            Status::with_error_details(Code::Unavailable, message, details)
        }
        fleet::Error::Journal(error) => internal(&error, id),
        fleet::Error::Stopping => shutting_down(),
    }
}

fn of_line(error: line::Error, id: &DeviceId) -> Status {
    match error {
        line::Error::Ended(EndReason::ShuttingDown) => shutting_down(),
        line::Error::Ended(EndReason::DeviceDeleted) => of_fleet(fleet::Error::NotFound, id),
        line::Error::Ended(EndReason::Failed) => internal(&error, id),
        line::Error::AttachmentLimit => quota("ATTACHMENT_LIMIT", &error.to_string(), id.as_str()),
        line::Error::SharingDisabled => precondition("SHARING_DISABLED", &error.to_string(), id),
        line::Error::NotWriter => {
            precondition("NOT_WRITER", "somebody took the right to write", id)
        }
        line::Error::Control(error) => of_control(&error, id),
    }
}

fn of_control(error: &ControlError, id: &DeviceId) -> Status {
    let unavailable = |reason| {
        let mut details = info(reason, &[("device", id.as_str())]);
        details.set_retry_info(Some(RETRY_DELAY));
        Status::with_error_details(Code::Unavailable, format!("{id}: {error}"), details)
    };
    match error {
        ControlError::Unsupported(_) => {
            precondition("CONTROL_UNSUPPORTED", &format!("{id}: {error}"), id)
        }
        ControlError::NotConnected => unavailable("NOT_CONNECTED"),
        ControlError::Busy | ControlError::Failed(_) => unavailable("CONTROL_FAILED"),
    }
}

/// Of many devices that are made at once, the message tells which it is.
fn not_allowed(denied: &backend::Denied, message: &str) -> Status {
    status(Code::PermissionDenied, "NOT_ALLOWED_HERE", message, &[("rule", denied.rule())])
}

fn shutting_down() -> Status {
    let mut details = info("SHUTTING_DOWN", &[]);
    details.set_retry_info(Some(RETRY_DELAY));
    Status::with_error_details(Code::Unavailable, "the server stops", details)
}

/// Our fault: the caller gets a number, the log the cause under the same number.
fn internal(error: &dyn std::error::Error, id: &DeviceId) -> Status {
    let incident = format!("{:08x}", fastrand::u32(..));
    let mut causes = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push_str(": ");
        causes.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!(device = %id, incident, error = causes, "internal error");
    let message = format!("the server failed inside; its log has incident {incident}");
    status(Code::Internal, "INTERNAL", &message, &[("incident", &incident)])
}

fn one_field(fault: Fault) -> Status {
    fields("INVALID_FIELDS", "fields are wrong", &[fault])
}

fn fields(reason: &str, what: &str, faults: &[Fault]) -> Status {
    let mut details = info(reason, &[]);
    let told = add_violations(&mut details, faults);
    let message = match faults {
        [one] => format!("{}: {}", one.field, one.problem),
        all if all.len() == told => format!("{told} {what}"),
        all => format!("{} {what}; the first {told} are told", all.len()),
    };
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Tells faults by name, as many as there is room for; returns how many.
fn add_violations(details: &mut ErrorDetails, faults: &[Fault]) -> usize {
    let mut room = FAULTS_BYTES_MAX;
    let mut told = 0;
    for fault in faults {
        let size = fault.field.len() + fault.problem.len() + 8;
        if size > room {
            break;
        }
        room -= size;
        told += 1;
        details.add_bad_request_violation(fault.field.as_str(), fault.problem.as_str());
    }
    told
}

/// The first decides about code and reason; all are told by name.
fn not_made(failed: Vec<(DeviceId, fleet::Error)>) -> Status {
    let fault =
        |(id, error): &(DeviceId, fleet::Error)| Fault::new(id.resource_name(), error.to_string());
    let faults: Vec<Fault> = failed.iter().map(fault).collect();
    let Some((id, error)) = failed.into_iter().next() else { return shutting_down() };
    let first = of_fleet(error, &id);
    if faults.len() == 1 {
        return first;
    }
    let mut details = first.get_error_details();
    add_violations(&mut details, &faults);
    let message = format!("{} devices cannot be made, and so none was", faults.len());
    Status::with_error_details(first.code(), message, details)
}

fn fault(reason: &str, fault: Fault) -> Status {
    let message = format!("{}: {}", fault.field, fault.problem);
    let mut details = info(reason, &[]);
    details.add_bad_request_violation(fault.field, fault.problem);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn with_resource(code: Code, reason: &str, message: &str, id: &DeviceId) -> Status {
    let mut details = info(reason, &[]);
    details.set_resource_info("lineman.v1/Device", id.resource_name(), "", message);
    Status::with_error_details(code, message, details)
}

fn precondition(reason: &str, message: &str, id: &DeviceId) -> Status {
    let mut details = info(reason, &[]);
    details.add_precondition_failure_violation(reason, id.resource_name(), message);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn quota(reason: &str, message: &str, subject: &str) -> Status {
    let mut details = info(reason, &[]);
    details.add_quota_failure_violation(subject, message);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn status(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    Status::with_error_details(code, message, info(reason, metadata))
}

fn info(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
