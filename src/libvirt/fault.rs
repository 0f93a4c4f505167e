//! Why a document is refused: the rule, a sentence, and where.
//!
//! A thing of its own because the names of the rules are API: scripts and the
//! import match on them, people read the sentence.

use std::fmt;

use super::words::words;

/// Longest sentence, in characters: what others wrote is quoted in it.
const MESSAGE_CHARS_MAX: usize = 200;
/// How much of a value is quoted, in characters.
const QUOTE_CHARS_MAX: usize = 40;

/// Where something stands in a document. Lines and columns count from 1, columns
/// in characters; 0 is nowhere: of a device that was not read but built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

words! {
    /// The rule that was broken.
    pub enum Class {
        /// The host interface is not known.
        TypeUnknown = "type-unknown",
        /// A value outside of a fixed set.
        Enum = "enum",
        /// A number that is malformed or out of range.
        Integer = "integer",
        /// A required attribute of a child is absent.
        AttrMissing = "attr-missing",
        /// Too many of `source`, `log` or `protocol`.
        DupElement = "dup-element",
        /// The protocol of a tcp device is not known.
        ProtocolUnknown = "protocol-unknown",
        /// No `path`.
        SourcePath = "source-path",
        /// No `host`.
        SourceHost = "source-host",
        /// No `service`.
        SourceService = "source-service",
        /// Only one of `master` and `slave`.
        SourcePair = "source-pair",
        /// No `channel`.
        SourceChannel = "source-channel",
        /// A character that a channel's name cannot have.
        ChannelChars = "channel-chars",
        /// `reconnect` on a side that waits for connections.
        ReconnectBind = "reconnect-bind",
        /// A channel without `target`.
        TargetMissing = "target-missing",
        /// The type of the target is not known on this element.
        TargetUnknown = "target-unknown",
        /// The model of a serial is not known.
        ModelUnknown = "model-unknown",
        /// The address of a `guestfwd` channel is absent or not IPv4.
        GuestfwdAddress = "guestfwd-address",
        /// `spicevmc` on something else than a virtio channel.
        SpicevmcTarget = "spicevmc-target",
        /// A console of type serial that is not the first console.
        ConsoleOrder = "console-order",
        /// Two devices with one alias.
        AliasClash = "alias-clash",
        /// The number of an ISA serial is taken, too high, or there are too many.
        IsaPort = "isa-port",
        /// An address without type, or of one that is unknown or does not fit.
        AddressType = "address-type",
        /// Security labels that contradict each other.
        Seclabel = "seclabel",
        /// Not well-formed XML, or not a document of this kind.
        Xml = "xml",
        /// The document or a value in it is too long.
        TooLarge = "too-large",
        /// Elements within elements without end.
        TooDeep = "too-deep",
        /// Too many elements, attributes or devices.
        TooMany = "too-many",
        /// A DOCTYPE, or an entity other than XML's own.
        Forbidden = "forbidden",
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Fault {
    /// The rule.
    pub class: Class,
    /// What is wrong, and what would be right. It may quote what others wrote.
    pub message: String,
    /// Line, from 1; 0 if the device was not read from a text.
    pub line: u32,
    /// Column in characters, from 1; 0 if the device was not read from a text.
    pub column: u32,
}

impl Fault {
    pub(super) fn new(class: Class, position: Position, message: impl Into<String>) -> Self {
        let message = shortened(&message.into(), MESSAGE_CHARS_MAX);
        Self { class, message, line: position.line, column: position.column }
    }
}

/// A value in quotation marks, shortened if it is long.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", shortened(value, QUOTE_CHARS_MAX))
}

fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
