//! What a line is asked to do: attach, claim the right to write, send input,
//! follow a new spec; and what follows when attachers leave.

use std::sync::Arc;

use super::{
    super::{
        AttachmentId, Command, Error, Joined, Mode, Piece, Refusal, SharedProgress, Urgency,
        Writers,
    },
    Attached, Connected, Interrupt, Line,
    controls::Asked,
};
use crate::{
    backend::ControlError,
    device::{Counters, DeviceSpec, RunState, Sharing},
    limits,
};

impl Line {
    pub(super) fn on_command(
        &mut self,
        command: Command,
        connected: Connected,
    ) -> Option<Interrupt> {
        // Who left before this command was sent has left.
        let gone = self.shared.departures.take_now();
        if !gone.is_empty() {
            self.on_departures(gone);
        }
        match command {
            Command::Attach { name, mode, answer } => {
                // An answer that nobody takes leaves by itself.
                answer.send(self.attach(name, mode)).ok();
            }
            Command::Claim { id, mode, answer } => {
                answer.send(self.claim(id, mode)).ok();
            }
            Command::Input(piece) => self.on_input(piece, connected),
            Command::DropInput { id, answer } => {
                self.input.drop_from(Some(id));
                answer.send(()).ok();
            }
            Command::Control { id, control, answer } => {
                if !self.lock.may_write(id) {
                    answer.send(Err(Error::NotWriter)).ok();
                } else if connected == Connected::No {
                    answer.send(Err(ControlError::NotConnected.into())).ok();
                } else {
                    self.controls.push(Asked::Control(control), answer);
                }
            }
            Command::Look { answer } if connected == Connected::No => {
                answer.send(Err(ControlError::NotConnected.into())).ok();
            }
            Command::Look { answer } => self.controls.push(Asked::Look, answer),
            Command::Reconfigure { spec, revision, urgency } => {
                // Two updates may come in the other order.
                if revision >= self.revision {
                    self.revision = revision;
                    return self.reconfigure(*spec, urgency);
                }
            }
        }
        None
    }

    fn attach(&mut self, name: String, mode: Mode) -> Result<Joined, Error> {
        if self.attachments.len() >= limits::DEVICE_ATTACHMENTS_MAX {
            return Err(Error::AttachmentLimit);
        }
        self.check_sharing(mode)?;
        let id = AttachmentId(self.next_attachment);
        self.next_attachment += 1;
        let progress = Arc::<SharedProgress>::default();
        self.attachments.insert(id, Attached { name });
        self.apply_claim(id, mode);
        self.tell_writers();
        Ok(Joined { id, progress, shared: self.shared.clone() })
    }

    fn claim(&mut self, id: AttachmentId, mode: Mode) -> Result<(), Error> {
        self.check_sharing(mode)?;
        // A ghost must not write.
        if self.attachments.contains_key(&id) {
            self.apply_claim(id, mode);
            self.tell_writers();
        }
        Ok(())
    }

    fn check_sharing(&self, mode: Mode) -> Result<(), Error> {
        if mode == Mode::Shared && self.spec.input.sharing == Sharing::Exclusive {
            return Err(Error::SharingDisabled);
        }
        Ok(())
    }

    fn apply_claim(&mut self, id: AttachmentId, mode: Mode) {
        self.bumped.retain(|(bumped, _)| *bumped != id);
        let by =
            self.attachments.get(&id).map(|attached| attached.name.clone()).unwrap_or_default();
        for bumped in self.lock.claim(id, mode) {
            tracing::info!(device = %self.device.id, by, "the right to write was taken by force");
            self.bumped.push((bumped, by.clone()));
        }
    }

    pub(super) fn on_departures(&mut self, gone: Vec<AttachmentId>) {
        for id in gone {
            if self.attachments.remove(&id).is_none() {
                continue;
            }
            // Nobody hears any more whether it was written; a command must not
            // reach the device hours after who sent it has left.
            let dropped = self.input.drop_from(Some(id));
            self.count_dropped(dropped);
            self.lock.release(id);
            self.bumped.retain(|(bumped, _)| *bumped != id);
        }
        self.tell_writers();
    }

    pub(super) fn count_dropped(&self, bytes: u64) {
        Counters::add(&self.shared.counters.input_dropped_bytes, bytes);
        self.around.metrics.input_dropped_bytes.inc_by(bytes);
    }

    fn on_input(&mut self, piece: Piece, connected: Connected) {
        let progress = piece.progress.clone();
        let taken = if !self.lock.may_write(piece.from) {
            Err(Refusal::NotWriter)
        } else if connected == Connected::No {
            Err(Refusal::NotConnected)
        } else if connected == Connected::OutputOnly {
            Err(Refusal::NoInput)
        } else {
            self.input.push(piece)
        };
        if let Err(refusal) = taken {
            self.shared.refused_input(&progress, refusal);
        }
    }

    fn reconfigure(&mut self, spec: DeviceSpec, urgency: Urgency) -> Option<Interrupt> {
        let changed = spec.reopens(&self.spec);
        self.writer.journal().set_retention(spec.journal.retention_bytes());
        self.spec = spec;
        match self.spec.run_state {
            RunState::Running if !changed => self.follow_log(),
            // Done when the link is closed.
            RunState::Running | RunState::Stopped => {}
        }
        if changed || urgency == Urgency::Now {
            self.reconnect.reset();
        }
        if changed {
            Some(Interrupt::Changed)
        } else {
            (urgency == Urgency::Now).then_some(Interrupt::Now)
        }
    }

    fn tell_writers(&mut self) {
        let name =
            |id: &AttachmentId| self.attachments.get(id).map(|attached| attached.name.clone());
        let names: Vec<String> = self.lock.holders().iter().filter_map(name).collect();
        let writers =
            Writers { lock: self.lock.clone(), names: names.clone(), bumped: self.bumped.clone() };
        self.writers.send_if_modified(|seen| {
            let differs = **seen != writers;
            if differs {
                *seen = Arc::new(writers);
            }
            differs
        });
        let count = u32::try_from(self.attachments.len()).unwrap_or(u32::MAX);
        self.publish(|status| {
            status.attachment_count = count;
            status.writers = names;
        });
    }
}
