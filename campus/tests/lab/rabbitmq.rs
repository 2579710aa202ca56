//! The stack `rabbitmq`: an order is accepted whatever is away, and its events count once.

use std::collections::HashSet;
use std::pin::pin;

use common::Mode;
use common::testing::{Method, Reply, Sandbox, effects_of, eventually};
use contract::campus::{ORDERS003, RABBITMQ, Service, Stack, Topology};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::{Lab, assert_refuses_orders, schema, start};

const EXCHANGE: &str = RABBITMQ.exchange;
const DEAD: &str = RABBITMQ.dead_letter_queue;

fn burgers(quantity: i64) -> Value {
    json!({"item": "burger", "quantity": quantity})
}

fn placed(order_id: &str, message_id: &str, quantity: i64) -> Value {
    json!({"order_id": order_id, "message_id": message_id, "item": "pizza", "quantity": quantity})
}

/// The queues of a topology with their arguments and routing keys, as the broker has them.
pub(crate) async fn assert_declared(sandbox: &Sandbox, topology: &Topology) {
    let exchange = async |name: &str, kind: &str| {
        let exchange =
            sandbox.manage(Method::GET, &format!("exchanges/{}/{name}", sandbox.vhost), Value::Null).await;
        assert_eq!(
            (&exchange["type"], &exchange["durable"], &exchange["arguments"]),
            (&json!(kind), &json!(true), &json!({}))
        );
    };
    let queue = async |name: &str, arguments: Value, keys: &[(&str, &str)]| {
        let at = format!("queues/{}/{name}", sandbox.vhost);
        let queue = sandbox.manage(Method::GET, &at, Value::Null).await;
        assert_eq!((&queue["durable"], &queue["arguments"]), (&json!(true), &arguments), "{name}");
        let bindings = sandbox.manage(Method::GET, &format!("{at}/bindings"), Value::Null).await;
        let bound = bindings.as_array().expect("a list").iter().filter(|binding| binding["source"] != "");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut bound: Vec<_> = bound.map(|b| (text(&b["source"]), text(&b["routing_key"]))).collect();
        let mut keys: Vec<_> =
            keys.iter().map(|(source, key)| ((*source).to_owned(), (*key).to_owned())).collect();
        bound.sort();
        keys.sort();
        assert_eq!(bound, keys, "{name}");
    };
    exchange(topology.exchange, "topic").await;
    for contract::campus::Queue { name, keys, dead_letter_exchange, .. } in topology.queues {
        let arguments = dead_letter_exchange.map_or(json!({}), |dlx| json!({"x-dead-letter-exchange": dlx}));
        let keys: Vec<_> = keys.iter().map(|key| (topology.exchange, *key)).collect();
        queue(name, arguments, &keys).await;
    }
    let dead: Vec<_> = topology.dead_letter_exchange.iter().map(|dlx| (*dlx, "")).collect();
    queue(topology.dead_letter_queue, json!({}), &dead).await;
    if let Some(dlx) = topology.dead_letter_exchange {
        exchange(dlx, "fanout").await;
    }
}

/// A queue that gets a copy of every event.
pub(crate) async fn tap(sandbox: &Sandbox, exchange: &str) {
    let vhost = &sandbox.vhost;
    sandbox.manage(Method::PUT, &format!("queues/{vhost}/tap"), json!({"durable": true})).await;
    let binding = json!({"routing_key": "#"});
    sandbox.manage(Method::POST, &format!("bindings/{vhost}/e/{exchange}/q/tap"), binding).await;
}

/// The events of the tap with this routing key.
pub(crate) async fn tapped(sandbox: &Sandbox, key: &str) -> Vec<(Value, Value)> {
    let messages = sandbox.messages("tap").await;
    let event = |m: Value| {
        let body = serde_json::from_str(m["payload"].as_str().unwrap_or_default()).expect("JSON");
        (body, m["properties"].clone())
    };
    messages.into_iter().filter(|m| m["routing_key"] == key).map(event).collect()
}

