//! `watch`: devices as they are, then every change.
//!
//! A thing of its own because it outlives its connections: it resumes by
//! revision, and if the server no longer knows that, lists again and works out
//! what changed, so that a reader sees one story. Bound: it remembers the names
//! of the devices that it has shown.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
};

use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{
    connect::Server,
    exit::{Exit, Failure, on_stdout},
    get::names,
    json::Schema,
    retry::{Backoff, Verdict},
    select::Selection,
    table::{endpoint, id},
    text::{or_dash, state},
};
use crate::pb::{Device, WatchDevicesRequest, WatchDevicesResponse, watch_devices_response::Event};

/// What `watch` is told.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The word "devices" and names; without names, all devices
    #[arg(value_name = "devices | NAME")]
    words: Vec<String>,
    /// The form to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    selection: Selection,
}

/// How `watch` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// EVENT NAME STATE NEXT-OFFSET ATTACHED ENDPOINT LAST-ERROR
    Table,
    /// One event of the API a line, in proto3 JSON
    Json,
}

pub(super) async fn run(server: &Server, args: WatchArgs) -> Result<(), Failure> {
    let names = names(&args.words)?;
    let mut story =
        Story { names: names.iter().map(|id| id.resource_name()).collect(), ..Story::default() };
    let schema = Schema::new()?;
    let filter = args.selection.filter();
    let mut backoff = Backoff::default();
    let mut has_begun = false;
    loop {
        let request =
            WatchDevicesRequest { filter: filter.clone(), revision: story.revision.clone() };
        let mut show = |event: &WatchDevicesResponse| show(&schema, args.output, event);
        let watched = watch(server, request, &mut story, &mut backoff, &mut show).await;
        let failure = match watched {
            Err(Stop::ListAgain) => {
                tell("changes were missed; listing again");
                story.list_again();
                continue;
            }
            Err(Stop::Failed(Verdict::Again(failure))) => failure,
            Err(Stop::Failed(Verdict::Hopeless(failure))) => return Err(failure),
            Ok(()) => Failure::new(Exit::Unreachable, "the server has closed the stream"),
        };
        let was_connected = backoff.was_connected();
        has_begun |= was_connected;
        if !has_begun {
            return Err(failure);
        }
        if was_connected {
            tell("connection lost; trying again");
        }
        sleep(backoff.next(Instant::now())).await;
    }
}

/// Why a watch is over.
enum Stop {
    /// The server no longer knows the revision.
    ListAgain,
    Failed(Verdict),
}

impl<E: Into<Verdict>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One call, to its end.
async fn watch(
    server: &Server,
    request: WatchDevicesRequest,
    story: &mut Story,
    backoff: &mut Backoff,
    show: &mut impl FnMut(&WatchDevicesResponse) -> Result<(), Failure>,
) -> Result<(), Stop> {
    let resumes = !request.revision.is_empty();
    let gone = |status: tonic::Status| {
        if resumes && status.code() == Code::OutOfRange { Stop::ListAgain } else { status.into() }
    };
    let mut client = server.devices().await?;
    let responses = client.watch_devices(request).await.map_err(gone)?;
    let mut responses = responses.into_inner();
    backoff.connected(Instant::now());
    while let Some(response) = responses.message().await.map_err(gone)? {
        for event in story.take(response) {
            show(&event)?;
        }
    }
    Ok(())
}

/// What was shown so far, and what of that a new list has not confirmed.
#[derive(Debug, Default)]
struct Story {
    /// Only these; all if empty.
    names: BTreeSet<String>,
    revision: String,
    shown: BTreeSet<String>,
    /// Shown before the list that is being read; gone if it does not have them.
    unconfirmed: BTreeSet<String>,
}

impl Story {
    /// The next events are a list, of devices that may have been shown.
    fn list_again(&mut self) {
        self.revision.clear();
        self.unconfirmed = self.shown.clone();
    }

