//! An open parallel printer port (Linux `lp`) as a link: it takes input, and
//! there is no output.
//!
//! The driver cannot be polled, so a piece at a time is offered to it on a
//! thread; a printer that is off or has no paper says "later" (`O_NONBLOCK`), and
//! is asked again at an interval, only while input waits. What a printer answers
//! (IEEE 1284) comes only while somebody asks for it, which would need a timer
//! for every idle port; it is not read.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, task::spawn_blocking, time::sleep};

use super::super::{BoxFuture, Error, Link, Read};
use crate::{device::Facts, limits};

/// Bytes offered at once: a page of `lp`'s own buffer.
const PIECE_BYTES: usize = 4096;

/// An open printer port.
pub(super) struct Printer {
    file: Arc<File>,
    job: Option<Job>,
}

/// A piece that is being written.
struct Job {
    len: usize,
    written: BoxFuture<'static, io::Result<usize>>,
}

impl Printer {
    pub(super) fn new(file: File) -> Self {
        Self { file: Arc::new(file), job: None }
    }
}

impl Link for Printer {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let job = self.job.get_or_insert_with(|| {
            let piece: Arc<[u8]> = data[..data.len().min(PIECE_BYTES)].into();
            Job { len: piece.len(), written: Box::pin(write(self.file.clone(), piece)) }
        });
        let result = ready!(job.written.as_mut().poll(cx));
        self.job = None;
        match result {
            Ok(0) => Poll::Ready(Err(Error::Broken(io::ErrorKind::WriteZero.into()))),
            result => Poll::Ready(result.map_err(Error::Broken)),
        }
    }

    fn in_flight(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.len)
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// Writes the front of a piece, however long the printer is not ready.
async fn write(file: Arc<File>, piece: Arc<[u8]>) -> io::Result<usize> {
    loop {
        let (file, piece) = (file.clone(), piece.clone());
        let result = spawn_blocking(move || file.as_ref().write(&piece)).await;
        match result.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(limits::PRINTER_RETRY).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Read as _, os::fd::OwnedFd};

    use super::*;

    /// Something that says "later" when it is full, as a printer that is off.
    fn narrow() -> (File, Printer) {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        (OwnedFd::from(reader).into(), Printer::new(OwnedFd::from(writer).into()))
    }

    #[tokio::test]
    async fn what_a_printer_does_not_take_yet_waits_and_arrives_whole() {
        let (mut reader, mut printer) = narrow();
        let input: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut sent, mut got, mut waited) = (0, Vec::new(), false);
        while sent < input.len() {
            let write = poll_fn(|cx| match printer.poll_write(cx, &input[sent..]) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => Poll::Pending,
            });
            match tokio::time::timeout(limits::PRINTER_RETRY * 2, write).await {
                Ok(result) => sent += result.unwrap().unwrap(),
                Err(_full) => {
                    waited = true;
                    assert_eq!(printer.in_flight(), PIECE_BYTES.min(input.len() - sent));
                    // Paper.
                    let mut piece = vec![0; 65_536];
                    let n = reader.read(&mut piece).unwrap();
                    got.extend_from_slice(&piece[..n]);
                }
            }
        }
        drop(printer);
        let _end = reader.read_to_end(&mut got);
        assert!(waited && got == input);
    }
}