#[tokio::test]
async fn an_order_is_accepted_at_once_and_ends_by_events() {
    let lab = Lab::start(Stack::Rabbitmq).await;
    lab.assert_serves_common_paths().await;
    assert_refuses_orders(&lab.order, "quantity").await;
    lab.assert_refuses_bad_faults().await;
    assert_declared(&lab.sandbox, &RABBITMQ).await;
    tap(&lab.sandbox, EXCHANGE).await;
    let headers = [("x-request-id", "rabbitmq-order-1")];
    let order = lab.order.request(Method::POST, "/order", &headers, Some(burgers(3).to_string())).await;
    assert_eq!((order.status, &order.body["status"]), (202, &json!("placed")), "{}", order.text);
    let id = order.body["order_id"].as_str().unwrap();
    assert_eq!(order.headers["location"].to_str().unwrap(), format!("/order/{id}"));
    lab.reaches(id, "reserved").await;
    let failed = lab.order.post("/order", json!({"item": "soup", "quantity": 1})).await.body;
    lab.reaches(failed["order_id"].as_str().unwrap(), "failed").await;
    assert_eq!(lab.stock("burger").await, 97);
    let sent = async || lab.notification.get("/notifications").await.body;
    eventually("the notification is sent", async || !sent().await.as_array().unwrap().is_empty()).await;
    let sent = sent().await;
    assert_eq!((sent.as_array().unwrap().len(), &sent[0]["order_id"]), (1, &json!(id)));
    eventually("both effects", async || effects_of("rabbitmq-order-1").len() == 2).await;

    let first = tapped(&lab.sandbox, "order.placed").await.remove(0);
    let (body, properties) = &first;
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["item", "message_id", "order_id", "quantity", "timestamp"]);
    assert_eq!((&body["order_id"], &body["timestamp"]), (&json!(id), &order.body["timestamp"]));
    assert_eq!(properties["message_id"], body["message_id"]);
    assert_eq!(
        (&properties["delivery_mode"], &properties["content_type"]),
        (&json!(2), &json!("application/json"))
    );
    for (key, id, quantity, status) in [
        ("inventory.reserved", &json!(id), 3, "reserved"),
        ("inventory.failed", &failed["order_id"], 1, "failed"),
    ] {
        let (body, _) = tapped(&lab.sandbox, key).await.remove(0);
        let members: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["item", "order_id", "quantity", "status", "timestamp"]);
        assert!(body["timestamp"].is_f64());
        assert_eq!(
            (&body["order_id"], &body["quantity"], &body["status"]),
            (id, &json!(quantity), &json!(status))
        );
    }
    let orders = lab.order.get("/orders").await.body;
    assert_eq!(orders[0]["order_id"], failed["order_id"], "newest first");
    assert_eq!(lab.order.get("/orders?limit=1").await.body.as_array().unwrap().len(), 1);
    lab.assert_resets().await;
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_message_counts_once_and_an_order_is_reserved_once_across_restarts() {
    let mut lab = Lab::start(Stack::Rabbitmq).await;
    tap(&lab.sandbox, EXCHANGE).await;
    let publish = async |lab: &Lab, order_id: &str, message_id: &str, quantity: i64| {
        let body = placed(order_id, message_id, quantity).to_string();
        // The properties of a client that sets none.
        lab.sandbox.publish_raw(EXCHANGE, "order.placed", &body, "").await;
    };
    let settled = async |lab: &Lab, messages: f64| {
        eventually("the messages are settled", async || {
            let outcomes =
                ["ok", "duplicate"].map(|outcome| lab.inventory.consumed("inventory_queue", outcome));
            join_all(outcomes).await.iter().sum::<f64>() >= messages
        })
        .await;
    };
    let before: f64 = join_all(["ok", "duplicate"].map(|o| lab.inventory.consumed("inventory_queue", o)))
        .await
        .iter()
        .sum();
    for _ in 0..5 {
        publish(&lab, "order-a", "message-1", 2).await;
    }
    settled(&lab, before + 5.0).await;
    lab.inventory.stop().await;
    lab.inventory = start(&lab.sandbox, Stack::Rabbitmq, Service::Inventory, &[]).await;
    for _ in 0..5 {
        publish(&lab, "order-a", "message-1", 2).await;
    }
    publish(&lab, "order-b", "message-1", 2).await;
    publish(&lab, "order-a", "message-2", 2).await;
    publish(&lab, "order-a", "message-3", 3).await;
    settled(&lab, before + 13.0).await;
    assert_eq!(lab.stock("pizza").await, 98);
    let sent = async || lab.notification.get("/notifications").await.body.as_array().unwrap().len();
    eventually("the notification is sent", async || sent().await == 1).await;
    eventually("the event is published", async || {
        !tapped(&lab.sandbox, "inventory.reserved").await.is_empty()
    })
    .await;
    assert_eq!(tapped(&lab.sandbox, "inventory.reserved").await.len(), 1);
    assert!(tapped(&lab.sandbox, "inventory.failed").await.is_empty());
    lab.sandbox.close().await;
}

