//! The stack `kafka`: orders are decided once, records stay in the log, and analytics counts them again with the same result.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::testing::{Client, Method, Reply, Sandbox, TestApp, eventually};
use contract::campus::{
    ANALYTICS_GROUP, INVENTORY_EVENTS, INVENTORY_GROUP, ORDER_EVENTS, ORDER_STATUS_GROUP, Service, Stack,
};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::{assert_refuses_orders, schema, start};

const PLACED: &str = ORDER_EVENTS.name;
const DECIDED: &str = INVENTORY_EVENTS.name;
const DEAD: &str = ORDER_EVENTS.dead_letter_topic;
const READERS: [(&str, &str); 4] = [
    (INVENTORY_GROUP, PLACED),
    (ORDER_STATUS_GROUP, DECIDED),
    (ANALYTICS_GROUP, PLACED),
    (ANALYTICS_GROUP, DECIDED),
];

struct Lab {
    sandbox: Sandbox,
    order: TestApp,
    inventory: TestApp,
    analytics: TestApp,
}

impl Lab {
    async fn start() -> Lab {
        let sandbox = Sandbox::on_kafka();
        let inventory = start(&sandbox, Stack::Kafka, Service::Inventory, &[]).await;
        let analytics = start(&sandbox, Stack::Kafka, Service::Analytics, &[]).await;
        let order = start(&sandbox, Stack::Kafka, Service::Order, &[]).await;
        Lab { sandbox, order, inventory, analytics }
    }

    async fn place(&self) -> String {
        let reply = self.order.post("/order", burgers(1)).await;
        assert_eq!((reply.status, &reply.body["status"]), (201, &json!("placed")));
        let id = reply.body["order_id"].as_str().expect("an id").to_owned();
        assert_eq!(reply.headers["location"], format!("/order/{id}").as_str());
        id
    }

    async fn bulk(&self, count: usize) -> Value {
        let reply = self.order.post("/orders/bulk", json!({ "count": count })).await;
        assert_eq!((reply.status, &reply.body["count"]), (201, &json!(count)));
        reply.body
    }

    async fn status(&self, order_id: &str) -> Value {
        self.order.get(&format!("/order/{order_id}")).await.body["status"].clone()
    }

    /// How many orders have this status.
    async fn count(&self, status: &str) -> usize {
        let orders = self.order.get("/orders").await.body;
        orders.as_array().expect("a list").iter().filter(|order| order["status"] == status).count()
    }

    async fn stock(&self, item: &str) -> i64 {
        self.inventory.get("/stock").await.body[item].as_i64().expect("an item of the seed")
    }

    async fn figures(&self) -> Value {
        figures(&self.analytics).await
    }

    async fn counted(&self, orders: usize) {
        within(60, "analytics has counted all", async || {
            let figures = self.figures().await;
            figures["total_orders"] == orders && figures["total_inventory_events"] == orders
        })
        .await;
    }

    async fn throttle(&self, seconds: f64) {
        let reply = self.analytics.post("/admin/throttle", json!({ "seconds": seconds })).await;
        assert_eq!((reply.status, reply.body), (200, json!({ "throttle_seconds": seconds })));
    }

    async fn replay(&self) {
        let reply = self.analytics.post("/admin/reset-offsets", json!({})).await;
        assert!(reply.status == 200 && reply.body["message"].is_string(), "{reply:?}");
    }

    async fn rests(&self) {
        for (group, topic) in READERS {
            within(20, &format!("{group} has read {topic}"), async || {
                self.sandbox.lag(group, topic).await == 0
            })
            .await;
        }
    }
}

