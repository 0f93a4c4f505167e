//! The `dev` host interface: a port of this host, serial or parallel.
//!
//! Opened by path each time, so that an adapter which was pulled out and put
//! back is found again by its link in `/dev/serial/by-id`, whatever node it got.
//! `Allow::open_device` checks the very descriptor that is used; a library that
//! opens a path itself (tokio-serial, serialport) would look it up once more,
//! after the check. Those also drain in `poll_flush`, which stops a worker for as
//! long as the far side holds us back. So the port is used through termios here
//! (`settings`), and the few requests that have no safe wrapper are in `ioctl`.
//!
//! Opening a port raises DTR and RTS, as every opening on Linux does; closing it
//! leaves them unless `hangup_on_close` is on. The carrier is not looked at.
//! A hang-up, an end of file and EIO all mean that the port is gone: the link is
//! lost, and opened again after the back-off.

mod ioctl;
mod marks;
mod port;
mod printer;
mod serial;
mod settings;

use std::{fs::File, io, os::unix::fs::MetadataExt, sync::Arc};

use rustix::fs::{OFlags, major};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use self::{port::Port, printer::Printer, serial::Serial};
use super::{Allow, Backend, BoxFuture, Error, Kind, Link, OpenError, Place, Role};
use crate::{
    device::{DevKind, DevSpec},
    limits,
};

/// Device numbers (Linux, Documentation/admin-guide/devices.txt).
const PRINTER_MAJOR: u32 = 6;
const RAW_PARALLEL_MAJOR: u32 = 99;

/// A port.
#[derive(Debug)]
pub(super) struct Dev {
    spec: DevSpec,
    allow: Arc<Allow>,
    /// A driver that never comes back from opening holds one thread, not one for
    /// each attempt.
    opening: Arc<Semaphore>,
}

/// What was opened.
enum Opened {
    Serial(Port, port::Known),
    Printer(File),
}

impl Dev {
    pub(super) fn new(spec: DevSpec, allow: Arc<Allow>) -> Self {
        Self { spec, allow, opening: Arc::new(Semaphore::new(1)) }
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let failed = |source| OpenError::Io { path: self.spec.path.clone(), source };
        let opened = async {
            let alone = self.opening.clone().acquire_owned().await;
            let (spec, allow) = (self.spec.clone(), self.allow.clone());
            let opening = spawn_blocking(move || {
                let opened = match spec.kind {
                    DevKind::Serial => {
                        Port::open(&allow, &spec).map(|(port, known)| Opened::Serial(port, known))
                    }
                    DevKind::Parallel => open_printer(&allow, &spec).map(Opened::Printer),
                };
                drop(alone);
                opened
            });
            opening.await.map_err(|gone| failed(io::Error::other(gone)))?
        };
        let opened = timeout(limits::OPEN_TIMEOUT, opened).await;
        match opened.map_err(|_| Error::TimedOut(limits::OPEN_TIMEOUT))?? {
            Opened::Serial(port, known) => {
                let serial = Serial::new(port, known, port::on_close(&self.spec));
                Ok(Box::new(serial.map_err(failed)?))
            }
            Opened::Printer(file) => Ok(Box::new(Printer::new(file))),
        }
    }
}

impl Backend for Dev {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.connect())
    }
}

/// What a character device is, by its number: nothing here is a terminal, or it
/// would have said so itself.
fn kind_of(number: u64) -> Kind {
    if major(number) == PRINTER_MAJOR { Kind::Printer } else { Kind::CharacterDevice }
}

/// Opens a printer port. Blocks.
fn open_printer(allow: &Allow, spec: &DevSpec) -> Result<File, Error> {
    let path = || spec.path.clone();
    let file = File::from(allow.open_device(&spec.path, OFlags::WRONLY)?);
    let failed = |source| OpenError::Io { path: path(), source };
    let number = file.metadata().map_err(failed)?.rdev();
    match major(number) {
        PRINTER_MAJOR => Ok(file),
        RAW_PARALLEL_MAJOR => Err(Error::RawParallel { path: path() }),
        _ => {
            let is_terminal = rustix::termios::isatty(&file);
            let found = if is_terminal { Kind::Terminal } else { kind_of(number) };
            Err(OpenError::Kind { path: path(), found, wanted: Kind::Printer }.into())
        }
    }
}

#[cfg(test)]
mod tests;
