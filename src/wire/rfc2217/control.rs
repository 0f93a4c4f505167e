//! The twenty values of SET-CONTROL: flow control, break, DTR and RTS in one
//! message (RFC 2217 section 3).

use crate::device::FlowControl;

/// What SET-CONTROL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Which flow control is used?
    AskFlow,
    /// This flow control, both ways.
    Flow(FlowControl),
    /// Is there a break?
    AskBreak,
    /// Begin a break.
    BreakOn,
    /// End it.
    BreakOff,
    /// Is DTR asserted?
    AskDtr,
    /// Assert DTR.
    DtrOn,
    /// Drop DTR.
    DtrOff,
    /// Is RTS asserted?
    AskRts,
    /// Assert RTS.
    RtsOn,
    /// Drop RTS.
    RtsOff,
    /// Which flow control holds up what comes in?
    AskInboundFlow,
    /// This flow control for what comes in.
    InboundFlow(FlowControl),
    /// Flow control by other lines (17 DCD, 18 DTR, 19 DSR), or a number that
    /// the RFC does not define.
    Other(u8),
}

impl Control {
    pub(super) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::AskFlow,
            1 => Self::Flow(FlowControl::None),
            2 => Self::Flow(FlowControl::Software),
            3 => Self::Flow(FlowControl::Hardware),
            4 => Self::AskBreak,
            5 => Self::BreakOn,
            6 => Self::BreakOff,
            7 => Self::AskDtr,
            8 => Self::DtrOn,
            9 => Self::DtrOff,
            10 => Self::AskRts,
            11 => Self::RtsOn,
            12 => Self::RtsOff,
            13 => Self::AskInboundFlow,
            14 => Self::InboundFlow(FlowControl::None),
            15 => Self::InboundFlow(FlowControl::Software),
            16 => Self::InboundFlow(FlowControl::Hardware),
            other => Self::Other(other),
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::AskFlow => 0,
            Self::Flow(FlowControl::None) => 1,
            Self::Flow(FlowControl::Software) => 2,
            Self::Flow(FlowControl::Hardware) => 3,
            Self::AskBreak => 4,
            Self::BreakOn => 5,
            Self::BreakOff => 6,
            Self::AskDtr => 7,
            Self::DtrOn => 8,
            Self::DtrOff => 9,
            Self::AskRts => 10,
            Self::RtsOn => 11,
            Self::RtsOff => 12,
            Self::AskInboundFlow => 13,
            Self::InboundFlow(FlowControl::None) => 14,
            Self::InboundFlow(FlowControl::Software) => 15,
            Self::InboundFlow(FlowControl::Hardware) => 16,
            Self::Other(other) => other,
        }
    }
}
