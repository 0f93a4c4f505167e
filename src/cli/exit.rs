//! How a command ends: the documented exit codes, and failures as one clear
//! sentence for people.
//!
//! A thing of its own because scripts rely on the codes: they are API, every
//! command uses the same, and this is the only place that reads what the server
//! tells in the details of a status. Nothing here shows a `Debug` form or a
//! secret; what the server says is cleaned of control characters first.

use std::{error::Error, fmt, io, process::ExitCode};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::text::plain;

/// The last part of every command's `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  another failure
  2  the command line is wrong
  3  the server cannot be reached
  4  no such device, or it was deleted
  5  the device exists already, or changed since it was read
  6  not authenticated, or not allowed
  7  an argument or a document is not valid
  8  the device is not in a state for it (somebody else writes, not connected)
  9  a limit is reached
  65  a libvirt document is not valid
  128 + N  ended by signal N";

/// Why a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done,
    /// Anything that has no code of its own.
    Failed,
    /// No connection, or it was lost and not to be opened again.
    Unreachable,
    /// The device does not exist.
    NotFound,
    /// The device exists already or is not what was read.
    Conflict,
    /// The server does not know the caller or does not let it.
    Denied,
    /// An argument or a document is at fault.
    Invalid,
    /// The device's state forbids it.
    WrongState,
    /// A quota of the server.
    Limit,
    /// A libvirt document is at fault; sysexits.h calls this EX_DATAERR.
    Data,
    /// A signal asked to end.
    Signal(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            // 2 is clap's.
            Exit::Unreachable => 3,
            Exit::NotFound => 4,
            Exit::Conflict => 5,
            Exit::Denied => 6,
            Exit::Invalid => 7,
            Exit::WrongState => 8,
            Exit::Limit => 9,
            Exit::Data => 65,
            Exit::Signal(number) => number.saturating_add(128),
        })
    }
}

/// A command failed: the code to exit with and what to tell.
#[derive(Debug)]
pub(super) struct Failure {
    /// The code.
    pub(super) exit: Exit,
    /// A sentence, perhaps with indented lines; empty if there is nothing to
    /// tell.
    message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message }
    }

    /// Ends without a word, because all is said or nobody listens.
    pub(super) fn quiet(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_quiet(&self) -> bool {
        self.message.is_empty()
    }

    /// The same failure, told of `what`, unless it says so itself.
    pub(super) fn of(mut self, what: impl fmt::Display) -> Self {
        let what = format!("{what}: ");
        if !self.message.is_empty() && !self.message.starts_with(&what) {
            self.message.insert_str(0, &what);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let reason = info.as_ref().map_or("", |info| info.reason.as_str());
        if is_connection_loss(&status) {
            let cause = match status.source() {
                Some(source) => root(source),
                None => plain(status.message()),
            };
            let message = format!("the connection to the server failed: {cause}");
            return Self::new(Exit::Unreachable, message);
        }
        let mut message = plain(status.message());
        if message.is_empty() {
            message = status.code().description().to_owned();
        }
        let accepted = info.as_ref().and_then(|i| i.metadata.get("accepted_bytes"));
        if let Some(bytes) = accepted {
            message += &format!(" ({} bytes were sent)", plain(bytes));
        }
        if let Some(advice) = advice(reason) {
            message += &format!("; {advice}");
        }
        for (subject, description) in violations(&status) {
            let violation = format!("{}: {}", plain(&subject), plain(&description));
            // The message of a single one is that one.
            if !message.starts_with(&violation) {
                message += &format!("\n  {violation}");
            }
        }
        Self::new(exit_of(status.code(), reason), message)
    }
}

impl From<tonic::transport::Error> for Failure {
    fn from(error: tonic::transport::Error) -> Self {
        Self::new(Exit::Unreachable, root(&error))
    }
}

/// Failures of standard output: a reader that has gone away has seen enough.
pub(super) fn on_stdout(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::quiet(Exit::Done)
    } else {
        Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))
    }
}

/// Whether a call failed because of the way to the server, not by its decision:
/// the server puts an `ErrorInfo` beside every decision that it makes.
pub(super) fn is_connection_loss(status: &Status) -> bool {
    let by_way = match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => status.source().is_some(),
    };
    by_way && status.get_details_error_info().is_none()
}

/// The innermost cause: the layers around it say "transport error".
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    plain(&innermost.to_string())
}

