//! A lane: a short queue of operations of one kind, with threads of its own. When a service hangs, its lane refuses new operations
//! and the other lanes keep their threads. Repetitions go first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::operation_log::{Kind, Operation, Verdict};

/// An operation without a definite answer yet.
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
    /// The next operation begins when the previous one has a definite answer.
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
    /// A lane for this many threads.
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

    /// Schedules a repetition.
    pub fn again(&self, mut job: Job, verdict: Verdict) {
        job.due = Instant::now() + pause(job.attempts, verdict);
        self.lock().again.push(job);
        self.changed.notify_one();
    }

    /// Waits for the next operation; `None` at the end.
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

    /// Drops new operations; only repetitions go on.
    pub fn drain(&self) {
        let mut waiting = self.lock();
        waiting.draining = true;
        waiting.new.clear();
        self.changed.notify_all();
    }

    /// Ends the repetitions, too.
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

/// Threads of a lane. Each product has a lane of its own.
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
