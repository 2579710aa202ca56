//! `./study dlq`: dead letters are listed and redriven; none is lost, and no effect happens twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use stack::broker::{Broker, DeadLetter};
use stack::{Mode, Stack};
use study::dlq::describe;

use crate::client::{eventually, execute, get, manage, post};
use crate::fixture;

const REGISTERED: &str = "user_registered_queue";
const DEAD: &str = "user_registered_queue.dlq";
/// An error of PostgreSQL about the data: the consumer does not retry.
const BREAK: &str = "CREATE FUNCTION emailservice.refuse() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN RAISE 'out of stamps' USING ERRCODE = '22000'; END $$; \
     CREATE TRIGGER refuse BEFORE INSERT ON emailservice.emails FOR EACH ROW EXECUTE FUNCTION emailservice.refuse();";
const MEND: &str = "DROP FUNCTION emailservice.refuse CASCADE";

fn broker(stack: &Stack) -> Box<dyn Broker> {
    stack.broker().unwrap()
}

fn holds(broker: &dyn Broker, letters: usize) {
    eventually(&format!("{letters} messages"), || broker.depth(DEAD).unwrap() == letters);
}

fn ids(letters: &[DeadLetter]) -> Vec<String> {
    let mut ids: Vec<String> = letters.iter().map(|letter| letter.id.clone().unwrap()).collect();
    ids.sort();
    ids
}

fn mails(stack: &Stack, user: i64) -> usize {
    get(stack, "emailservice", &format!("/emails?user_id={user}")).1.as_array().unwrap().len()
}

