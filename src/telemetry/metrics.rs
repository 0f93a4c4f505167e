//! Every counter of the server, registered in one place so that names and help
//! texts are seen side by side. No label ever names an attachment, a peer or a
//! device: those are unbounded; the API tells them.

use std::fmt;

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Declares the metrics: field, kind, name, help.
macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, $help:literal;)*) => {
        /// Every counter and gauge of the server.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            /// All at zero.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("lineman");
                $(let $field = $kind::default();
                registry.register($name, $help, $field.clone());)*
                Self { registry, $($field,)* }
            }
        }
    };
}

metrics! {
    connections: Gauge, "connections", "Open connections";
    connections_accepted: Counter, "connections_accepted", "Connections accepted";
    connections_refused: Counter, "connections_refused", "Connections closed at once because there were too many";
    handshakes_refused: Counter, "handshakes_refused", "Connections closed at once because too many handshakes were in progress";
    handshakes_failed: Counter, "handshakes_failed", "TLS handshakes that failed";
    handshakes_timed_out: Counter, "handshakes_timed_out", "TLS handshakes that took too long";
    connections_failed: Counter, "connections_failed", "Connections ended by an HTTP error, a flood or a lost peer";
    accept_errors: Counter, "accept_errors", "Failed accepts, such as out of file descriptors";
    unauthenticated: Counter, "unauthenticated", "Calls refused for lack of a valid credential";
    permission_denied: Counter, "permission_denied", "Calls refused by policy or allow-list";
    requests_failed: Counter, "requests_failed", "Calls answered with an error of any kind";

    devices: Gauge, "devices", "Devices that exist";
    lines_failed: Counter, "lines_failed", "Lines ended by an error inside the server";
    links_opened: Counter, "links_opened", "Links opened to far sides";
    links_lost: Counter, "links_lost", "Links lost or not to be opened";
    peers_refused: Counter, "peers_refused", "Far sides turned away or sent away: no place, not allowed, a failed TLS handshake, input not taken";
    output_bytes: Counter, "output_bytes", "Bytes read from far sides";
    input_bytes: Counter, "input_bytes", "Bytes written to far sides";
    input_dropped_bytes: Counter, "input_dropped_bytes", "Bytes of input taken and dropped because a link was lost";
    input_discarded_bytes: Counter, "input_discarded_bytes", "Bytes of input that a host interface threw away, as null does";
    output_lost: Counter, "output_lost", "Records or bytes lost before they reached the server, recorded as gaps";
    datagrams_failed: Counter, "datagrams_failed", "Datagrams of input that could not be sent, or came back as unreachable (ICMP)";
    datagrams_refused: Counter, "datagrams_refused", "Datagrams from senders that are not allowed, dropped";
    datagrams_overrun: Counter, "datagrams_overrun", "Datagrams that the kernel had no room for, recorded as gaps";
    breaks_received: Counter, "breaks_received", "Breaks received from far sides";
    controls: Counter, "controls", "Breaks, line settings, modem lines and window sizes sent";
    input_refused: Counter, "input_refused", "Pieces of input refused: no writer, not connected, queue full, offset gap, no input";

    log_written_bytes: Counter, "log_written_bytes", "Bytes written to the copies of spec.log";
    log_errors: Counter, "log_errors", "Failed writes of the copies of spec.log";
    log_lost_bytes: Counter, "log_lost_bytes", "Bytes missing from the copies of spec.log";

    attachments: Gauge, "attachments", "Attachments open";
    attachments_refused: Counter, "attachments_refused", "Attachments refused because there were too many";
    watches: Gauge, "watches", "Watches open";
    watches_refused: Counter, "watches_refused", "Watches refused because there were too many";

    journal_written_bytes: Counter, "journal_written_bytes", "Bytes of output written to journals";
    journal_errors: Counter, "journal_errors", "Failed writes of journals";
    journal_stalls: Counter, "journal_stalls", "Times that a disk took so long that output went on from memory";
    journal_lost_bytes: Counter, "journal_lost_bytes", "Bytes that never reached the disk and are gone from memory; told as gaps";
    journal_recorded_gaps: Counter, "journal_recorded_gaps", "Gaps of output that was lost before it reached a journal";
    journal_recorded_gap_bytes: Counter, "journal_recorded_gap_bytes", "Offsets that such gaps take";
    journal_recoveries: Counter, "journal_recoveries", "Journals repaired after an unclean end";
    journal_retired_bytes: Counter, "journal_retired_bytes", "Bytes of output deleted by retention";
    journal_gaps: Counter, "journal_gaps", "Gaps told to attachers and readers";
    tail_bytes: Gauge, "tail_bytes", "Memory of all tails";
    store_commits: Counter, "store_commits", "Durable commits of the store";
    store_errors: Counter, "store_errors", "Failed commits of the store";
}

impl Metrics {
    /// The OpenMetrics text form.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
