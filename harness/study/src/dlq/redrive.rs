//! Back to the working queue, crash-safe without a transaction: first a copy of everything that is going to be taken out
//! is confirmed by the broker, and only then it is taken out. A crash in between leaves messages twice, never none; the
//! second copy is recognised by the inbox of the consumer, since the message id is kept.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use contract::events::UNROUTED_QUEUE;

use super::broker::Broker;
use super::letter::Letter;
use stack::signals;

/// Letters that are copied, then taken out, together.
const CHUNK: usize = 200;
/// For messages that the broker still hands back to their queue after somebody looked at them.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// How a redrive ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Redriven {
    pub moved: usize,
    /// Came while it ran, were taken out by mistake, and lie there again.
    pub put_back: usize,
}

impl Broker {
    /// Moves the messages that are in `queue` now, or only those with this message id.
    pub fn redrive(&self, queue: &str, id: Option<&str>) -> Result<Redriven> {
        let mut done = Redriven { moved: 0, put_back: 0 };
        let mut left = self.depth(queue)?;
        while left > 0 && !signals::interrupted() {
            // One that is looked for may lie behind all others.
            let mut seen = self.peek(queue, if id.is_some() { left } else { left.min(CHUNK) })?;
            let wanted = |letter: &Letter| id.is_none_or(|id| letter.id() == Some(id));
            // What lies behind the last one need not be touched.
            seen.truncate(seen.iter().rposition(wanted).map_or(0, |last| last + 1));
            if seen.is_empty() {
                break;
            }
            for letter in &seen {
                if wanted(letter) {
                    self.renew(queue, letter)?;
                    done.moved += 1;
                } else {
                    // It is in the way of one that is wanted: it goes to the end of the queue.
                    self.publish("", &letter.unchanged().publish(queue))?;
                }
            }
            done.put_back += self.take_out(queue, &seen)?;
            left = if id.is_some() { 0 } else { left - seen.len() };
        }
        Ok(done)
    }

    fn renew(&self, queue: &str, letter: &Letter) -> Result<()> {
        let letter = letter.renewed();
        match queue.strip_suffix(".dlq") {
            Some(working) => self.publish("", &letter.publish(working)),
            // It never came to a queue: once more through the exchange that had none for it.
            None if queue == UNROUTED_QUEUE => {
                self.publish(&letter.exchange, &letter.publish(&letter.routing_key))
            }
            None => bail!("{queue} is no dead-letter queue"),
        }
    }

    /// Takes out these messages, of which there are copies; how many others came out with them and were put back.
    fn take_out(&self, queue: &str, copied: &[Letter]) -> Result<usize> {
        let mut expected: HashMap<(Option<String>, String), usize> = HashMap::new();
        for letter in copied {
            *expected.entry(letter.identity()).or_default() += 1;
        }
        let (mut missing, mut put_back) = (copied.len(), 0);
        let deadline = Instant::now() + RETURN_LIMIT;
        while missing > 0 {
            let popped = self.pop(queue, missing)?;
            let none = popped.is_empty();
            for letter in popped {
                match expected.get_mut(&letter.identity()) {
                    Some(times) if *times > 0 => {
                        *times -= 1;
                        missing -= 1;
                    }
                    _ => {
                        self.publish("", &letter.unchanged().publish(queue))?;
                        put_back += 1;
                    }
                }
            }
            // Taken out by someone else meanwhile: their copies are the ones that count.
            ensure!(
                Instant::now() < deadline,
                "{missing} messages of {queue} were gone before they could be taken out: does another redrive run?"
            );
            if none {
                signals::rest(Duration::from_millis(50));
            }
        }
        Ok(put_back)
    }
}