async fn figures(analytics: &Client) -> Value {
    let reply = analytics.get("/metrics").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

fn burgers(quantity: i64) -> Value {
    json!({"item": "burger", "quantity": quantity})
}

/// [`eventually`] for what takes longer.
async fn within(seconds: u64, what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The bodies of a log.
fn orders(records: &[Value]) -> Vec<Value> {
    records
        .iter()
        .map(|record| serde_json::from_str(record["payload"].as_str().expect("text")).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn orders_are_decided_once_and_their_records_are_keyed_by_the_order() {
    let lab = Lab::start().await;
    let ids = [lab.place().await, lab.place().await, lab.place().await];
    let unknown = lab.order.post("/order", json!({"item": "soup", "quantity": 1})).await.body;
    let unknown = unknown["order_id"].as_str().unwrap().to_owned();
    for id in &ids {
        eventually("reserved", async || lab.status(id).await == "reserved").await;
    }
    eventually("failed", async || lab.status(&unknown).await == "failed").await;
    assert_eq!(lab.stock("burger").await, 97);
    // The same record again, under another id of the message.
    let record =
        json!({"order_id": ids[0], "item": "burger", "quantity": 1, "status": "placed", "timestamp": 1.5});
    lab.sandbox.publish_raw(PLACED, "", &record.to_string(), "again").await;
    lab.rests().await;
    assert_eq!(lab.stock("burger").await, 97);
    assert_eq!(lab.inventory.get("/stats").await.body, json!({"processed_count": 4}));
    let (placed, decided) = (lab.sandbox.messages(PLACED).await, lab.sandbox.messages(DECIDED).await);
    assert_eq!((placed.len(), decided.len()), (5, 4));
    for record in decided.iter().chain(placed.iter().filter(|record| record["key"] != "again")) {
        let order: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
        assert_eq!(record["key"], order["order_id"]);
        assert!(record["partition"].as_i64().unwrap() < 3);
        assert!(order["timestamp"].is_f64() && order["quantity"] == 1, "{order}");
    }
    assert!(orders(&placed).iter().all(|order| order["status"] == "placed"));
    let ends: BTreeSet<_> = orders(&decided)
        .iter()
        .map(|order| (order["order_id"].to_string(), order["status"].to_string()))
        .collect();
    assert!(ends.contains(&(json!(unknown).to_string(), json!("failed").to_string())));
    assert_eq!(lab.figures().await["total_orders"], 4);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn no_more_is_reserved_than_there_is_whatever_is_away() {
    let mut lab = Lab::start().await;
    lab.inventory.stop().await;
    let placing = stream::iter(0..120).map(|_| lab.order.post("/order", burgers(1))).buffer_unordered(8);
    let replies: Vec<Reply> = placing.collect().await;
    assert!(replies.iter().all(|reply| reply.status == 201));
    lab.inventory = start(&lab.sandbox, Stack::Kafka, Service::Inventory, &[]).await;
    within(60, "all have ended", async || lab.count("placed").await == 0).await;
    assert_eq!((lab.count("reserved").await, lab.count("failed").await), (100, 20));
    assert_eq!(lab.stock("burger").await, 0);
    lab.counted(120).await;
    let figures = lab.figures().await;
    assert_eq!((&figures["failures"], &figures["failure_rate"]), (&json!(20), &json!(0.1667)));
    lab.sandbox.close().await;
}

#[tokio::test]
async fn ten_thousand_at_once_are_decided_and_counted_again_with_the_same_figures() {
    let lab = Lab::start().await;
    let sample = lab.bulk(10_000).await["order_ids_sample"].clone();
    assert_eq!(sample.as_array().map(Vec::len), Some(5));
    within(120, "all are decided", async || {
        lab.inventory.get("/stats").await.body["processed_count"] == 10_000
    })
    .await;
    lab.counted(10_000).await;
    within(60, "all have ended", async || lab.count("placed").await == 0).await;
    assert_eq!((lab.count("reserved").await, lab.count("failed").await), (100, 9_900));
    let ids = |records: &[Value]| -> BTreeSet<String> {
        orders(records).iter().map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect()
    };
    let (placed, decided) = (lab.sandbox.messages(PLACED).await, lab.sandbox.messages(DECIDED).await);
    assert_eq!((placed.len(), decided.len()), (10_000, 10_000));
    let reserved = orders(&decided).iter().filter(|order| order["status"] == "reserved").count();
    assert_eq!((reserved, ids(&placed).len()), (100, 10_000));
    assert_eq!(ids(&placed), ids(&decided));
    assert!(sample.as_array().unwrap().iter().all(|id| ids(&placed).contains(id.as_str().unwrap())));
    lab.rests().await;
    let before = lab.figures().await;
    for field in [
        "total_orders",
        "total_inventory_events",
        "failures",
        "orders_per_minute",
        "failure_rate",
        "elapsed_seconds",
    ] {
        assert!(before[field].as_f64().is_some_and(|figure| figure > 0.0), "{field}: {before}");
    }
    for _ in 0..2 {
        lab.replay().await;
        lab.counted(10_000).await;
        assert_eq!(lab.figures().await, before);
        lab.rests().await;
    }
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_replay_under_traffic_counts_everything() {
    let lab = Lab::start().await;
    lab.bulk(500).await;
    lab.counted(500).await;
    for _ in 0..3 {
        let placing = async {
            for _ in 0..40 {
                lab.place().await;
            }
        };
        tokio::join!(placing, lab.replay());
    }
    lab.counted(620).await;
    lab.rests().await;
    let before = lab.figures().await;
    lab.replay().await;
    lab.counted(620).await;
    assert_eq!(lab.figures().await, before);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn analytics_keeps_its_figures_and_its_place_over_a_restart() {
    let mut lab = Lab::start().await;
    lab.bulk(50).await;
    lab.counted(50).await;
    let before = lab.figures().await;
    lab.analytics.stop().await;
    assert_eq!(lab.sandbox.lag(ANALYTICS_GROUP, PLACED).await, 0, "the last commit is at the stop");
    lab.analytics = start(&lab.sandbox, Stack::Kafka, Service::Analytics, &[]).await;
    assert_eq!(lab.figures().await, before);
    // A reset that the process did not live to finish.
    let analytics = schema(&lab.sandbox, Service::Analytics);
    let pool = lab.sandbox.pool().await;
    for table in ["placed", "decided"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {analytics}.{table}")))
            .execute(&pool)
            .await
            .unwrap();
    }
    let due = format!("INSERT INTO {analytics}.replays_due DEFAULT VALUES");
    sqlx::query(sqlx::AssertSqlSafe(due)).execute(&pool).await.unwrap();
    lab.counted(50).await;
    assert_eq!(lab.figures().await, before);
    // Nothing is counted again by itself.
    lab.rests().await;
    lab.analytics.post("/admin/reset", json!({})).await;
    lab.analytics.stop().await;
    lab.analytics = start(&lab.sandbox, Stack::Kafka, Service::Analytics, &[]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(lab.figures().await["total_orders"], 0);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn malformed_records_go_to_the_dead_letter_topic_unchanged_and_are_stepped_over() {
    let lab = Lab::start().await;
    let with = |field: &str, value: Value| {
        let mut order =
            json!({"order_id": "o", "item": "pizza", "quantity": 1, "status": "placed", "timestamp": 1.5});
        order[field] = value;
        order.to_string()
    };
    let poison = [
        String::new(),
        "no JSON".into(),
        "null".into(),
        "[]".into(),
        "42".into(),
        "{}".into(),
        r#"["o", "pizza", 1, "placed", 1.5]"#.into(),
        r#"{"garbage": true}"#.into(),
        with("order_id", json!(7)),
        with("item", json!(null)),
        with("quantity", json!("1")),
        with("quantity", json!(0)),
        with("quantity", json!(1.5)),
        with("status", json!("reserved")),
        with("timestamp", json!("yesterday")),
    ];
    for body in &poison {
        lab.sandbox.publish_raw(PLACED, "", body, "poison").await;
    }
    let id = lab.place().await;
    eventually("reserved", async || lab.status(&id).await == "reserved").await;
    lab.rests().await;
    let dead: BTreeSet<String> = lab
        .sandbox
        .messages(DEAD)
        .await
        .iter()
        .map(|record| record["payload"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(dead, poison.iter().cloned().collect());
    assert_eq!(lab.sandbox.messages(DEAD).await.len(), poison.len(), "each once");
    lab.sandbox.publish_raw(DECIDED, "", "[]", "poison").await;
    lab.counted(1).await;
    lab.rests().await;
    assert_eq!(lab.sandbox.messages(DEAD).await.len(), poison.len() + 1);
    assert_eq!(lab.stock("pizza").await, 100);
    assert_eq!(lab.inventory.get("/stats").await.body["processed_count"], 1);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_throttle_slows_each_topic_on_its_own() {
    let lab = Lab::start().await;
    lab.throttle(0.1).await;
    let begun = Instant::now();
    lab.bulk(30).await;
    lab.counted(30).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((3.0..5.8).contains(&took), "{took} s for 30 records of each of two topics, 0.1 s each");
    lab.throttle(60.0).await;
    lab.place().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(lab.figures().await["total_orders"], 30);
    assert!(lab.sandbox.lag(ANALYTICS_GROUP, PLACED).await > 0);
    lab.throttle(0.0).await;
    lab.counted(31).await;
    for bad in [json!(-1), json!(60.1), json!("1"), json!(true), json!(null)] {
        lab.analytics
            .post("/admin/throttle", json!({ "seconds": bad }))
            .await
            .assert_problem(422, Some("seconds"));
    }
    lab.sandbox.close().await;
}

#[tokio::test]
async fn metrics_are_json_unless_prometheus_asks() {
    let lab = Lab::start().await;
    let none = json!({"total_orders": 0, "total_inventory_events": 0, "failures": 0, "orders_per_minute": 0.0,
                      "failure_rate": 0.0, "elapsed_seconds": 0.0});
    assert_eq!(lab.figures().await, none);
    let get = async |app: &Client, accept: &'static str| {
        app.request(Method::GET, "/metrics", &[("accept", accept)], None).await
    };
    for accept in ["*/*", "application/json", "text/html"] {
        assert_eq!(get(&lab.analytics, accept).await.body, none, "{accept}");
    }
    for accept in [
        "text/plain",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
    ] {
        assert!(get(&lab.analytics, accept).await.text.contains("\nhttp_requests_total"), "{accept}");
    }
    assert!(get(&lab.order, "*/*").await.text.contains("\nhttp_requests_total"));
    lab.sandbox.close().await;
}

#[tokio::test]
async fn bulk_orders_obey_the_rules_of_orders() {
    let lab = Lab::start().await;
    let refused = async |body: Value, field: &str| {
        lab.order.post("/orders/bulk", body).await.assert_problem(422, Some(field));
    };
    for count in [json!(0), json!(-1), json!(100_001), json!("1"), json!(1.5), json!(true), json!(null)] {
        refused(json!({ "count": count }), "count").await;
    }
    refused(json!({}), "count").await;
    refused(json!({"count": 1, "item": ""}), "item").await;
    refused(json!({"count": 1, "quantity": 0}), "quantity").await;
    common::testing::assert_refuses_bad_bodies(&lab.order, Method::POST, "/orders/bulk").await;
    assert_refuses_orders(&lab.order, "quantity").await;
    let few = lab.order.post("/orders/bulk", json!({"count": 2, "item": "salad", "quantity": 3})).await;
    assert_eq!(few.body["order_ids_sample"].as_array().map(Vec::len), Some(2));
    within(20, "both are reserved", async || lab.count("reserved").await == 2).await;
    assert_eq!(lab.stock("salad").await, 94);
    lab.sandbox.close().await;
}
