//! The gRPC surface: turns messages into calls of the fleet and the lines, and
//! answers and errors back. Decides nothing about devices itself.
//!
//! Nothing outside this room builds a `tonic::Status`. Every handler begins with
//! [`authorize`], before it looks whether a device exists (AIP-211).
//!
//! `DeviceService` is served by generated code. `ConsoleService`'s streams carry
//! frames that are shared by all attachers and are written to HTTP/2 as they
//! are, so its calls are routed by hand in `console_service`.

mod attach;
mod authorize;
mod body;
mod console_service;
mod control;
mod convert;
mod device_service;
mod domain_xml;
mod field_mask;
mod filter;
mod page;
mod position;
mod read;
mod router;
mod schema;
mod status;
mod text;
mod watch;
mod wire;
mod write_input;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::schema::Schema;
pub use self::{router::router, wire::output_header};
use crate::{auth::Auth, fleet::Fleet, limits, telemetry::Metrics};

/// What every handler works with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fleet: Arc<Fleet>,
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
    schema: Schema,
    attachments: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Api {
    /// The API of a fleet. `stop` ends watches and reads.
    pub fn new(
        fleet: Arc<Fleet>,
        auth: Arc<Auth>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<Self, prost_reflect::DescriptorError> {
        let inner = Inner {
            fleet,
            auth,
            metrics,
            schema: Schema::new()?,
            attachments: Arc::new(Semaphore::new(limits::ATTACHMENTS_MAX)),
            watches: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            stop,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}
