//! Blocking work on one thing, off the runtime's workers: one piece of work at a
//! time, in the order in which it was asked for, whoever shares the thing.
//!
//! Who waits for a turn waits without a thread, so a disk that hangs takes one
//! thread for each thing, and `limits::FILE_THREADS_MAX` in all.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
};

use super::{BoxFuture, Error};

/// The way to something that blocks. Clones lead to the same thing.
#[derive(Debug)]
pub(super) struct Offload<W> {
    what: Arc<Mutex<W>>,
    threads: Arc<Semaphore>,
}

impl<W> Clone for Offload<W> {
    fn clone(&self) -> Self {
        Self { what: self.what.clone(), threads: self.threads.clone() }
    }
}

impl<W: Send + 'static> Offload<W> {
    pub(super) fn new(what: W, threads: Arc<Semaphore>) -> Self {
        Self::shared(Arc::new(Mutex::new(what)), threads)
    }

    /// For something that others use too.
    pub(super) fn shared(what: Arc<Mutex<W>>, threads: Arc<Semaphore>) -> Self {
        Self { what, threads }
    }

    /// Does `work` in its turn. Work that has begun is done to its end, also
    /// when the future is dropped; work that has not is then not done.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut W) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (what, threads) = (self.what.clone(), self.threads.clone());
        Box::pin(async move {
            let mut what = what.lock_owned().await;
            let thread = threads.acquire_owned().await;
            let done = spawn_blocking(move || {
                let _thread = thread;
                work(&mut what)
            });
            done.await.map_err(|_| Error::Broken(io::Error::other("the work was given up")))?
        })
    }
}

/// Work that a link has under way for bytes that it was offered.
#[derive(Default)]
pub(super) struct Underway<T> {
    work: Option<(usize, BoxFuture<'static, Result<T, Error>>)>,
}

impl<T> Underway<T> {
    /// Nothing.
    pub(super) fn none() -> Self {
        Self { work: None }
    }

    /// Begins work for so many of the bytes; only when there is none.
    pub(super) fn begin(&mut self, bytes: usize, work: BoxFuture<'static, Result<T, Error>>) {
        self.work = Some((bytes, work));
    }

    /// For how many bytes there is work; `None` if there is none at all.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.work.as_ref().map(|(bytes, _)| *bytes)
    }

    /// What the work gave; at once `None` if there is none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        let Some((_, work)) = &mut self.work else { return Poll::Ready(None) };
        let result = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(Some(result))
    }
}

impl<T> std::fmt::Debug for Underway<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Underway").field(&self.bytes()).finish()
    }
}