fn duplicates(stack: &Stack) -> usize {
    let metrics = get(stack, "emailservice", "/metrics").1;
    let line = format!(r#"events_consumed_total{{outcome="duplicate",queue="{REGISTERED}"}} "#);
    let count = metrics.as_str().unwrap().lines().find_map(|text| text.strip_prefix(&line)?.parse().ok());
    count.unwrap_or(0)
}

fn publish(stack: &Stack, queue: &str, id: &str, payload: &str, encoding: &str) {
    let message = json!({"routing_key": queue, "payload": payload, "payload_encoding": encoding,
                         "properties": {"message_id": id, "type": "UserRegistered", "delivery_mode": 2}});
    assert_eq!(manage(stack, "POST", "exchanges/{}/amq.default/publish", &message)["routed"], true);
}

#[test]
fn a_dead_letter_of_rabbitmq_is_described_and_takes_effect_once_when_its_cause_is_fixed() {
    a_dead_letter_is_described_and_takes_effect_once_when_its_cause_is_fixed(Mode::Async);
}

#[test]
fn a_dead_letter_of_kafka_is_described_and_takes_effect_once_when_its_cause_is_fixed() {
    a_dead_letter_is_described_and_takes_effect_once_when_its_cause_is_fixed(Mode::Stream);
}

fn a_dead_letter_is_described_and_takes_effect_once_when_its_cause_is_fixed(mode: Mode) {
    let (stack, _folder) = fixture::start(&format!("messages-{mode}"), mode, &[]);
    let broker = broker(&stack);
    execute(&stack, BREAK);
    let mut users = Vec::new();
    for n in 0..3 {
        let new = json!({"email": format!("letter.{n}@example.org")});
        users.push(
            post(&stack, "userservice", "/register", &format!("letter-{n}"), &new).1["id"].as_i64().unwrap(),
        );
    }
    holds(&*broker, 3);
    let first = broker.peek(DEAD, 10).unwrap().messages;
    for letter in &first {
        let description = describe(letter, false);
        assert_eq!(letter.event.as_deref(), Some("UserRegistered"));
        assert_eq!(letter.attempts.as_deref(), Some("1"));
        assert!(letter.reason.as_ref().unwrap().contains("out of stamps"), "{description}");
        assert!(letter.request_id.as_ref().unwrap().starts_with("letter-"));
        assert_eq!(letter.trace_id.as_ref().unwrap().len(), 32);
        let whole = describe(letter, true);
        assert!(!description.contains("example.org") && whole.contains("example.org"), "{whole}");
    }
    assert!(broker.dead_letter_queues().unwrap().contains(&DEAD.to_owned()));

    // The cause still exists: each message is dead-lettered again, once, with its id and a new time.
    assert_eq!(broker.redrive(DEAD, None).unwrap().moved, 3);
    let newest = first.iter().filter_map(|letter| letter.first_failed_us).max();
    let again = || broker.peek(DEAD, 10).unwrap().messages;
    eventually("all died anew", || {
        let letters = again();
        letters.len() == 3 && letters.iter().all(|letter| letter.first_failed_us > newest)
    });
    assert_eq!(ids(&again()), ids(&first));
    assert!(again().iter().all(|letter| letter.attempts.as_deref() == Some("1")));

    execute(&stack, MEND);
    // The second of three.
    let chosen = again()[1].clone();
    let id = chosen.id.as_deref().unwrap();
    let user = serde_json::from_slice::<Value>(&chosen.body).unwrap()["user_id"].as_i64().unwrap();
    assert_eq!(broker.redrive(DEAD, Some(id)).unwrap().moved, 1);
    eventually("its mail is sent", || mails(&stack, user) == 1);
    holds(&*broker, 2);
    assert!(!ids(&again()).contains(&id.to_owned()));
    assert_eq!(broker.redrive(DEAD, Some(id)).unwrap().moved, 0, "it is gone from there");

    // As after a crash of a redrive between its copies and the removal of the originals.
    for _ in 0..2 {
        broker.publish(DEAD, id, "UserRegistered", std::str::from_utf8(&chosen.body).unwrap()).unwrap();
    }
    assert_eq!(broker.redrive(DEAD, Some(id)).unwrap().moved, 2);
    eventually("both are recognised", || duplicates(&stack) == 2);

    assert_eq!(broker.redrive(DEAD, None).unwrap().moved, 2);
    eventually("all mails are sent", || users.iter().all(|user| mails(&stack, *user) == 1));
    holds(&*broker, 0);
    assert_eq!(broker.redrive(DEAD, None).unwrap().moved, 0);
    stack.stop().unwrap();
}

#[test]
fn a_binary_body_is_redriven_unchanged_and_can_be_purged() {
    let (stack, _folder) = fixture::start("bytes", Mode::Async, &[]);
    let broker = broker(&stack);
    let id = "0193fd6e-0000-7000-8000-000000000001";
    publish(&stack, REGISTERED, id, "AP+A/i0K", "base64");
    holds(&*broker, 1);
    let letter = broker.peek(DEAD, 1).unwrap().messages.remove(0);
    assert_eq!(broker.redrive(DEAD, None).unwrap().moved, 1);
    let mut back = None;
    eventually("it died anew", || {
        back = broker.peek(DEAD, 1).unwrap().messages.pop();
        back.as_ref().is_some_and(|back| back.first_failed_us > letter.first_failed_us)
    });
    let back = back.unwrap();
    assert_eq!((&back.body[..], back.id.as_deref()), (&[0, 0xff, 0x80, 0xfe, 0x2d, 0x0a][..], Some(id)));
    assert!(back.reason.unwrap().contains("does not parse as UserRegistered"));
    broker.purge(DEAD).unwrap();
    assert_eq!(broker.depth(DEAD).unwrap(), 0);
    let unknown = broker.depth("no_such_queue.dlq").unwrap_err().to_string();
    assert!(unknown.contains("no_such_queue.dlq"), "{unknown}");
    stack.stop().unwrap();
}

#[test]
fn a_dead_letter_stays_in_its_queue_when_its_copy_fails() {
    let (stack, _folder) = fixture::start("lonely", Mode::Async, &[]);
    let broker = broker(&stack);
    // Its working queue was deleted.
    let quorum = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
    manage(&stack, "PUT", "queues/{}/lonely_queue.dlq", &quorum);
    for n in 0..3 {
        publish(&stack, "lonely_queue.dlq", &n.to_string(), "{}", "string");
    }
    for id in [None, Some("1")] {
        let refused = broker.redrive("lonely_queue.dlq", id).unwrap_err().to_string();
        assert!(refused.contains("no queue takes"), "{refused}");
    }
    eventually("all three are there", || {
        let mut there = ids(&broker.peek("lonely_queue.dlq", 10).unwrap().messages);
        there.dedup();
        there == ["0", "1", "2"]
    });
    stack.stop().unwrap();
}

#[test]
fn an_unrouted_message_is_redriven_through_its_exchange() {
    let (stack, _folder) = fixture::start("unrouted", Mode::Async, &[]);
    let broker = broker(&stack);
    let queues = ["search", "cache", "analytics"].map(|name| format!("{name}_product_updates_queue"));
    let binding = |queue: &str| format!("bindings/{{}}/e/product_updates/q/{queue}");
    for queue in &queues {
        manage(&stack, "DELETE", &format!("{}/~", binding(queue)), &Value::Null);
    }
    let change = json!({"name": "Silent Mouse"});
    assert_eq!(post(&stack, "productservice", "/products/2", "unrouted", &change).0, 200);
    eventually("it is kept", || broker.depth("unrouted_queue").unwrap() == 1);
    for queue in &queues {
        manage(&stack, "POST", &binding(queue), &json!({}));
    }
    assert_eq!(broker.redrive("unrouted_queue", None).unwrap().moved, 1);
    eventually("search has heard of it", || {
        get(&stack, "searchservice", "/search?q=silent").1[0].is_object()
    });
    eventually("so has the cache", || {
        get(&stack, "cacheservice", "/cache/products/2").1["name"] == "Silent Mouse"
    });
    assert_eq!(broker.depth("unrouted_queue").unwrap(), 0);
    stack.stop().unwrap();
}

#[test]
fn no_dead_letter_is_lost_during_two_redrives_with_new_arrivals() {
    let (stack, _folder) = fixture::start("crowd", Mode::Async, &[]);
    let broker = broker(&stack);
    let id = |n: usize| format!("0193fd6e-0000-7000-8000-{n:012}");
    // No valid event: redriven messages are dead-lettered again.
    (0..250).for_each(|n| publish(&stack, DEAD, &id(n), "poison", "string"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let newcomers =
            scope.spawn(|| (250..400).for_each(|n| publish(&stack, DEAD, &id(n), "poison", "string")));
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // One redrive may fail because the other was faster.
                    self::broker(&stack).redrive(DEAD, None).ok();
                }
            });
        }
        newcomers.join().unwrap();
        done.store(true, Ordering::Relaxed);
    });
    eventually("each is there, or comes back", || {
        let mut there = ids(&broker.peek(DEAD, 10_000).unwrap().messages);
        there.dedup();
        there.len() == 400
    });
    stack.stop().unwrap();
}
