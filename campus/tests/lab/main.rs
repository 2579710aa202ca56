//! Each stack of the lab, on a virtual host or a prefix and on schemas of its own, with the real PostgreSQL, RabbitMQ and Kafka.
#![cfg(all(feature = "sync", feature = "async"))]

#[cfg(feature = "stream")]
mod kafka;
mod orders003;
mod rabbitmq;
mod rest;

use common::service::{About, Deps};
use common::testing::{Client, Method, Sandbox, TestApp, eventually};
use contract::campus::{Service, Stack};
use serde_json::{Value, json};

/// The services of a stack.
pub(crate) struct Lab {
    pub(crate) stack: Stack,
    pub(crate) sandbox: Sandbox,
    pub(crate) order: TestApp,
    pub(crate) inventory: TestApp,
    pub(crate) notification: TestApp,
}

/// Starts one service of a stack; `more` are settings such as `--request-timeout=1`.
pub(crate) async fn start(sandbox: &Sandbox, stack: Stack, service: Service, more: &[&str]) -> TestApp {
    type Wiring = fn(common::Mode, &Deps, &campus::Settings) -> common::Service;
    let (about, wiring): (About, Wiring) = match service {
        Service::Order => (campus::ORDER, campus::order),
        Service::Inventory => (campus::INVENTORY, campus::inventory),
        Service::Notification => (campus::NOTIFICATION, campus::notification),
        #[cfg(feature = "stream")]
        Service::Analytics => (campus::ANALYTICS, campus::analytics),
        #[cfg(not(feature = "stream"))]
        Service::Analytics => unreachable!("only the stack over Kafka has it"),
    };
    let schema = format!("--db-schema={}", schema(sandbox, service));
    let profile = stack.profile().map(|profile| format!("--profile={}", profile.as_str()));
    let own = [Some(schema.as_str()), profile.as_deref()].into_iter().flatten();
    let settings: Vec<&str> = own.chain(more.iter().copied()).collect();
    let mode = stack.mode();
    sandbox.start(about, mode, &settings, |deps, settings| wiring(mode, &deps, &settings)).await
}

pub(crate) fn schema(sandbox: &Sandbox, service: Service) -> String {
    format!("{}_{}", sandbox.schema, service.name())
}

impl Lab {
    pub(crate) async fn start(stack: Stack) -> Lab {
        Lab::start_with(stack, &[]).await
    }

    /// `more` are settings of campus-order.
    pub(crate) async fn start_with(stack: Stack, more: &[&str]) -> Lab {
        let sandbox = Sandbox::new().await;
        let inventory = start(&sandbox, stack, Service::Inventory, &[]).await;
        let notification = start(&sandbox, stack, Service::Notification, &[]).await;
        let urls = [
            format!("--inventory-url={}", inventory.base),
            format!("--notification-url={}/", notification.base),
        ];
        let own = urls.iter().map(String::as_str);
        let own = own.filter(|own| !more.iter().any(|more| more.split('=').next() == own.split('=').next()));
        let settings: Vec<&str> = own.chain(more.iter().copied()).collect();
        let order = start(&sandbox, stack, Service::Order, &settings).await;
        Lab { stack, sandbox, order, inventory, notification }
    }

    pub(crate) fn services(&self) -> [(Service, &Client); 3] {
        [
            (Service::Order, &self.order),
            (Service::Inventory, &self.inventory),
            (Service::Notification, &self.notification),
        ]
    }

    /// The free units of an item.
    pub(crate) async fn stock(&self, item: &str) -> i64 {
        self.inventory.get("/stock").await.body[item].as_i64().expect("an item of the seed")
    }

    pub(crate) async fn status(&self, order_id: &str) -> Value {
        self.order.get(&format!("/order/{order_id}")).await.body["status"].clone()
    }

    pub(crate) async fn reaches(&self, order_id: &str, status: &str) {
        eventually(status, async || self.status(order_id).await == status).await;
    }

    /// How many orders have this status.
    pub(crate) async fn count(&self, status: &str) -> usize {
        let orders = self.order.get("/orders").await.body;
        orders.as_array().expect("a list").iter().filter(|order| order["status"] == status).count()
    }

