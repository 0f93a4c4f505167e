//! The store's one thread: takes the changes that wait and commits them
//! together, so that a thousand creates a second need far fewer waits for the
//! disk.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::{Change, Conflict, Error, Revision, Store};
use crate::{limits, telemetry::Metrics};

type Answer = oneshot::Sender<Result<Result<Revision, Conflict>, Error>>;

/// What the thread is sent.
#[expect(clippy::large_enum_variant, reason = "the small one is sent once")]
#[derive(Debug)]
enum Message {
    /// A change and whom to tell.
    Change(Change, Answer),
    /// End, after everything before.
    Close,
}

/// The way to a store; cheap to clone. The store closes when all are dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    changes: mpsc::Sender<Message>,
}

/// Starts the thread of a store.
pub fn spawn(
    mut store: Box<dyn Store>,
    metrics: Arc<Metrics>,
) -> Result<(Handle, thread::JoinHandle<()>), Error> {
    let (changes, mut waiting) = mpsc::channel::<Message>(limits::STORE_QUEUE);
    let run = move || {
        let mut batch = Vec::new();
        while waiting.blocking_recv_many(&mut batch, limits::STORE_QUEUE) > 0 {
            let (mut changes, mut answers) = (Vec::new(), Vec::new());
            let mut closing = false;
            for message in batch.drain(..) {
                match message {
                    Message::Change(change, answer) => {
                        changes.push(change);
                        answers.push(answer);
                    }
                    Message::Close => closing = true,
                }
            }
            match store.commit(&changes) {
                Ok(results) => {
                    metrics.store_commits.inc();
                    // A caller that gave up does not hear what became of it.
                    for (answer, result) in answers.into_iter().zip(results) {
                        answer.send(Ok(result)).ok();
                    }
                }
                Err(error) => {
                    metrics.store_errors.inc();
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the store could not commit"
                    );
                    for answer in answers {
                        answer.send(Err(Error::Commit)).ok();
                    }
                }
            }
            if closing {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("store".into()).spawn(run).map_err(Error::Thread)?;
    Ok((Handle { changes }, thread))
}

impl Handle {
    /// Makes a change durable.
    pub async fn commit(&self, change: Change) -> Result<Result<Revision, Conflict>, Error> {
        let (answer, result) = oneshot::channel();
        let message = Message::Change(change, answer);
        self.changes.send(message).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Ends the thread once everything before is committed, whoever still holds
    /// a handle.
    pub async fn close(&self) {
        self.changes.send(Message::Close).await.ok();
    }
}
