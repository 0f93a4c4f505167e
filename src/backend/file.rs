//! The `file` host interface: what attachers send is appended to a file; there
//! is no output. Beside it [`LogFile`], the file of `spec.log`, which is written
//! by the same rules.
//!
//! Input is reported as written when write(2) has returned, never before, and
//! one write is under way at a time. A disk that is full, read-only or failing
//! is a lost link that says so: input is refused until the line's back-off finds
//! that there is room again (`Appender::ready`).

use std::{
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::{
    Backend, Begin, BoxFuture, Environment, Error, Link, Place, Read, Role,
    append::{Appender, Target},
    offload::{Offload, Underway},
};
use crate::{
    device::{Facts, FileSpec},
    limits,
};

/// A file that keeps the input.
#[derive(Debug)]
pub(super) struct File {
    file: Offload<Appender>,
}

impl File {
    pub(super) fn new(spec: &FileSpec, environment: &Environment) -> Self {
        let begin = Begin::at_start(spec.append);
        Self { file: appender(spec.path.clone(), begin, environment) }
    }
}

impl Backend for File {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(async {
            self.file.run(Appender::ready).await?;
            let link = FileLink { file: self.file.clone(), writing: Underway::none() };
            Ok(Box::new(link) as Box<dyn Link>)
        })
    }
}

/// The file, open.
#[derive(Debug)]
struct FileLink {
    file: Offload<Appender>,
    writing: Underway<usize>,
}

impl Link for FileLink {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        loop {
            if let Some(written) = ready!(self.writing.poll(cx)) {
                return Poll::Ready(written);
            }
            let data = data[..data.len().min(limits::FILE_WRITE_BYTES_MAX)].to_vec();
            let bytes = data.len();
            self.writing.begin(bytes, self.file.run(move |file| file.write(&data)));
        }
    }

    fn in_flight(&self) -> usize {
        self.writing.bytes().unwrap_or(0)
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// The file of `spec.log`; opened when it is first written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Offload<Appender>,
}

impl LogFile {
    /// The file at `path`.
    pub fn new(path: PathBuf, begin: Begin, environment: &Environment) -> Self {
        Self { path: path.clone(), file: appender(path, begin, environment) }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it, so that what is wrong with it is told before there is anything
    /// to write.
    pub fn open(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.file.run(|file| file.here().map(drop))
    }

    /// Appends from the front of `data`, which is not empty; at least a byte. A
    /// write that has begun is done, also when the future is dropped.
    pub fn write(&self, mut data: Bytes) -> BoxFuture<'static, Result<usize, Error>> {
        data.truncate(limits::FILE_WRITE_BYTES_MAX);
        self.file.run(move |file| file.write(&data))
    }
}

fn appender(path: PathBuf, begin: Begin, environment: &Environment) -> Offload<Appender> {
    let file = Appender::new(environment.allow.clone(), Target::Path(path), begin);
    Offload::new(file, environment.files.clone())
}