fn exit_of(code: Code, reason: &str) -> Exit {
    match (code, reason) {
        (_, "NOT_CONNECTED" | "INPUT_INCOMPLETE" | "CONTROL_FAILED") => Exit::WrongState,
        (Code::NotFound, _) => Exit::NotFound,
        (Code::AlreadyExists | Code::Aborted, _) => Exit::Conflict,
        (Code::Unauthenticated | Code::PermissionDenied, _) => Exit::Denied,
        (Code::InvalidArgument | Code::OutOfRange, _) => Exit::Invalid,
        (Code::FailedPrecondition, _) => Exit::WrongState,
        (Code::ResourceExhausted, _) => Exit::Limit,
        (Code::Unavailable, _) => Exit::Unreachable,
        (
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss,
            _,
        ) => Exit::Failed,
    }
}

/// What to do about it, by the reason that the server gave.
fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "DEVICE_NOT_FOUND" => "`lineman get devices` lists those that exist",
        "DEVICE_EXISTS" => "change it with `lineman apply`",
        "ETAG_MISMATCH" => "`lineman get -o yaml` shows it as it is now",
        "NOT_ALLOWED_HERE" => "the server's operator decides which hosts and paths are allowed",
        "DEVICE_LIMIT" => "delete devices that are not needed, or ask the server's operator",
        "ATTACHMENT_LIMIT" => "others must detach first",
        "STORE_UNAVAILABLE" => "nothing was changed, try again",
        "SHUTTING_DOWN" => "try again in a moment",
        "UNAUTHENTICATED" => "check the token file (--token-file, or the context's)",
        "NOT_WRITER" => {
            "wait for the right to write with `attach --mode wait`, or use --mode force"
        }
        "SHARING_DISABLED" => "set spec.input.sharing to SHARING_SHARED, or use another --mode",
        "NOT_CONNECTED" => "`lineman describe` tells why",
        "INTERNAL" => "the server's log has the cause",
        _ => return None,
    })
}

/// Every violation that the server listed, as subject and description.
fn violations(status: &Status) -> Vec<(String, String)> {
    let fields = status.get_details_bad_request().into_iter();
    let fields = fields.flat_map(|d| d.field_violations);
    let quotas = status.get_details_quota_failure().into_iter();
    let quotas = quotas.flat_map(|d| d.violations);
    fields
        .map(|v| (v.field, v.description))
        .chain(quotas.map(|v| (v.subject, v.description)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn decided(code: Code, reason: &str, message: &str) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "lineman.v1", HashMap::new());
        details.add_bad_request_violation("spec.tcp.port", "must be 1 to 65535");
        details.add_bad_request_violation("spec.tcp.host", "must not be empty");
        Status::with_error_details(code, message, details)
    }

    #[test]
    fn what_it_is_about_is_said_once() {
        let failure = |message: &str| Failure::new(Exit::Failed, message).of("node7").to_string();
        assert_eq!(failure("no such device"), "node7: no such device");
        assert_eq!(failure("node7: is not allowed"), "node7: is not allowed");
    }

    #[test]
    fn lists_every_field_at_fault() {
        let status = decided(Code::InvalidArgument, "INVALID_FIELDS", "the device is not valid");
        let failure = Failure::from(status);
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(
            failure.to_string(),
            "the device is not valid\n  spec.tcp.port: must be 1 to 65535\n  \
             spec.tcp.host: must not be empty"
        );
    }

    #[test]
    fn says_a_single_fault_once() {
        let told = "duration: must be 1ms to 10s";
        let details = ErrorDetails::with_bad_request_violation("duration", "must be 1ms to 10s");
        let status = Status::with_error_details(Code::InvalidArgument, told, details);
        assert_eq!(Failure::from(status).to_string(), told);
    }

    #[test]
    fn tells_a_decision_from_a_lost_connection() {
        let lost = Status::unavailable("broken");
        assert!(is_connection_loss(&lost));
        assert_eq!(Failure::from(lost).exit, Exit::Unreachable);
        let decision = decided(Code::Unavailable, "NOT_CONNECTED", "not connected");
        assert!(!is_connection_loss(&decision));
        assert_eq!(Failure::from(decision).exit, Exit::WrongState);
        assert!(!is_connection_loss(&Status::not_found("none")));
    }

    #[test]
    fn control_characters_of_others_do_not_reach_the_terminal() {
        let failure = Failure::from(Status::not_found("no \u{1b}[2J device\n"));
        assert!(!failure.to_string().contains('\u{1b}'));
    }
}
