//! One attacher: what it saw, and where it would resume.

use lineman::pb::{self, AttachMode, attach_request, attach_response, input, journal_position};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Client, soon};

/// An open Attach call, read message by message.
pub(crate) struct Attacher {
    requests: mpsc::Sender<pb::AttachRequest>,
    responses: Streaming<pb::AttachResponse>,
    pub(crate) started: pb::Started,
    /// Output seen, from `started.offset` on.
    pub(crate) seen: Vec<u8>,
    pub(crate) gaps: Vec<pb::Gap>,
    pub(crate) next_offset: u64,
    pub(crate) ack: pb::InputAck,
    pub(crate) writer: pb::WriterState,
    pub(crate) state: pb::LinkState,
    pub(crate) ended: Option<pb::Ended>,
}

/// The first message of an attachment that begins at an offset.
pub(crate) fn start(id: &str, mode: AttachMode, at: journal_position::At) -> pb::AttachStart {
    pb::AttachStart {
        device: format!("devices/{id}"),
        mode: mode.into(),
        from: Some(pb::JournalPosition { at: Some(at) }),
        ..Default::default()
    }
}

impl Attacher {
    pub(crate) async fn new(client: &mut Client, id: &str, mode: AttachMode, offset: u64) -> Self {
        let at = journal_position::At::Offset(offset);
        Self::open(client, start(id, mode, at)).await.unwrap()
    }

    pub(crate) async fn open(client: &mut Client, start: pb::AttachStart) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let start = pb::AttachRequest { message: Some(attach_request::Message::Start(start)) };
        requests.send(start).await.unwrap();
        let call = client.console.attach(ReceiverStream::new(receiver));
        let mut responses = soon("answer to attach", call).await?.into_inner();
        let first = soon("started", responses.message()).await?.unwrap().message.unwrap();
        let attach_response::Message::Started(started) = first else { panic!("{first:?}") };
        Ok(Self {
            requests,
            responses,
            seen: Vec::new(),
            gaps: Vec::new(),
            next_offset: started.offset,
            ack: pb::InputAck::default(),
            writer: started.writer.clone().unwrap(),
            state: started.state.clone().unwrap(),
            ended: None,
            started,
        })
    }

    /// Takes in one message; false at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<bool, Status> {
        let Some(response) = soon("message", self.responses.message()).await? else {
            return Ok(false);
        };
        match response.message.expect("a message that this client knows") {
            attach_response::Message::Started(_) => panic!("started twice"),
            attach_response::Message::Output(output) => {
                assert_eq!(output.offset, self.next_offset, "output goes on where it ended");
                assert!(output.receive_time.is_some());
                self.next_offset += output.data.len() as u64;
                self.seen.extend_from_slice(&output.data);
            }
            attach_response::Message::Gap(gap) => {
                assert_eq!(gap.from_offset, self.next_offset, "a gap begins where output ended");
                assert!(gap.to_offset > gap.from_offset);
                self.next_offset = gap.to_offset;
                self.gaps.push(gap);
            }
            attach_response::Message::InputAck(ack) => self.ack = ack,
            attach_response::Message::State(state) => self.state = state,
            attach_response::Message::Writer(writer) => self.writer = writer,
            attach_response::Message::Ended(ended) => self.ended = Some(ended),
        }
        Ok(true)
    }

    /// Reads until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        soon(what, async {
            while !condition(self) {
                assert!(self.next().await.unwrap(), "the stream ended before {what}");
            }
        })
        .await;
    }

    /// Reads until `text` was seen after the first `from` bytes.
    pub(crate) async fn until_seen(&mut self, text: &str, from: usize) {
        let text = text.as_bytes();
        self.until(&format!("output {:?}", String::from_utf8_lossy(text)), |attacher| {
            attacher.seen[from.min(attacher.seen.len())..]
                .windows(text.len())
                .any(|window| window == text)
        })
        .await;
    }

    /// Reads until the output reaches `offset`.
    pub(crate) async fn until_offset(&mut self, offset: u64) {
        self.until(&format!("offset {offset}"), |attacher| attacher.next_offset >= offset).await;
    }

    /// Reads until nothing more comes because the call ended.
    pub(crate) async fn drain(&mut self) -> Result<(), Status> {
        while self.next().await? {}
        Ok(())
    }

    pub(crate) async fn send(&self, message: attach_request::Message) {
        let request = pb::AttachRequest { message: Some(message) };
        soon("room for a request", self.requests.send(request)).await.unwrap();
    }

    pub(crate) async fn type_bytes(&self, offset: Option<u64>, data: &[u8]) {
        let payload = Some(input::Payload::Data(data.to_vec().into()));
        self.send(attach_request::Message::Input(pb::Input { payload, offset })).await;
    }

    pub(crate) async fn type_text(&self, text: &str) {
        self.type_bytes(None, text.as_bytes()).await;
    }

    /// Says that no more input comes; output goes on.
    pub(crate) fn half_close(&mut self) {
        self.requests = mpsc::channel(1).0;
    }

    pub(crate) async fn claim(&self, mode: AttachMode) {
        self.send(attach_request::Message::Writer(pb::WriterRequest { mode: mode.into() })).await;
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}
