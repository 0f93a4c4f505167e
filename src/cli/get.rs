//! `get` and `describe`: devices as tables, JSON, YAML, or prose for people.
//!
//! A thing of its own because this is all that reads devices. What `-o yaml`
//! prints is what `apply` takes.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::{Args, ValueEnum};
use prost_reflect::DynamicMessage;

use super::{
    connect::{Devices, Server},
    exit::{Exit, Failure, on_stdout},
    json::Schema,
    select::{Selection, after_verb},
    table::{Width, of_devices},
};
use crate::{
    name::DeviceId,
    pb::{Device, GetDeviceRequest, ListDevicesRequest, ListDevicesResponse},
};

/// Devices asked for at once; an answer of full ones stays far below what the
/// connection takes as one message.
const PAGE_SIZE: i32 = 500;

/// What `get` is told.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The word "devices" and names; without names, all devices
    #[arg(value_name = "devices | NAME")]
    words: Vec<String>,
    /// The form to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    selection: Selection,
}

/// How `get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One line a device
    Table,
    /// The table with writer, labels and last error
    Wide,
    /// proto3 JSON: the device if one NAME was given, else {"devices": […]}
    Json,
    /// YAML, one document a device, as `apply` takes it
    Yaml,
    /// devices/NAME, one a line
    Name,
}

/// What `describe` is told.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The device
    #[arg(value_name = "NAME", required = true)]
    words: Vec<String>,
}

pub(super) async fn get(server: &Server, args: GetArgs) -> Result<(), Failure> {
    let names = names(&args.words)?;
    if !names.is_empty() && !args.selection.is_empty() {
        let message = "a selector or filter cannot be given together with names";
        return Err(Failure::new(Exit::Invalid, message));
    }
    let mut client = server.devices().await?;
    let (devices, missing) = if names.is_empty() {
        (list(&mut client, &args.selection.filter()).await?, None)
    } else {
        by_name(&mut client, &names).await
    };
    let asked = if names.len() == 1 { Asked::One } else { Asked::Several };
    if !(devices.is_empty() && missing.is_some()) {
        let mut out = io::stdout().lock();
        print(&mut out, devices, args.output, asked)?;
        out.flush().map_err(on_stdout)?;
    }
    missing.map_or(Ok(()), Err)
}

pub(super) async fn describe(server: &Server, args: DescribeArgs) -> Result<(), Failure> {
    let names = names(&args.words)?;
    let mut client = server.devices().await?;
    let (devices, missing) = by_name(&mut client, &names).await;
    let mut out = io::stdout().lock();
    let now = SystemTime::now();
    for (index, device) in devices.iter().enumerate() {
        if index > 0 {
            writeln!(out).map_err(on_stdout)?;
        }
        super::describe::write(&mut out, device, now).map_err(on_stdout)?;
    }
    out.flush().map_err(on_stdout)?;
    missing.map_or(Ok(()), Err)
}

/// The names after a verb, or the failure to tell.
pub(super) fn names(words: &[String]) -> Result<Vec<DeviceId>, Failure> {
    after_verb(words).map_err(|(word, error)| {
        Failure::new(Exit::Invalid, format!("{word:?} is not the name of a device: it {error}"))
    })
}

/// All devices that match, in the order of their names.
pub(super) async fn list(client: &mut Devices, filter: &str) -> Result<Vec<Device>, Failure> {
    let mut devices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListDevicesRequest { page_size: PAGE_SIZE, page_token, filter: filter.to_owned() };
        let page = client.list_devices(request).await?.into_inner();
        devices.extend(page.devices);
        if page.next_page_token.is_empty() {
            return Ok(devices);
        }
        page_token = page.next_page_token;
    }
}

/// Those of the devices that exist, and the failures of the others as one.
async fn by_name(client: &mut Devices, names: &[DeviceId]) -> (Vec<Device>, Option<Failure>) {
    let mut devices = Vec::new();
    let mut failures = Vec::new();
    for id in names {
        let name = id.resource_name();
        match client.get_device(GetDeviceRequest { name }).await {
            Ok(response) => devices.push(response.into_inner()),
            Err(status) => failures.push(Failure::from(status).of(id)),
        }
    }
    (devices, join(failures))
}

/// Several failures as one, with the code of the first.
pub(super) fn join(failures: Vec<Failure>) -> Option<Failure> {
    let exit = failures.first()?.exit;
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Some(Failure::new(exit, lines.join("\n")))
}

/// What was asked for decides the shape of JSON: one thing or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    One,
    Several,
}

fn print(
    out: &mut impl Write,
    devices: Vec<Device>,
    format: Format,
    asked: Asked,
) -> Result<(), Failure> {
    let now = SystemTime::now();
    let schema = Schema::new()?;
    match format {
        Format::Table => of_devices(&devices, Width::Normal, now).write(out),
        Format::Wide => of_devices(&devices, Width::Wide, now).write(out),
        Format::Name => devices.iter().try_for_each(|d| writeln!(out, "{}", d.name)),
        Format::Yaml => {
            for (index, device) in devices.iter().enumerate() {
                let text = yaml(&schema.encode("Device", device)?)?;
                let separator = if index > 0 { "---\n" } else { "" };
                write!(out, "{separator}{text}").map_err(on_stdout)?;
            }
            Ok(())
        }
        Format::Json => {
            let message = match (asked, devices.as_slice()) {
                (Asked::One, [device]) => schema.encode("Device", device)?,
                (Asked::One | Asked::Several, _) => {
                    let next_page_token = String::new();
                    let list = ListDevicesResponse { devices, next_page_token };
                    schema.encode("ListDevicesResponse", &list)?
                }
            };
            serde_json::to_writer_pretty(&mut *out, &message)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        }
    }
    .map_err(on_stdout)
}

fn yaml(message: &DynamicMessage) -> Result<String, Failure> {
    serde_yaml_ng::to_string(message).map_err(|error| {
        let message = format!("cannot write YAML: {error}");
        Failure::new(Exit::Failed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::DeviceSpec;

    fn printed(devices: &[&str], format: Format, asked: Asked) -> String {
        let device = |name: &&str| Device {
            name: format!("devices/{name}"),
            spec: Some(DeviceSpec::default()),
            ..Device::default()
        };
        let mut out = Vec::new();
        let devices = devices.iter().map(device).collect();
        print(&mut out, devices, format, asked).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_device_is_itself_and_several_are_a_list() {
        let one = "{\n  \"name\": \"devices/a\",\n  \"spec\": {}\n}\n";
        assert_eq!(printed(&["a"], Format::Json, Asked::One), one);
        let list = printed(&["a"], Format::Json, Asked::Several);
        assert!(list.starts_with("{\n  \"devices\": ["), "{list}");
        let yaml = printed(&["a", "b"], Format::Yaml, Asked::Several);
        assert_eq!(yaml, "name: devices/a\nspec: {}\n---\nname: devices/b\nspec: {}\n");
    }
}
