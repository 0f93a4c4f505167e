//! Waiting: for a condition, with a deadline that only a broken server meets.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Far beyond what anything takes, also on a slow and busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// The future's output, or a panic that says what did not come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("no {what} within {DEADLINE:?}"),
    }
}

/// Looks until the condition gives something.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    until_async(what, async || condition()).await
}

/// Looks until the condition gives something.
pub(crate) async fn until_async<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut look = tokio::time::interval(LOOK);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {DEADLINE:?}");
        look.tick().await;
    }
}
