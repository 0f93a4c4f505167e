//! The `null` host interface: takes input and throws it away, which the status
//! counts; has no output. For devices that are only there to be there.

use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::{Backend, BoxFuture, Error, Link, Place, Read, Role};
use crate::device::Facts;

/// Nothing, as a backend and as its link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Null;

impl Backend for Null {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(async { Ok(Box::new(Self) as Box<dyn Link>) })
    }
}

impl Link for Null {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        // For ever: nothing will ever wake the line for this.
        Poll::Pending
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        Poll::Ready(Ok(data.len()))
    }

    fn discards_input(&self) -> bool {
        true
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}
