//! Bytes that come from somewhere, gathered by a thread so that a test can wait
//! for them with a deadline, whatever blocks.

use std::{
    fs::File,
    io::Read,
    sync::{Arc, Mutex},
    thread,
};

use super::until;

/// What came so far. Waiting is like reading: what was waited for once is past.
pub(crate) struct Gathered {
    what: String,
    bytes: Arc<Mutex<Vec<u8>>>,
    /// What a test has waited for ends here.
    past: usize,
}

impl Gathered {
    /// Gathers until the end, or until nobody is interested any more.
    pub(crate) fn from(what: &str, mut source: File) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::downgrade(&bytes);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            // A terminal whose other side is gone ends with an error.
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                let Some(bytes) = gathered.upgrade() else { return };
                bytes.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { what: what.into(), bytes, past: 0 }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Waits for `text` after what was waited for before; returns what came
    /// between.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let what = format!("{text:?} from {}", self.what);
        let (between, past) = until(&what, || {
            let bytes = self.bytes.lock().unwrap();
            let rest = &bytes[self.past..];
            let at = rest.windows(text.len()).position(|window| window == text.as_bytes())?;
            Some((String::from_utf8_lossy(&rest[..at]).into_owned(), self.past + at + text.len()))
        })
        .await;
        self.past = past;
        between
    }

    /// Waits until so many bytes came, and returns them.
    pub(crate) async fn until_len(&self, len: usize) -> Vec<u8> {
        let what = format!("{len} bytes from {}", self.what);
        until(&what, || (self.bytes.lock().unwrap().len() >= len).then_some(())).await;
        self.bytes()
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if thread::panicking() {
            let bytes = self.bytes();
            let from = bytes.len().saturating_sub(2000);
            let end = String::from_utf8_lossy(&bytes[from..]);
            eprintln!("--- {} ends with:\n{end:?}", self.what);
        }
    }
}
