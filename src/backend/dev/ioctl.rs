//! What a serial driver is asked that no crate wraps safely: modem lines, the
//! break state, counts of errors, what waits to be sent, who holds the port.
//!
//! The only `unsafe` of the program, and why it is one: `ioctl` writes through a
//! pointer whose size only the request's number tells. Each function here pairs
//! one number (ioctl_tty(2), the kernel's `asm/ioctls.h`) with the type that the
//! kernel reads or writes for it, and takes a descriptor that stays open for the
//! length of the call. On a descriptor that is no terminal, or whose driver
//! knows no such thing, the kernel answers with an error and writes nothing.
//!
//! Any of these may wait for a USB adapter, `hold_break` for all output to be
//! sent: never call them on a thread that polls.
#![expect(unsafe_code, reason = "ioctls without a safe wrapper; see the module's doc")]

use std::{ffi::c_int, fs::File, io};

use nix::libc;
use rustix::{
    io::Errno,
    ioctl::{Getter, NoArg, Opcode, Setter, ioctl},
};

use crate::device::ModemLines;

/// The kernel's bits of our modem lines.
const LINES: [(c_int, ModemLines); 6] = [
    (libc::TIOCM_DTR, ModemLines::DTR),
    (libc::TIOCM_RTS, ModemLines::RTS),
    (libc::TIOCM_CTS, ModemLines::CTS),
    (libc::TIOCM_DSR, ModemLines::DSR),
    (libc::TIOCM_RI, ModemLines::RI),
    (libc::TIOCM_CD, ModemLines::CD),
];

/// The kernel's request numbers have 32 bits; libc's type is wider.
macro_rules! opcode {
    ($name:ident) => {{
        #[expect(
            clippy::cast_possible_truncation,
            reason = "request numbers of Linux have 32 bits, whatever libc's type for them"
        )]
        const OPCODE: Opcode = libc::$name as Opcode;
        OPCODE
    }};
}

const GET_LINES: Opcode = opcode!(TIOCMGET);
const LINES_ON: Opcode = opcode!(TIOCMBIS);
const LINES_OFF: Opcode = opcode!(TIOCMBIC);
const BREAK_ON: Opcode = opcode!(TIOCSBRK);
const BREAK_OFF: Opcode = opcode!(TIOCCBRK);
const GET_COUNTS: Opcode = opcode!(TIOCGICOUNT);
const GET_UNSENT: Opcode = opcode!(TIOCOUTQ);
const GET_EXCLUSIVE: Opcode = opcode!(TIOCGEXCL);

/// What a driver has counted since the machine was started
/// (`serial_icounter_struct` of `linux/serial.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Characters whose stop bit was missing: a wrong speed, or noise.
    pub(super) frame: u32,
    /// Characters with a wrong check bit.
    pub(super) parity: u32,
    /// Times that the hardware, or the driver's buffer, had no room: each one
    /// character or more.
    pub(super) overruns: u32,
}

/// The modem lines; `None` where the port has none, as a pty.
pub(super) fn modem_lines(port: &File) -> io::Result<Option<ModemLines>> {
    // SAFETY: TIOCMGET writes one int.
    let bits = unless_missing(unsafe { ioctl(port, Getter::<GET_LINES, c_int>::new()) })?;
    Ok(bits.map(lines_of))
}

/// Turns our own lines on and off. What both name is off.
pub(super) fn set_modem_lines(port: &File, on: ModemLines, off: ModemLines) -> io::Result<()> {
    if on != ModemLines::NONE {
        // SAFETY: TIOCMBIS reads one int.
        unsafe { ioctl(port, Setter::<LINES_ON, c_int>::new(bits_of(on))) }?;
    }
    if off != ModemLines::NONE {
        // SAFETY: TIOCMBIC reads one int.
        unsafe { ioctl(port, Setter::<LINES_OFF, c_int>::new(bits_of(off))) }?;
    }
    Ok(())
}

/// Begins the break state, once everything that was written is sent. A driver
/// that has no breaks, such as that of ptys, says that it did it.
pub(super) fn hold_break(port: &File) -> io::Result<()> {
    // SAFETY: TIOCSBRK has no argument.
    Ok(unsafe { ioctl(port, NoArg::<BREAK_ON>::new()) }?)
}