    pub(crate) async fn delay(&self, seconds: f64) {
        let reply = self.inventory.post("/admin/delay", json!({ "seconds": seconds })).await;
        assert_eq!((reply.status, reply.body), (200, json!({ "delay_seconds": seconds })));
    }

    pub(crate) async fn fail(&self, enabled: bool) {
        let reply = self.inventory.post("/admin/fail", json!({ "enabled": enabled })).await;
        assert_eq!((reply.status, reply.body), (200, json!({ "fail_enabled": enabled })));
    }

    /// What every stack does on every path, whatever its communication.
    pub(crate) async fn assert_serves_common_paths(&self) {
        for (service, client) in self.services() {
            let health = client.get("/health").await;
            assert_eq!((health.status, &health.body["service"]), (200, &json!(service.program())));
            assert_eq!(client.get("/ready").await.status, 200);
            assert!(client.get("/openapi.json").await.body["paths"]["/admin/reset"].is_object());
        }
    }

    /// What is no delay, no switch and no reset; nothing is switched.
    pub(crate) async fn assert_refuses_bad_faults(&self) {
        for (path, field, bad) in [
            ("/admin/delay", "seconds", json!([-1, 60.1, "1", true, null, [1], 1e300])),
            ("/admin/fail", "enabled", json!([1, "true", null, {}])),
        ] {
            for value in bad.as_array().expect("values") {
                self.inventory.post(path, json!({ field: value })).await.assert_problem(422, Some(field));
            }
            self.inventory.post(path, json!({})).await.assert_problem(422, Some(field));
            common::testing::assert_refuses_bad_bodies(&self.inventory, Method::POST, path).await;
        }
        for (_, client) in self.services() {
            let reset = async |body: &str| {
                client.request(Method::POST, "/admin/reset", &[], Some(body.to_owned())).await
            };
            reset("[]").await.assert_problem(422, Some("body"));
            reset("{").await.assert_problem(400, None);
        }
    }

    /// Resets every service; the seed is back, and nothing else is there.
    pub(crate) async fn assert_resets(&self) {
        for (place, (_, client)) in self.services().into_iter().enumerate() {
            let body = if place == 0 { String::new() } else { "{}".to_owned() };
            let reply = client.request(Method::POST, "/admin/reset", &[], Some(body)).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        let seed: serde_json::Map<String, Value> =
            self.stack.seed().iter().map(|(item, units)| ((*item).to_owned(), json!(units))).collect();
        assert_eq!(self.inventory.get("/stock").await.body, Value::Object(seed));
        assert_eq!(self.order.get("/orders").await.body, json!([]));
        assert_eq!(self.notification.get("/notifications").await.body, json!([]));
    }
}

/// What `POST /order` refuses, as bodies with the field that is wrong; `quantity` is the stack's word.
pub(crate) async fn assert_refuses_orders(order: &Client, quantity: &str) {
    common::testing::assert_refuses_bad_bodies(order, Method::POST, "/order").await;
    let valid = json!({ "item": "burger", quantity: 1 });
    let long = "x".repeat(101);
    let items = json!(["", "a\u{0}b", long, 5, true, ["burger"], {}]);
    common::testing::assert_needs_field(order, "/order", &valid, "item", items.as_array().expect("values"))
        .await;
    let quantities = json!([0, -1, 1_000_001, "1", true, 1.5, [1], {}, 99_999_999_999_999_999_999.0, 1e300]);
    let quantities = quantities.as_array().expect("values");
    common::testing::assert_needs_field(order, "/order", &valid, quantity, quantities).await;
    let huge = format!(r#"{{"item":"burger","{quantity}":99999999999999999999}}"#);
    order.request(Method::POST, "/order", &[], Some(huge)).await.assert_problem(422, Some(quantity));
    let mut more = valid;
    more["more"] = json!(1);
    order.post("/order", more).await.assert_problem(422, Some("more"));
    for limit in ["0", "10001", "x", ""] {
        order.get(&format!("/orders?limit={limit}")).await.assert_problem(422, Some("limit"));
    }
    for id in ["x", "00000000-0000-4000-8000-000000000000", "%00"] {
        order.get(&format!("/order/{id}")).await.assert_problem(404, None);
    }
    assert_eq!(order.get("/orders").await.body, json!([]), "nothing is stored");
}
