//! Redrive without a transaction, safe against a crash: the broker first confirms a copy of every message of a chunk, and only
//! then are the originals taken out. A crash in between leaves messages twice, never none; the consumer's inbox recognises the
//! second copy by its message id, which is kept.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contract::events::{UNROUTED_QUEUE, of_dead_letters};

use super::management::Management;
use super::message::Message;
use crate::broker::{Broker, Redriven};
use crate::signals;

/// Messages that are copied, then taken out, together.
const CHUNK: usize = 200;
/// For messages that the broker has not yet returned to their queue after a peek.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// See [`Broker::redrive`].
pub(super) fn redrive(broker: &Management, queue: &str, id: Option<&str>) -> Result<Redriven> {
    let mut done = Redriven { moved: 0, put_back: 0 };
    let mut left = broker.depth(queue)?;
    while left > 0 && !signals::interrupted() {
        // A message that is searched for may be behind all others.
        let mut seen = broker.look(queue, if id.is_some() { left } else { left.min(CHUNK) })?;
        let wanted = |message: &Message| id.is_none_or(|id| message.id() == Some(id));
        // Messages behind the last wanted one stay untouched.
        seen.truncate(seen.iter().rposition(wanted).map_or(0, |last| last + 1));
        if seen.is_empty() {
            break;
        }
        for message in &seen {
            if wanted(message) {
                renew(broker, queue, message)?;
                done.moved += 1;
            } else {
                // It is in front of a wanted one: it moves to the end of the queue.
                broker.send("", &message.unchanged().publish(queue))?;
            }
        }
        done.put_back += take_out(broker, queue, &seen)?;
        left = if id.is_some() { 0 } else { left - seen.len() };
    }
    Ok(done)
}

fn renew(broker: &Management, queue: &str, message: &Message) -> Result<()> {
    let message = message.renewed();
    if queue == UNROUTED_QUEUE {
        // No queue took it: publish it again to the exchange that had none.
        return broker.send(&message.exchange, &message.publish(&message.routing_key));
    }
    let working = of_dead_letters(queue).with_context(|| format!("{queue} is no dead-letter queue"))?;
    broker.send("", &message.publish(working))
}

/// Takes out these messages, of which there are copies. Returns how many others came out with them and were put back.
fn take_out(broker: &Management, queue: &str, copied: &[Message]) -> Result<usize> {
    let mut expected: HashMap<(Option<String>, String), usize> = HashMap::new();
    for message in copied {
        *expected.entry(message.identity()).or_default() += 1;
    }
    let (mut missing, mut put_back) = (copied.len(), 0);
    let deadline = Instant::now() + RETURN_LIMIT;
    while missing > 0 {
        let popped = broker.pop(queue, missing)?;
        let none = popped.is_empty();
        for message in popped {
            match expected.get_mut(&message.identity()) {
                Some(times) if *times > 0 => {
                    *times -= 1;
                    missing -= 1;
                }
                _ => {
                    broker.send("", &message.unchanged().publish(queue))?;
                    put_back += 1;
                }
            }
        }
        // Another redrive has taken them out: its copies are the ones that count.
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
