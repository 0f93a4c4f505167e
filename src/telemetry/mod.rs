//! What the server tells about itself: metrics in the OpenMetrics text form and
//! the log. Level 0: every room may count, none may read.

mod log;
mod metrics;

pub use self::{
    log::{LogFormat, init as init_log},
    metrics::Metrics,
};