/// Ends the break state.
pub(super) fn end_break(port: &File) -> io::Result<()> {
    // SAFETY: TIOCCBRK has no argument.
    Ok(unsafe { ioctl(port, NoArg::<BREAK_OFF>::new()) }?)
}

/// What the driver has counted; `None` where it does not count.
pub(super) fn counts(port: &File) -> io::Result<Option<Counts>> {
    // cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun and
    // nine reserved.
    // SAFETY: TIOCGICOUNT writes these twenty ints.
    let counts = unless_missing(unsafe { ioctl(port, Getter::<GET_COUNTS, [c_int; 20]>::new()) })?;
    Ok(counts.map(|counts| {
        let [_, _, _, _, _, _, frame, overrun, parity, _, buffer, ..] =
            counts.map(c_int::cast_unsigned);
        Counts { frame, parity, overruns: overrun.wrapping_add(buffer) }
    }))
}

/// Bytes that were written and are not sent yet.
pub(super) fn unsent(port: &File) -> io::Result<usize> {
    // SAFETY: TIOCOUTQ writes one int.
    let bytes = unsafe { ioctl(port, Getter::<GET_UNSENT, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether somebody has said that nobody else may open it (`TIOCEXCL`). The
/// kernel lets a privileged server in all the same, so it has to ask.
pub(super) fn is_exclusive(port: &File) -> io::Result<bool> {
    // SAFETY: TIOCGEXCL writes one int.
    Ok(unsafe { ioctl(port, Getter::<GET_EXCLUSIVE, c_int>::new()) }? != 0)
}

/// Whether an error says that the port knows no such thing: ENOTTY of the
/// terminal layer, EINVAL of older ones and of some drivers.
pub(super) fn is_missing(error: &io::Error) -> bool {
    let missing = [Errno::NOTTY, Errno::INVAL];
    missing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn unless_missing<T>(answer: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match answer.map_err(io::Error::from) {
        Err(error) if is_missing(&error) => Ok(None),
        answer => answer.map(Some),
    }
}

fn lines_of(bits: c_int) -> ModemLines {
    let on = LINES.iter().filter(|(bit, _)| bits & bit != 0);
    on.fold(ModemLines::NONE, |lines, (_, line)| lines | *line)
}

fn bits_of(lines: ModemLines) -> c_int {
    LINES.iter().filter(|(_, line)| lines.contains(*line)).fold(0, |bits, (bit, _)| bits | bit)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::ioctl_tiocexcl;

    use super::*;

    /// Both ends of a pty.
    fn pty() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave: OwnedFd = ioctl_tiocgptpeer(&master, flags).unwrap();
        (master.into(), slave.into())
    }

    #[test]
    fn lines_are_those_of_the_kernel_and_back() {
        let all = [0, 2, 4, 6, 0x20, 0x40, 0x80, 0x100, 0x1e6];
        for bits in all {
            assert_eq!(bits_of(lines_of(bits)), bits);
        }
        assert_eq!(lines_of(0x6), ModemLines::DTR | ModemLines::RTS);
        assert_eq!(lines_of(0x40), ModemLines::CD);
        assert_eq!(lines_of(0x1 | 0x8 | 0x10), ModemLines::NONE, "lines that we do not know");
    }

    #[test]
    fn a_pty_says_that_it_has_no_such_things() {
        let (_master, slave) = pty();
        assert_eq!(modem_lines(&slave).unwrap(), None);
        assert_eq!(counts(&slave).unwrap(), None);
        let set = set_modem_lines(&slave, ModemLines::DTR, ModemLines::NONE);
        assert!(is_missing(&set.unwrap_err()));
        let set = set_modem_lines(&slave, ModemLines::NONE, ModemLines::RTS);
        assert!(is_missing(&set.unwrap_err()));
    }

    #[test]
    fn what_waits_and_who_holds_it_is_told_of_a_pty_too() {
        let (_master, slave) = pty();
        assert_eq!(unsent(&slave).unwrap(), 0);
        assert!(!is_exclusive(&slave).unwrap());
        ioctl_tiocexcl(&slave).unwrap();
        assert!(is_exclusive(&slave).unwrap());
    }

    #[test]
    fn what_is_no_terminal_is_not_written_to() {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(modem_lines(&null).unwrap(), None);
        assert_eq!(counts(&null).unwrap(), None);
        assert!(unsent(&null).is_err() && is_exclusive(&null).is_err());
    }
}