    /// The events to show for one of the server's.
    fn take(&mut self, mut response: WatchDevicesResponse) -> Vec<WatchDevicesResponse> {
        if !response.revision.is_empty() {
            self.revision.clone_from(&response.revision);
        }
        let name = response.device.as_ref().map(|d| d.name.clone());
        let name = name.unwrap_or_default();
        match response.event() {
            Event::Added | Event::Modified => {
                self.unconfirmed.remove(&name);
                if self.is_wanted(&name) {
                    let event =
                        if self.shown.insert(name) { Event::Added } else { Event::Modified };
                    response.set_event(event);
                    return vec![response];
                }
            }
            Event::Deleted => {
                self.unconfirmed.remove(&name);
                if self.shown.remove(&name) {
                    return vec![response];
                }
            }
            // The list is complete.
            Event::Bookmark => {
                let gone = std::mem::take(&mut self.unconfirmed);
                let deleted = gone.into_iter().map(|name| {
                    self.shown.remove(&name);
                    WatchDevicesResponse {
                        event: Event::Deleted.into(),
                        device: Some(Device { name, ..Device::default() }),
                        revision: response.revision.clone(),
                    }
                });
                return deleted.collect();
            }
            Event::Unspecified => {}
        }
        Vec::new()
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(name)
    }
}

fn show(schema: &Schema, format: Format, event: &WatchDevicesResponse) -> Result<(), Failure> {
    let line = match format {
        Format::Json => {
            let message = schema.encode("WatchDevicesResponse", event)?;
            serde_json::to_string(&message).map_err(io::Error::from)
        }
        Format::Table => Ok(row(event)),
    };
    let mut out = io::stdout().lock();
    line.and_then(|line| writeln!(out, "{line}")).and_then(|()| out.flush()).map_err(on_stdout)
}

/// One line; the widths fit what is usual, because what comes is not known.
fn row(event: &WatchDevicesResponse) -> String {
    let name = event.event().as_str_name();
    let name = name.strip_prefix("EVENT_").unwrap_or(name);
    let device = event.device.clone().unwrap_or_default();
    let status = device.status.clone().unwrap_or_default();
    let state = state(status.state);
    let next_offset = status.journal.as_ref().map_or(0, |j| j.next_offset);
    let attached = status.attachment_count;
    let (id, endpoint) = (id(&device), endpoint(&device));
    let error = or_dash(&status.last_error);
    format!(
        "{name:8}  {id:20}  {state:9}  {next_offset:>10}  {attached:>3}  {endpoint:22}  {error}"
    )
}

fn tell(text: &str) {
    writeln!(io::stderr(), "[lineman: {text}]").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: Event, name: &str) -> WatchDevicesResponse {
        let device = Device { name: name.to_owned(), ..Device::default() };
        WatchDevicesResponse {
            event: event.into(),
            device: (event != Event::Bookmark).then_some(device),
            revision: format!("after {name}"),
        }
    }

    fn taken(story: &mut Story, kind: Event, name: &str) -> Vec<(Event, String)> {
        let events = story.take(event(kind, name));
        let told = |e: WatchDevicesResponse| (e.event(), e.device.unwrap_or_default().name);
        events.into_iter().map(told).collect()
    }

    #[test]
    fn a_second_list_tells_only_what_changed() {
        let mut story = Story::default();
        taken(&mut story, Event::Added, "a");
        taken(&mut story, Event::Added, "b");
        assert_eq!(taken(&mut story, Event::Bookmark, ""), []);
        assert_eq!(story.revision, "after ");
        story.list_again();
        assert!(story.revision.is_empty());
        let told = |event, name: &str| vec![(event, name.to_owned())];
        let modified = taken(&mut story, Event::Added, "b");
        assert_eq!(modified, told(Event::Modified, "b"));
        let added = taken(&mut story, Event::Added, "c");
        assert_eq!(added, told(Event::Added, "c"));
        let deleted = taken(&mut story, Event::Bookmark, "");
        assert_eq!(deleted, told(Event::Deleted, "a"));
        assert_eq!(taken(&mut story, Event::Bookmark, ""), []);
    }

    #[test]
    fn only_the_devices_named_are_shown() {
        let mut story = Story { names: ["a".to_owned()].into(), ..Story::default() };
        assert_eq!(taken(&mut story, Event::Added, "b"), []);
        assert_eq!(taken(&mut story, Event::Deleted, "b"), []);
        assert_eq!(taken(&mut story, Event::Added, "a").len(), 1);
    }
}
