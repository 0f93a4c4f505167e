//! Controls on a telnet connection: breaks, line settings, modem lines, window
//! sizes. Each is a small sequence of sending and waiting, driven by the line; a
//! peer that never answers (ser2net, asked for DTR on a pty) ends it after
//! `limits::CONTROL_TIMEOUT`, and a break that has begun is ended whatever comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep, sleep_until};

use super::{
    super::{Control, ControlError},
    com_port::{Answer, Client, ComPort},
    telnet::Telnet,
};
use crate::{
    limits,
    wire::{
        Payload,
        rfc2217::Control as Port,
        telnet::{self, Role, SendError, Side, TelnetOption},
    },
};

/// A control that is being done.
pub(super) struct Asked {
    step: Step,
    timer: Pin<Box<Sleep>>,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The peer may still agree to RFC 2217.
    Agreeing,
    /// What was said must get out; then this.
    Sending(Then),
    /// The line is in the break state.
    Holding,
    /// An answer must come.
    Answer,
}

/// What follows the sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Done,
    /// A break of so long.
    Hold(Duration),
    Await,
}

type Outcome = Result<(), ControlError>;

impl Telnet {
    /// Does the next of what `control` needs.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>, control: &Control) -> Poll<Outcome> {
        let by = self.agree_by;
        let mut asked = self
            .asked
            .take()
            .unwrap_or_else(|| Asked { step: Step::Agreeing, timer: Box::pin(sleep_until(by)) });
        let outcome = self.pursue(cx, control, &mut asked);
        if outcome.is_pending() {
            self.asked = Some(asked);
        }
        outcome
    }

    fn pursue(
        &mut self,
        cx: &mut Context<'_>,
        control: &Control,
        asked: &mut Asked,
    ) -> Poll<Outcome> {
        loop {
            match asked.step {
                Step::Agreeing => {
                    if self.may_still_agree(control) {
                        ready!(asked.timer.as_mut().poll(cx));
                    }
                    asked.step = Step::Sending(self.begin(control)?);
                    asked.wait(limits::CONTROL_TIMEOUT);
                }
                Step::Sending(then) => match self.poll_drain(cx) {
                    Poll::Ready(Ok(())) => match then {
                        Then::Done => return Poll::Ready(Ok(())),
                        Then::Hold(duration) => {
                            asked.step = Step::Holding;
                            asked.wait(duration);
                        }
                        Then::Await => asked.step = Step::Answer,
                    },
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(ControlError::NotConnected)),
                    Poll::Pending => {
                        ready!(asked.timer.as_mut().poll(cx));
                        if let Then::Hold(_) = then {
                            self.end_break().ok();
                        }
                        let why = "the far side does not take it; it gets it when it reads on";
                        return Poll::Ready(Err(ControlError::Failed(why.into())));
                    }
                },
                Step::Holding => {
                    ready!(asked.timer.as_mut().poll(cx));
                    // There is room: what began it has got out.
                    self.end_break().map_err(not_sent)?;
                    asked.step = Step::Sending(Then::Done);
                    asked.wait(limits::CONTROL_TIMEOUT);
                }
                Step::Answer => {
                    let answer = self.answer(control);
                    if answer == Answer::Awaited {
                        ready!(asked.timer.as_mut().poll(cx));
                    }
                    return Poll::Ready(match answer {
                        Answer::Granted => Ok(()),
                        Answer::Refused => Err(ControlError::Failed(self.refusal(control))),
                        Answer::Awaited => {
                            let within = limits::CONTROL_TIMEOUT;
                            let why =
                                format!("the far side has not confirmed it within {within:?}");
                            Err(ControlError::Failed(why))
                        }
                    });
                }
            }
        }
    }

    /// Whether the peer, which was asked for RFC 2217, has not answered yet.
    fn may_still_agree(&self, control: &Control) -> bool {
        let needs = !matches!(control, Control::Window(_));
        needs
            && self.com_port.is_used()
            && !self.telnet.com_port_is_on()
            && !self.telnet.com_port_is_refused()
    }

    /// Says the first of it.
    fn begin(&mut self, control: &Control) -> Result<Then, ControlError> {
        match *control {
            Control::Break(duration) => self.begin_break(duration),
            Control::LineSettings(settings) => {
                let messages = self.port()?.set(settings);
                self.say(messages)?;
                Ok(Then::Await)
            }
            Control::ModemLines { dtr, rts } => {
                let messages = self.port()?.set_lines(dtr, rts);
                self.say(messages)?;
                Ok(Then::Await)
            }
            Control::Window(window) => {
                let why = match self.role {
                    Role::Server => "window sizes to set: the far side has the terminal",
                    Role::Client => "window sizes: the far side has not asked for them",
                };
                let size = telnet::WindowSize { rows: window.rows, columns: window.columns };
                // Kept for a peer that asks later.
                self.telnet.set_window(size).map_err(|full| not_sent(full.into()))?;
                if self.role == Role::Client
                    && self.telnet.is_on(Side::Us, TelnetOption::WindowSize)
                {
                    Ok(Then::Done)
                } else {
                    Err(ControlError::Unsupported(why))
                }
            }
        }
    }

    /// A break on the serial line of a peer that has one; the break key
    /// otherwise.
    fn begin_break(&mut self, duration: Duration) -> Result<Then, ControlError> {
        let told = match &self.com_port {
            ComPort::Client(_) if self.telnet.com_port_is_on() => {
                self.say([Client::break_message(Port::BreakOn)])?;
                return Ok(Then::Hold(duration));
            }
            ComPort::Server(server) if self.telnet.com_port_is_on() => server.break_message(),
            ComPort::Off | ComPort::Client(_) | ComPort::Server(_) => None,
        };
        match told {
            Some(message) => self.say([message])?,
            None => self.telnet.send_break().map_err(|full| not_sent(full.into()))?,
        }
        Ok(Then::Done)
    }

    fn end_break(&mut self) -> Result<(), SendError> {
        self.telnet.send_com_port(&Client::break_message(Port::BreakOff))
    }

    /// The far side's port, or why it cannot be set.
    fn port(&mut self) -> Result<&mut Client, ControlError> {
        let is_on = self.telnet.com_port_is_on();
        match &mut self.com_port {
            ComPort::Client(client) if is_on => Ok(client),
            ComPort::Client(_) => Err(ControlError::Unsupported(
                "serial port that can be set: the far side has not agreed to RFC 2217",
            )),
            ComPort::Off => Err(ControlError::Unsupported(
                "serial port that can be set: spec.tcp.com_port is off",
            )),
            ComPort::Server(_) => {
                Err(ControlError::Unsupported("serial port that can be set: the far side sets it"))
            }
        }
    }

    fn say(&mut self, messages: impl IntoIterator<Item = Payload>) -> Result<(), ControlError> {
        for message in messages {
            self.telnet.send_com_port(&message).map_err(not_sent)?;
        }
        Ok(())
    }

    fn answer(&self, control: &Control) -> Answer {
        match (&self.com_port, control) {
            (ComPort::Client(client), Control::LineSettings(settings)) => {
                client.settings_are(*settings)
            }
            (ComPort::Client(client), Control::ModemLines { dtr, rts }) => {
                client.lines_are(*dtr, *rts)
            }
            (_, _) => Answer::Granted,
        }
    }

    fn refusal(&self, control: &Control) -> String {
        match (control, self.com_port.line_settings()) {
            (Control::LineSettings(_), Some(settings)) => {
                format!("the far side has set its line to {settings} instead")
            }
            (_, _) => "the far side has refused it".to_owned(),
        }
    }
}

impl Asked {
    fn wait(&mut self, duration: Duration) {
        self.timer = Box::pin(sleep(duration));
    }
}

fn not_sent(error: SendError) -> ControlError {
    ControlError::Failed(error.to_string())
}