#[tokio::test]
async fn an_order_counts_once_however_its_id_is_written_and_whatever_its_messages_are_called() {
    for (stack, topology) in [(Stack::Rabbitmq, &RABBITMQ), (Stack::Orders003, &ORDERS003)] {
        let lab = Lab::start(stack).await;
        let quantity = stack.quantity_field();
        let burgers = json!({"item": "burger", quantity: 1});
        let reply = lab.order.post("/order", burgers).await.body;
        let id = reply["order_id"].as_str().unwrap().to_owned();
        eventually("it has ended", async || lab.stock("burger").await == 99).await;
        let publish = async |key: &str, body: Value| {
            // All have one id, as those of a client that sets a constant.
            lab.sandbox.publish_raw(topology.exchange, key, &body.to_string(), "constant").await;
        };
        publish(
            "order.placed",
            json!({"order_id": id.to_uppercase(), "message_id": "another", "item": "burger", quantity: 1}),
        )
        .await;
        let status = if stack == Stack::Rabbitmq { "reserved" } else { "RESERVED" };
        for order in ["order-a", "order-b", "order-c"] {
            let decided =
                json!({"order_id": order, "item": "salad", quantity: 1, "status": status, "timestamp": 1});
            publish("inventory.reserved", decided).await;
        }
        let notified = async || lab.notification.get("/notifications").await.body.as_array().unwrap().len();
        eventually("each is notified", async || notified().await == 4).await;
        let again = async || lab.inventory.consumed("inventory_queue", "duplicate").await;
        eventually("the other spelling is recognised", async || again().await >= 1.0).await;
        assert_eq!((lab.stock("burger").await, notified().await), (99, 4));
        lab.sandbox.close().await;
    }
}

