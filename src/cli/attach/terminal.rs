//! The terminal in raw mode, and out of it again on every way.
//!
//! A thing of its own because a terminal left raw is unusable: it is put back
//! when this is dropped, which covers every return, failure and signal that is
//! waited for, and by a panic hook before the panic is told.

use std::{io, panic, sync::Arc};

use rustix::{
    stdio::stdin,
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};

/// Standard input, a terminal, in raw mode until this is dropped.
#[derive(Debug)]
pub(super) struct RawTerminal {
    found: Arc<Termios>,
}

impl RawTerminal {
    pub(super) fn enter() -> io::Result<Self> {
        let found = Arc::new(tcgetattr(stdin())?);
        let mut raw = found.as_ref().clone();
        raw.make_raw();
        let terminal = Self { found: Arc::clone(&found) };
        let told_before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore(&found);
            told_before(info);
        }));
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(&self.found);
    }
}

/// Does not wait for output to drain: a terminal that is stopped would keep the
/// program.
fn restore(found: &Termios) {
    // Whatever went wrong, the terminal is not ours any more.
    tcsetattr(stdin(), OptionalActions::Now, found).ok();
}
