//! A lane: operations of one kind that wait for a thread. It has little room, so that a service that hangs makes its own
//! lane refuse new ones and takes no thread from the others. What has to be asked again goes first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ledger::{Kind, Operation, Verdict};

/// An operation on its way to a definite answer.
pub struct Job {
    pub operation: Operation,
    /// Attempts so far.
    pub attempts: u32,
    /// An attempt had an unknown outcome.
    pub unknown: bool,
    due: Instant,
}

pub struct Lane {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    room: usize,
    /// One after the other: the next one begins when the last one has a definite answer.
    serial: bool,
}

#[derive(Default)]
struct Waiting {
    new: VecDeque<Operation>,
    again: Vec<Job>,
    draining: bool,
    gone: bool,
}

impl Lane {
    /// For `threads` at once.
    pub fn new(threads: usize) -> Lane {
        let room = 2 * threads;
        Lane { waiting: Mutex::default(), changed: Condvar::new(), room, serial: threads == 1 }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` if there is no room.
    pub fn offer(&self, operation: Operation) -> bool {
        let mut waiting = self.lock();
        if waiting.new.len() >= self.room || waiting.draining {
            return false;
        }
        waiting.new.push_back(operation);
        self.changed.notify_one();
        true
    }

    /// To be asked again after a while.
    pub fn again(&self, mut job: Job, verdict: Verdict) {
        job.due = Instant::now() + pause(job.attempts, verdict);
        self.lock().again.push(job);
        self.changed.notify_one();
    }

    /// The next one; `None` when nothing more will come.
    pub fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.gone || (waiting.draining && waiting.again.is_empty()) {
                return None;
            }
            let now = Instant::now();
            if let Some(at) = waiting.again.iter().position(|job| job.due <= now) {
                return Some(waiting.again.swap_remove(at));
            }
            if (!self.serial || waiting.again.is_empty())
                && let Some(operation) = waiting.new.pop_front()
            {
                return Some(Job { operation, attempts: 0, unknown: false, due: now });
            }
            let soonest = waiting.again.iter().map(|job| job.due - now).min();
            let wait = soonest.unwrap_or(Duration::from_secs(1));
            waiting = self.changed.wait_timeout(waiting, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nothing new from now on: only what has no definite answer yet.
    pub fn drain(&self) {
        let mut waiting = self.lock();
        waiting.draining = true;
        waiting.new.clear();
        self.changed.notify_all();
    }

    /// Not even that: what has no answer now gets none.
    pub fn abandon(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }
}

fn pause(attempts: u32, verdict: Verdict) -> Duration {
    match verdict {
        // The lease of a key lasts for half a minute.
        Verdict::Wait => Duration::from_secs(2),
        _ => Duration::from_millis(250 << attempts.saturating_sub(1).min(4)),
    }
}

/// Kinds that share a lane have its threads in common. Products have a lane each.
pub fn threads(kind: Kind) -> usize {
    match kind {
        Kind::Click => 12,
        Kind::Register | Kind::Pay | Kind::Order => 6,
        Kind::Report => 4,
        Kind::Invalid => 3,
        Kind::Update | Kind::CreateProduct => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::plan;

    fn take(lane: &Lane) -> Job {
        let mut job = lane.next().unwrap();
        job.attempts += 1;
        job
    }

    #[test]
    fn a_full_lane_refuses_and_a_drained_one_ends_when_the_last_repetition_is_answered() {
        let lane = Lane::new(2);
        let taken: Vec<bool> = (0..5).map(|id| lane.offer(plan::update(id, 1))).collect();
        assert_eq!(taken, [true, true, true, true, false]);
        let job = take(&lane);
        lane.drain();
        assert!(!lane.offer(plan::update(9, 1)));
        lane.again(job, Verdict::Unknown);
        let job = take(&lane);
        assert_eq!((job.operation.id, job.attempts), (0, 2));
        assert!(lane.next().is_none());
    }

    #[test]
    fn updates_of_one_product_wait_for_the_definite_answer_of_the_one_before() {
        let lane = Lane::new(1);
        assert!(lane.offer(plan::update(1, 1)) && lane.offer(plan::update(2, 1)));
        let job = take(&lane);
        lane.again(job, Verdict::Refused);
        let order: Vec<u64> = [take(&lane), take(&lane)].iter().map(|job| job.operation.id).collect();
        assert_eq!(order, [1, 2]);
    }
}
