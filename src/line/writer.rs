//! The write lock: who may send input. Pure, so that each rule is a test.
//!
//! Either nobody holds it, or one attachment alone, or several that share it. A
//! queue of those that wait is kept in the order in which they came; an observer
//! is never promoted unless it asked to wait.

use std::collections::VecDeque;

/// Names an attachment of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(pub u64);

/// What an attacher wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only watch; gives up the lock or the place in the queue.
    Observe,
    /// Write if nobody does.
    Write,
    /// Write when those before have gone.
    Wait,
    /// Write now, whoever does.
    Force,
    /// Write together with others of this mode.
    Shared,
}

/// The write lock.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WriteLock {
    holders: Vec<AttachmentId>,
    exclusive: bool,
    queue: VecDeque<AttachmentId>,
}

impl WriteLock {
    /// Those who may write.
    pub fn holders(&self) -> &[AttachmentId] {
        &self.holders
    }

    /// Whether `id` may write.
    pub fn may_write(&self, id: AttachmentId) -> bool {
        self.holders.contains(&id)
    }

    /// The place of `id` in the queue, from 1.
    pub fn queue_position(&self, id: AttachmentId) -> Option<usize> {
        self.queue.iter().position(|waiting| *waiting == id).map(|at| at + 1)
    }

    /// Applies what `id` wants. Returns those that lost the lock by force.
    pub fn claim(&mut self, id: AttachmentId, mode: Mode) -> Vec<AttachmentId> {
        match mode {
            Mode::Observe => self.release(id),
            Mode::Write => {
                if self.is_free_for(id) {
                    self.take(id);
                }
            }
            Mode::Wait => {
                let first = self.queue.front().is_none_or(|first| *first == id);
                if first && self.is_free_for(id) {
                    self.take(id);
                } else if !self.may_write(id) && !self.queue.contains(&id) {
                    self.queue.push_back(id);
                }
            }
            Mode::Force => {
                let bumped = self.holders.iter().copied().filter(|other| *other != id).collect();
                self.take(id);
                return bumped;
            }
            Mode::Shared => {
                if self.is_free_for(id) || !self.exclusive {
                    self.queue.retain(|waiting| *waiting != id);
                    self.holders.retain(|other| *other != id);
                    self.holders.push(id);
                    self.exclusive = false;
                }
            }
        }
        Vec::new()
    }

    /// `id` no longer writes or waits: it asked so, or it is gone.
    pub fn release(&mut self, id: AttachmentId) {
        self.queue.retain(|waiting| *waiting != id);
        self.holders.retain(|holder| *holder != id);
        if self.holders.is_empty()
            && let Some(next) = self.queue.pop_front()
        {
            self.take(next);
        }
    }

    fn is_free_for(&self, id: AttachmentId) -> bool {
        self.holders.iter().all(|holder| *holder == id)
    }

    fn take(&mut self, id: AttachmentId) {
        self.queue.retain(|waiting| *waiting != id);
        self.holders.clear();
        self.holders.push(id);
        self.exclusive = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: AttachmentId = AttachmentId(1);
    const B: AttachmentId = AttachmentId(2);
    const C: AttachmentId = AttachmentId(3);

    fn lock(claims: &[(AttachmentId, Mode)]) -> WriteLock {
        let mut lock = WriteLock::default();
        for (id, mode) in claims {
            lock.claim(*id, *mode);
        }
        lock
    }

    #[test]
    fn one_writes_and_the_next_observes() {
        let lock = lock(&[(A, Mode::Write), (B, Mode::Write)]);
        assert_eq!(lock.holders(), [A]);
        assert_eq!(lock.queue_position(B), None);
    }

    #[test]
    fn those_who_wait_come_in_order_and_observers_never() {
        let mut lock =
            lock(&[(A, Mode::Write), (B, Mode::Write), (C, Mode::Wait), (B, Mode::Wait)]);
        assert_eq!((lock.queue_position(C), lock.queue_position(B)), (Some(1), Some(2)));
        lock.release(A);
        assert_eq!(lock.holders(), [C]);
        lock.release(C);
        assert_eq!(lock.holders(), [B]);
        lock.claim(B, Mode::Observe);
        assert!(lock.holders().is_empty());
    }

    #[test]
    fn force_tells_whom_it_bumped_and_does_not_queue_them() {
        let mut lock = lock(&[(A, Mode::Shared), (B, Mode::Shared)]);
        assert_eq!(lock.claim(C, Mode::Force), [A, B]);
        assert_eq!(lock.holders(), [C]);
        assert_eq!(lock.claim(C, Mode::Force), []);
        lock.release(C);
        assert!(lock.holders().is_empty());
    }

    #[test]
    fn sharing_is_among_those_who_share() {
        assert_eq!(lock(&[(A, Mode::Shared), (B, Mode::Shared)]).holders(), [A, B]);
        assert_eq!(lock(&[(A, Mode::Write), (B, Mode::Shared)]).holders(), [A]);
        assert_eq!(lock(&[(A, Mode::Shared), (B, Mode::Write)]).holders(), [A]);
        // One who writes alone may begin to share.
        assert_eq!(
            lock(&[(A, Mode::Write), (A, Mode::Shared), (B, Mode::Shared)]).holders(),
            [A, B]
        );
    }

    proptest! {
        #[test]
        fn never_two_writers_unless_they_share(
            steps in prop::collection::vec((0u64..4, 0usize..6), 0..60)
        ) {
            let mut lock = WriteLock::default();
            let modes = [Mode::Observe, Mode::Write, Mode::Wait, Mode::Force, Mode::Shared];
            for (id, step) in steps {
                match modes.get(step) {
                    Some(mode) => drop(lock.claim(AttachmentId(id), *mode)),
                    None => lock.release(AttachmentId(id)),
                }
                prop_assert!(lock.holders.len() <= 1 || !lock.exclusive);
                prop_assert!(!lock.holders.is_empty() || lock.queue.is_empty(), "nobody waits for nobody");
                for id in &lock.holders {
                    prop_assert!(!lock.queue.contains(id));
                }
            }
        }
    }
}
