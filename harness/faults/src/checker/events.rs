//! Events: each event that was written was applied once by each of its readers, or is in a dead-letter queue. The witness tables
//! show it, because they have no unique key that could hide a second application.

use std::collections::{HashMap, HashSet};

use contract::events::{of_dead_letters, queues};

use super::CheckInput;
use super::finding::Finding;
use super::invariants::*;
use super::stores::counted;

/// Its reader has no database and so no witnesses; the last version is checked instead.
const UNWITNESSED: &str = queues::CACHE_PRODUCT_UPDATES.name;

/// How often each message was applied, by message and queue.
fn applied<'a>(input: &CheckInput<'a>) -> HashMap<(&'a str, &'a str), i64> {
    let mut applied = HashMap::new();
    for witness in &input.stores.witnesses {
        if let Some(queue) = witness.kind.strip_prefix("applied:") {
            *applied.entry((witness.subject.as_str(), queue)).or_insert(0) += witness.times;
        }
    }
    applied
}

pub fn twice(input: &CheckInput<'_>) -> Vec<Finding> {
    let (mut events, mut effects) = (Finding::of(EVENTS_TWICE), Finding::of(EFFECTS_TWICE));
    for ((message, queue), times) in applied(input) {
        events.look(times == 1, || format!("{message} from {queue}: {times} times"));
    }
    for witness in input.stores.witnesses.iter().filter(|witness| witness.kind.starts_with("effect:")) {
        effects.look(witness.times == 1, || {
            format!("{} {}: {} times", witness.kind, witness.subject, witness.times)
        });
    }
    vec![events, effects]
}

pub fn all_applied(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(EVENTS_APPLIED);
    let applied = applied(input);
    let dead: HashSet<(&str, &str)> =
        input.stores.dead_letters.iter().map(|(queue, id)| (id.as_str(), queue.as_str())).collect();
    for written in input.stores.witnesses.iter().filter(|witness| witness.kind == "written") {
        for queue in written.route.iter().map(String::as_str).filter(|queue| *queue != UNWITNESSED) {
            let way = (written.subject.as_str(), queue);
            finding.look(applied.contains_key(&way) || dead.contains(&way), || {
                format!("{} never came from {queue}", written.subject)
            });
        }
    }
    finding
}

/// A poison message may be there twice: a crash between the copy and the acknowledgement repeats the copy.
pub fn dead_letters(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(DEAD_LETTERS);
    let dead = counted(input.stores.dead_letters.iter());
    for poison in input.poison {
        finding.look(dead.contains_key(poison), || format!("{} is not in {}.dlq", poison.1, poison.0));
    }
    let poison: HashSet<_> = input.poison.iter().collect();
    for letter in dead.keys().filter(|letter| !poison.contains(**letter)) {
        finding.look(false, || format!("{} lies in {}.dlq", letter.1, letter.0));
    }
    finding
}

pub fn empty(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(EMPTY);
    for (service, rows) in &input.stores.outboxes {
        finding.look(*rows == 0, || format!("outbox of {service}: {rows} events"));
    }
    for (queue, messages) in input.stores.queues.iter().filter(|(queue, _)| of_dead_letters(queue).is_none())
    {
        finding.look(*messages == 0, || format!("{queue}: {messages} messages"));
    }
    finding
}
