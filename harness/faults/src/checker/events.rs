//! The way of the events: what was written was applied once by each of its readers or lies in a dead-letter queue. The
//! witnesses tell, which have no unique key that could hide a second time.

use std::collections::{HashMap, HashSet};

use contract::events::{of_dead_letters, queues};

use super::Case;
use super::finding::Finding;
use super::invariants::*;
use super::stores::counted;

/// Read by a service without a database, which leaves no witness: the last version is looked at instead.
const UNWITNESSED: &str = queues::CACHE_PRODUCT_UPDATES.name;

/// By message and queue: how often it was applied.
fn applied<'a>(case: &Case<'a>) -> HashMap<(&'a str, &'a str), i64> {
    let mut applied = HashMap::new();
    for witness in &case.stores.witnesses {
        if let Some(queue) = witness.kind.strip_prefix("applied:") {
            *applied.entry((witness.subject.as_str(), queue)).or_insert(0) += witness.times;
        }
    }
    applied
}

pub fn twice(case: &Case<'_>) -> Vec<Finding> {
    let (mut events, mut effects) = (Finding::of(EVENTS_TWICE), Finding::of(EFFECTS_TWICE));
    for ((message, queue), times) in applied(case) {
        events.look(times == 1, || format!("{message} from {queue}: {times} times"));
    }
    for witness in case.stores.witnesses.iter().filter(|witness| witness.kind.starts_with("effect:")) {
        effects.look(witness.times == 1, || {
            format!("{} {}: {} times", witness.kind, witness.subject, witness.times)
        });
    }
    vec![events, effects]
}

pub fn all_applied(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(EVENTS_APPLIED);
    let applied = applied(case);
    let dead: HashSet<(&str, &str)> =
        case.stores.dead_letters.iter().map(|(queue, id)| (id.as_str(), queue.as_str())).collect();
    for written in case.stores.witnesses.iter().filter(|witness| witness.kind == "written") {
        for queue in written.route.iter().map(String::as_str).filter(|queue| *queue != UNWITNESSED) {
            let way = (written.subject.as_str(), queue);
            finding.look(applied.contains_key(&way) || dead.contains(&way), || {
                format!("{} never came from {queue}", written.subject)
            });
        }
    }
    finding
}

/// A poisoned message may lie there twice: a crash between the copy and the acknowledgement repeats the copy.
pub fn dead_letters(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(DEAD_LETTERS);
    let dead = counted(case.stores.dead_letters.iter());
    for poison in case.poison {
        finding.look(dead.contains_key(poison), || format!("{} is not in {}.dlq", poison.1, poison.0));
    }
    let poison: HashSet<_> = case.poison.iter().collect();
    for letter in dead.keys().filter(|letter| !poison.contains(**letter)) {
        finding.look(false, || format!("{} lies in {}.dlq", letter.1, letter.0));
    }
    finding
}

pub fn empty(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(EMPTY);
    for (service, rows) in &case.stores.outboxes {
        finding.look(*rows == 0, || format!("outbox of {service}: {rows} events"));
    }
    for (queue, messages) in case.stores.queues.iter().filter(|(queue, _)| of_dead_letters(queue).is_none()) {
        finding.look(*messages == 0, || format!("{queue}: {messages} messages"));
    }
    finding
}