#[tokio::test]
async fn poison_goes_to_the_dead_letter_queue_unchanged_and_holds_nothing_up() {
    let lab = Lab::start(Stack::Rabbitmq).await;
    let with = |field: &str, value: Value| {
        let mut order = placed("order-p", "message-p", 1);
        order[field] = value;
        order.to_string()
    };
    let without = |field: &str| {
        let mut order = placed("order-p", "message-p", 1);
        order.as_object_mut().unwrap().remove(field);
        order.to_string()
    };
    let poison = [
        String::new(),
        "no JSON".into(),
        r#"{"order_id":"o","#.into(),
        "null".into(),
        "[]".into(),
        r#"["order-p", "message-p", "pizza", 1, 1.5]"#.into(),
        "\"text\"".into(),
        "42".into(),
        "{}".into(),
        r#"{"garbage": true}"#.into(),
        without("order_id"),
        without("message_id"),
        without("item"),
        without("quantity"),
        with("order_id", json!(7)),
        with("message_id", json!(["m"])),
        with("item", json!(null)),
        with("item", json!("")),
        with("quantity", json!("1")),
        with("quantity", json!(true)),
        with("quantity", json!(1.5)),
        with("quantity", json!(0)),
        with("quantity", json!(-5)),
        with("quantity", json!(1_000_001)),
        with("quantity", json!(99_999_999_999_999_999_999.0)),
        with("timestamp", json!("yesterday")),
        "[".repeat(10_000),
    ];
    for body in &poison {
        lab.sandbox.publish_raw(EXCHANGE, "order.placed", body, "").await;
    }
    let order = lab.order.post("/order", burgers(1)).await.body;
    lab.reaches(order["order_id"].as_str().unwrap(), "reserved").await;
    eventually("all are set aside", async || lab.sandbox.messages(DEAD).await.len() == poison.len()).await;
    let dead = lab.sandbox.messages(DEAD).await;
    for body in &poison {
        let message = dead.iter().find(|message| message["payload"] == *body);
        let reason =
            &message.unwrap_or_else(|| panic!("changed: {body}"))["properties"]["headers"]["x-reason"];
        assert!(reason.as_str().is_some_and(|reason| !reason.is_empty()), "{body}: {reason}");
    }
    assert_eq!((lab.stock("pizza").await, lab.stock("burger").await), (100, 99));
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_delay_holds_up_the_delayed_order_alone() {
    let lab = Lab::start(Stack::Rabbitmq).await;
    tap(&lab.sandbox, EXCHANGE).await;
    lab.delay(6.0).await;
    let slow = lab.order.post("/order", burgers(1)).await.body["order_id"].as_str().unwrap().to_owned();
    eventually("it is published", async || !tapped(&lab.sandbox, "order.placed").await.is_empty()).await;
    // The broker delivers it at once.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    lab.delay(0.0).await;
    let quick = lab.order.post("/order", burgers(1)).await.body["order_id"].as_str().unwrap().to_owned();
    lab.reaches(&quick, "reserved").await;
    assert_eq!(lab.status(&slow).await, "placed");
    lab.reaches(&slow, "reserved").await;
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_reservation_that_fails_is_tried_again() {
    let lab = Lab::start(Stack::Rabbitmq).await;
    lab.fail(true).await;
    let order = lab.order.post("/order", burgers(1)).await.body;
    let retried = async || lab.inventory.consumed("inventory_queue", "retry").await;
    eventually("it has failed", async || retried().await >= 1.0).await;
    lab.fail(false).await;
    lab.reaches(order["order_id"].as_str().unwrap(), "reserved").await;
    assert!(lab.sandbox.messages(DEAD).await.is_empty());
    lab.sandbox.close().await;
}

#[tokio::test]
async fn orders_are_accepted_while_inventory_is_away_and_never_more_than_there_is() {
    let mut lab = Lab::start(Stack::Rabbitmq).await;
    lab.inventory.stop().await;
    let orders = stream::iter(0..120).map(|_| lab.order.post("/order", burgers(1))).buffer_unordered(4);
    let replies: Vec<Reply> = orders.collect().await;
    assert!(replies.iter().all(|reply| reply.status == 202));
    assert_eq!(lab.order.get("/orders").await.body.as_array().unwrap().len(), 120);
    lab.inventory = start(&lab.sandbox, Stack::Rabbitmq, Service::Inventory, &[]).await;
    eventually("all have ended", async || lab.count("placed").await == 0).await;
    assert_eq!((lab.count("reserved").await, lab.count("failed").await), (100, 20));
    assert_eq!(lab.stock("burger").await, 0);
    let sent = async || lab.notification.get("/notifications").await.body.as_array().unwrap().len();
    eventually("all are notified", async || sent().await == 100).await;
    assert_limits(&lab).await;
    lab.sandbox.close().await;
}

async fn assert_limits(lab: &Lab) {
    for client in [&lab.order, &lab.notification] {
        let path = if client.base == lab.order.base { "/orders" } else { "/notifications" };
        let newest = client.get(&format!("{path}?limit=1")).await.body;
        assert_eq!(newest[0], client.get(path).await.body[0]);
        assert_eq!(newest.as_array().map_or(0, Vec::len), 1);
    }
}

#[tokio::test]
async fn an_order_counts_once_wherever_inventory_dies() {
    let bin = env!("CARGO_BIN_EXE_campus-inventory");
    for point in ["before_commit", "after_commit", "before_ack", "after_publish_before_confirm"] {
        let sandbox = Sandbox::new().await;
        let order = start(&sandbox, Stack::Rabbitmq, Service::Order, &[]).await;
        let schema = schema(&sandbox, Service::Inventory);
        let env = [("DB_SCHEMA", schema.as_str())];
        let program = sandbox.spawn(bin, Mode::Async, &[&env[..], &[("FAILPOINT", point)]].concat()).await;
        let id = order.post("/order", burgers(5)).await.body["order_id"].as_str().unwrap().to_owned();
        program.died().await;
        let program = sandbox.spawn(bin, Mode::Async, &env).await;
        eventually(point, async || order.get(&format!("/order/{id}")).await.body["status"] == "reserved")
            .await;
        assert_eq!(program.get("/stock").await.body["burger"], 95, "{point}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn kills_between_commit_and_acknowledgement_change_nothing_under_load() {
    kill_inventory(20).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn three_hundred_kills_between_commit_and_acknowledgement_change_nothing_under_load() {
    kill_inventory(300).await;
}

/// So many times, each time between the commit of a reservation and its acknowledgement, while orders are placed.
async fn kill_inventory(kills: usize) {
    let sandbox = Sandbox::new().await;
    let order = start(&sandbox, Stack::Rabbitmq, Service::Order, &[]).await;
    let notification = start(&sandbox, Stack::Rabbitmq, Service::Notification, &[]).await;
    let schema = schema(&sandbox, Service::Inventory);
    let env = [("DB_SCHEMA", schema.as_str()), ("FAILPOINT", "before_ack")];
    let mut placed = HashSet::new();
    {
        let mut killing = pin!(async {
            for _ in 0..kills {
                // It may die before it is ready: events wait.
                let bin = env!("CARGO_BIN_EXE_campus-inventory");
                sandbox.spawn_unready(bin, Mode::Async, &env).await.died().await;
            }
        });
        loop {
            let reply = order.post("/order", burgers(1)).await;
            assert_eq!(reply.status, 202);
            assert!(placed.insert(reply.body["order_id"].as_str().expect("an id").to_owned()));
            tokio::select! {
                () = &mut killing => break,
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
    }
    let inventory = start(&sandbox, Stack::Rabbitmq, Service::Inventory, &[]).await;
    let lab = Lab { stack: Stack::Rabbitmq, sandbox, order, inventory, notification };
    eventually("all have ended", async || lab.count("placed").await == 0).await;
    let orders = lab.order.get("/orders").await.body;
    let ids = |wanted: Option<&str>| -> HashSet<String> {
        let all = orders.as_array().expect("a list").iter();
        let of = all.filter(|order| wanted.is_none_or(|status| order["status"] == status));
        of.map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(None), placed);
    let reserved = ids(Some("reserved"));
    assert_eq!(lab.stock("burger").await + i64::try_from(reserved.len()).expect("few"), 100);
    let notified =
        async || lab.notification.get("/notifications").await.body.as_array().expect("a list").clone();
    eventually("all are notified", async || notified().await.len() >= reserved.len()).await;
    let notified: Vec<_> =
        notified().await.iter().map(|of| of["order_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!((notified.len(), notified.into_iter().collect::<HashSet<_>>()), (reserved.len(), reserved));
    assert!(placed.len() >= kills, "orders lasted as long as the kills");
    lab.sandbox.close().await;
}
