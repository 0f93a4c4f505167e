//! `delete`, `start` and `stop`: one verb for each of the devices named.
//!
//! A thing of its own because the three are the same loop: every name is tried,
//! what was done is told at once, and the failures come at the end.

use std::io::{self, Write};

use clap::Args;

use super::{
    connect::{Devices, Server},
    exit::{Failure, on_stdout},
    get::{join, names},
};
use crate::{
    name::DeviceId,
    pb::{DeleteDeviceRequest, StartDeviceRequest, StopDeviceRequest},
};

/// What `delete`, `start` and `stop` are told.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The devices
    #[arg(value_name = "NAME", required = true)]
    words: Vec<String>,
}

/// What to do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Delete,
    Start,
    Stop,
}

pub(super) async fn run(server: &Server, verb: Verb, args: ChangeArgs) -> Result<(), Failure> {
    let names = names(&args.words)?;
    let mut client = server.devices().await?;
    let mut failures = Vec::new();
    for id in names {
        match change(&mut client, verb, &id).await {
            Ok(done) => {
                let name = id.resource_name();
                writeln!(io::stdout(), "{name} {done}").map_err(on_stdout)?;
            }
            Err(status) => failures.push(Failure::from(status).of(id)),
        }
    }
    join(failures).map_or(Ok(()), Err)
}

async fn change(
    client: &mut Devices,
    verb: Verb,
    id: &DeviceId,
) -> Result<&'static str, tonic::Status> {
    let name = id.resource_name();
    // No etag: whoever names a device to stop means it as it is now.
    let etag = String::new();
    match verb {
        Verb::Delete => {
            let request = DeleteDeviceRequest { name, etag };
            client.delete_device(request).await?;
            Ok("deleted")
        }
        Verb::Start => {
            let request = StartDeviceRequest { name, etag };
            client.start_device(request).await?;
            Ok("started")
        }
        Verb::Stop => {
            let request = StopDeviceRequest { name, etag };
            client.stop_device(request).await?;
            Ok("stopped")
        }
    }
}
