//! Faults of queues: deletion, absence, unreadable messages, backlog.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contract::events::{RETRY_DELAYS, queues, retry_queue};

use super::{Impact, Nemesis, POLL};
use crate::proxy::Condition;
use crate::topology::{self, Link, Queue};
use stack::broker::Broker;
use stack::http;
use stack::metrics::sum;

const EMPTY_LIMIT: Duration = Duration::from_secs(16);
/// Seconds for which the writer is paused with work waiting, less than the broker takes to close its connection.
const PILE: f64 = 4.0;
/// Seconds for the writer to store the waiting work as events that it cannot send yet.
const BURST_AFTER: f64 = 1.5;
const DECLARE_LIMIT: Duration = Duration::from_secs(15);
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

impl Nemesis<'_> {
    fn broker(&self) -> Result<&dyn Broker> {
        self.broker.as_deref().with_context(|| format!("{} mode has no broker", self.stack.mode()))
    }

    /// Messages in these queues.
    fn messages(&self, queues: &[&str]) -> Result<u64> {
        let all = self.broker()?.queues()?;
        Ok(all.iter().filter(|queue| queues.contains(&queue.name.as_str())).map(|queue| queue.messages).sum())
    }

    /// Pauses the writer and waits until the queue is empty. Returns whether it is; the writer stays paused. Retry queues must be empty
    /// too, because their messages would return to a queue that is deleted.
    fn pause_writer_until_empty(&mut self, queue: Queue) -> Result<bool> {
        self.prober.down(queue.writer);
        self.stack.hold(queue.writer)?;
        let retries = RETRY_DELAYS.map(retry_queue);
        let names: Vec<&str> = retries.iter().map(String::as_str).chain([queue.name]).collect();
        let began = Instant::now();
        let mut empty_since = None;
        loop {
            if self.messages(&names)? > 0 {
                empty_since = None;
            } else if empty_since.get_or_insert_with(Instant::now).elapsed() > self.broker()?.count_lag() {
                return Ok(true);
            }
            if began.elapsed() > EMPTY_LIMIT {
                return Ok(false);
            }
            self.wait(0.2)?;
        }
    }

    fn resume(&mut self, service: &str) -> Result<()> {
        self.stack.resume(service)?;
        self.mark_up(service)
    }

    pub(super) fn missing_queue(&mut self, queue: Queue, seconds: f64) -> Result<Impact> {
        if !self.pause_writer_until_empty(queue)? {
            self.resume(queue.writer)?;
            return Ok(Impact::of("did not empty, so it was not deleted"));
        }
        self.wait(PILE)?;
        self.prober.down(queue.reader);
        self.stack.kill_service(queue.reader)?;
        self.broker()?.delete_queue(queue.name)?;
        // Send the waiting events in one burst: with many unconfirmed messages, confirms are most likely to be mismatched.
        let to = topology::broker(self.stack.mode()).unwrap_or_default();
        let link = Link { from: queue.writer, to };
        self.proxy.set(link, Condition::Blackhole);
        self.resume(queue.writer)?;
        self.wait(BURST_AFTER)?;
        self.proxy.set(link, Condition::Pass);
        self.wait(seconds)?;
        self.start(queue.reader, &[])?;
        Ok(Impact::killed(format!("{} wrote into nothing for {seconds:.1} s", queue.writer)))
    }

    pub(super) fn queue_deleted(&mut self, queue: Queue) -> Result<Impact> {
        if !self.pause_writer_until_empty(queue)? {
            self.resume(queue.writer)?;
            return Ok(Impact::of("did not empty, so it was not deleted"));
        }
        self.broker()?.delete_queue(queue.name)?;
        let deleted = Instant::now();
        let mut there = false;
        while !there && deleted.elapsed() < DECLARE_LIMIT {
            self.wait(POLL.as_secs_f64())?;
            there = self.broker()?.is_reachable(queue.name)?;
        }
        let seconds = deleted.elapsed().as_secs_f64();
        self.resume(queue.writer)?;
        Ok(Impact::of(match there {
            true => format!("{} declared it again after {seconds:.1} s", queue.reader),
            false => format!("{} did not declare it again", queue.reader),
        }))
    }

    /// Two messages for each queue, each of them no JSON or JSON of another type.
    pub(super) fn poison(&mut self) -> Result<Impact> {
        for queue in queues::ALL {
            self.publish_poison(queue.name)?;
            self.publish_poison(queue.name)?;
        }
        Ok(Impact::of(format!("{} messages in {} queues", 2 * queues::ALL.len(), queues::ALL.len())))
    }

    pub(super) fn publish_poison(&mut self, queue: &str) -> Result<()> {
        let mut part = |bits: u32| self.random.below(1 << bits);
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            part(32),
            part(16),
            part(12),
            part(12),
            part(48)
        );
        let payload = if part(1) == 0 { "this is no event" } else { "{\"user_id\":\"nobody\"}" };
        self.broker()?.publish(queue, &id, "Poison", payload)?;
        self.fault_log.poison.push((queue.to_owned(), id));
        Ok(())
    }

    pub(super) fn backlog(&mut self, queue: Queue, seconds: f64) -> Result<Impact> {
        let before = self.consumed(queue)?;
        self.prober.down(queue.reader);
        self.stack.hold(queue.reader)?;
        self.wait(seconds)?;
        let waiting = self.messages(&[queue.name])?;
        self.resume(queue.reader)?;
        let resumed = Instant::now();
        // A process that was just resumed may not answer yet.
        let mut done = 0;
        while done < waiting && resumed.elapsed() < DRAIN_LIMIT {
            self.wait(POLL.as_secs_f64())?;
            done = self.consumed(queue).map_or(done, |now| now.saturating_sub(before));
        }
        let drained = (done >= waiting).then(|| waiting as f64 / resumed.elapsed().as_secs_f64());
        Ok(Impact {
            detail: format!("held {seconds:.0} s, {waiting} events waited, {done} done"),
            drained_per_second: drained,
            ..Impact::default()
        })
    }

    /// Events of this queue that its reader has handled since it started.
    fn consumed(&self, queue: Queue) -> Result<u64> {
        let agent = http::agent(Duration::from_secs(2));
        let (_, text) = http::get_once(&agent, &format!("{}/metrics", self.stack.url(queue.reader)))?;
        Ok(sum(&text, "events_consumed_total", &format!("queue=\"{}\"", queue.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_outcomes_of_one_queue_are_added_up() {
        let text = "# TYPE events_consumed_total counter\n\
            events_consumed_total{outcome=\"duplicate\",queue=\"a_queue\"} 2\n\
            events_consumed_total{outcome=\"ok\",queue=\"a_queue\"} 40\n\
            events_consumed_total{outcome=\"ok\",queue=\"b_queue\"} 7\n";
        assert_eq!(sum(text, "events_consumed_total", "queue=\"a_queue\""), 42);
    }
}
