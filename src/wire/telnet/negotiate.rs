//! Which options are in use: the Q method of RFC 1143, one small state machine
//! for each option and side. It answers only what changes something, and
//! remembers what it asked, so that two sides never talk in circles.
//!
//! If the peer does not read and there is no room for an answer, the option in
//! question is off: never a state in which we use something that the peer could
//! not learn of.

use super::{
    ComPortUse, Config, Role,
    command::{Side, Switch, TelnetOption, Verb},
    outgoing::{Full, Outgoing},
};

/// The state of one option on one side (RFC 1143 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    No,
    Yes,
    /// We asked to end it and wait for the answer.
    WantNo(Then),
    /// We asked for it and wait for the answer.
    WantYes(Then),
}

/// What to do when the answer comes: RFC 1143's queue bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Rest,
    /// We have changed our mind meanwhile.
    Opposite,
}

/// What we say if the peer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Accept,
    Refuse,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    us: [State; TelnetOption::ALL.len()],
    them: [State; TelnetOption::ALL.len()],
    role: Role,
    config: Config,
}

impl Negotiation {
    pub(super) fn new(role: Role, config: Config) -> Self {
        Self { us: Default::default(), them: Default::default(), role, config }
    }

    /// Whether `side` uses an option now. What we asked the peer to end is in
    /// use until it agrees; what we ended is not from the moment we said so.
    pub(super) fn is_on(&self, side: Side, option: TelnetOption) -> bool {
        match (side, self.state(side, option)) {
            (_, State::Yes) | (Side::Them, State::WantNo(_)) => true,
            (_, State::No | State::WantYes(_)) | (Side::Us, State::WantNo(_)) => false,
        }
    }

    /// Whether neither side uses an option, nor waits for an answer about it.
    pub(super) fn is_at_rest(&self, option: TelnetOption) -> bool {
        [Side::Us, Side::Them].into_iter().all(|side| self.state(side, option) == State::No)
    }

    /// Asks for an option, or for its end.
    pub(super) fn want(
        &mut self,
        side: Side,
        option: TelnetOption,
        wish: Switch,
        outgoing: &mut Outgoing,
    ) -> Result<(), Full> {
        let (next, say) = wished(self.state(side, option), wish);
        if let Some(switch) = say {
            outgoing.push(&Verb::said(side, switch).bytes(option.code()))?;
        }
        *self.state_mut(side, option) = next;
        Ok(())
    }

    /// Takes a word of the peer and answers it. Tells what has changed.
    pub(super) fn hear(
        &mut self,
        verb: Verb,
        code: u8,
        outgoing: &mut Outgoing,
    ) -> Option<(Side, TelnetOption, Switch)> {
        let (side, switch) = verb.heard();
        let Some(option) = TelnetOption::from_code(code) else {
            // RFC 854: refuse what is not known, and do not answer a refusal.
            if switch == Switch::On {
                let refused = outgoing.push(&Verb::said(side, Switch::Off).bytes(code));
                outgoing.answer(refused).ok();
            }
            return None;
        };
        let before = self.is_on(side, option);
        let (mut next, say) = heard(self.state(side, option), switch, self.policy(side, option));
        if let Some(switch) = say {
            let said = outgoing.push(&Verb::said(side, switch).bytes(code));
            if outgoing.answer(said).is_err() {
                next = State::No;
            }
        }
        *self.state_mut(side, option) = next;
        match (before, self.is_on(side, option)) {
            (false, true) => Some((side, option, Switch::On)),
            (true, false) => Some((side, option, Switch::Off)),
            (false, false) | (true, true) => None,
        }
    }

    fn policy(&self, side: Side, option: TelnetOption) -> Policy {
        let accept = match (option, side) {
            (TelnetOption::Binary | TelnetOption::SuppressGoAhead, _) => true,
            // The server's side is where the device is, and that echoes. Two
            // that echo each other never end (RFC 857).
            (TelnetOption::Echo, Side::Us) => self.role == Role::Server,
            (TelnetOption::Echo, Side::Them) => self.role == Role::Client,
            // A line has as many terminals as attachers: no name to give.
            (TelnetOption::TerminalType, Side::Us) => false,
            (TelnetOption::WindowSize, Side::Us) => self.role == Role::Client,
            (TelnetOption::TerminalType | TelnetOption::WindowSize, Side::Them) => {
                self.role == Role::Server
            }
            (TelnetOption::ComPort, _) => self.config.com_port == ComPortUse::On,
        };
        if accept { Policy::Accept } else { Policy::Refuse }
    }

    fn state(&self, side: Side, option: TelnetOption) -> State {
        match side {
            Side::Us => self.us[option.index()],
            Side::Them => self.them[option.index()],
        }
    }

    fn state_mut(&mut self, side: Side, option: TelnetOption) -> &mut State {
        match side {
            Side::Us => &mut self.us[option.index()],
            Side::Them => &mut self.them[option.index()],
        }
    }
}

/// The peer has said `switch`: the next state and what to say.
fn heard(state: State, switch: Switch, policy: Policy) -> (State, Option<Switch>) {
    match (state, switch) {
        (State::No, Switch::On) => match policy {
            Policy::Accept => (State::Yes, Some(Switch::On)),
            Policy::Refuse => (State::No, Some(Switch::Off)),
        },
        (State::Yes, Switch::Off) => (State::No, Some(Switch::Off)),
        (State::Yes | State::WantYes(Then::Rest), Switch::On) => (State::Yes, None),
        (State::WantYes(Then::Opposite), Switch::On) => {
            (State::WantNo(Then::Rest), Some(Switch::Off))
        }
        // An end that is answered with a beginning is an error of the peer.
        (State::WantNo(Then::Rest), Switch::On) => (State::No, None),
        (State::WantNo(Then::Opposite), Switch::On) => (State::Yes, None),
        (State::WantNo(Then::Opposite), Switch::Off) => {
            (State::WantYes(Then::Rest), Some(Switch::On))
        }
        (State::No | State::WantNo(Then::Rest) | State::WantYes(_), Switch::Off) => {
            (State::No, None)
        }
    }
}

/// We wish for `switch`: the next state and what to say.
fn wished(state: State, switch: Switch) -> (State, Option<Switch>) {
    match (state, switch) {
        (State::No, Switch::On) => (State::WantYes(Then::Rest), Some(Switch::On)),
        (State::Yes, Switch::Off) => (State::WantNo(Then::Rest), Some(Switch::Off)),
        (State::WantNo(_), Switch::On) => (State::WantNo(Then::Opposite), None),
        (State::WantNo(_), Switch::Off) => (State::WantNo(Then::Rest), None),
        (State::WantYes(_), Switch::On) => (State::WantYes(Then::Rest), None),
        (State::WantYes(_), Switch::Off) => (State::WantYes(Then::Opposite), None),
        (State::No, Switch::Off) | (State::Yes, Switch::On) => (state, None),
    }
}
