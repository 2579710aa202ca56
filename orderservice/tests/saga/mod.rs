//! The saga with one stub in the place of inventoryservice and paymentservice, whose answers a test can set.

mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use common::Mode;
use common::testing::{Method, Peer, Reply, Sandbox, TestApp, effects_of};
use orderservice::{ABOUT, orders::Settings, sync};
use serde_json::{Value, json};

pub(crate) const PATH: &str = "/create_order";
/// An answer that never comes.
pub(crate) const HANGS: u16 = 0;

/// What the stub answers; everything else goes well, but for the payment, which is refused.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<HashMap<String, (u16, Value)>>>);

impl Answers {
    pub(crate) fn set(&self, path: &str, status: u16, body: Value) {
        self.0.lock().unwrap().insert(path.into(), (status, body));
    }

    pub(crate) fn go_well_again(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn to(&self, path: &str, body: &Value) -> (u16, Value) {
        if let Some(answer) = self.0.lock().unwrap().get(path) {
            return answer.clone();
        }
        match path {
            "/process_payment_fail" => (400, json!({"status": "failed", "reason": "Insufficient funds"})),
            "/pay_order" => (200, json!({"payment_id": "pay_1", "transaction_id": "txn_1"})),
            "/cancel_payment" => (200, json!({"status": "ok"})),
            _ => {
                let (product_id, quantity) = (&body["product_id"], &body["quantity"]);
                (
                    200,
                    json!({"status": "ok", "product_id": product_id, "quantity": quantity, "total_reserved": 0}),
                )
            }
        }
    }
}

pub(crate) struct Test {
    pub(crate) sandbox: Sandbox,
    pub(crate) app: TestApp,
    pub(crate) peer: Peer,
    pub(crate) answers: Answers,
}

impl Test {
    pub(crate) async fn start(settings: &[&str]) -> Test {
        let answers = Answers::default();
        let answering = answers.clone();
        let peer = Peer::start(move |path, body| {
            let (status, body) = answering.to(&path, &body);
            async move {
                if status == HANGS {
                    std::future::pending::<()>().await;
                }
                (status, body)
            }
        })
        .await;
        let sandbox = Sandbox::new().await;
        let app = start(&sandbox, &peer.url, settings).await;
        Test { sandbox, app, peer, answers }
    }

    /// `POST /create_order` of product 1 as the workflow that is called after the schema.
    pub(crate) async fn order(&self) -> Reply {
        let headers = [("x-request-id", self.sandbox.schema.as_str())];
        let body = json!({"product_id": 1, "quantity": 2}).to_string();
        self.app.request(Method::POST, PATH, &headers, Some(body)).await
    }

    pub(crate) async fn stored(&self, id: i64) -> Value {
        self.app.get(&format!("/orders/{id}")).await.body
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        effects_of(&self.sandbox.schema)
    }

    /// The sweeper takes up what has been pending for a minute.
    pub(crate) async fn let_a_minute_pass(&self) {
        let update = sqlx::query("UPDATE orders SET tried_at = now() - interval '61 seconds'");
        update.execute(&self.sandbox.pool().await).await.unwrap();
    }

    pub(crate) async fn end(self) {
        self.app.stop().await;
        self.sandbox.close().await;
    }
}

pub(crate) async fn start(sandbox: &Sandbox, peer: &str, settings: &[&str]) -> TestApp {
    let urls = [&format!("--inventory-service-url={peer}")[..], &format!("--payment-service-url={peer}")];
    let settings = [&urls, settings].concat();
    sandbox
        .start(ABOUT, Mode::Sync, &settings, |deps, settings: Settings| sync::service(&deps, &settings))
        .await
}

pub(crate) fn assert_failed(reply: &Reply, id: i64, message: &str, reason: &str, compensated: bool) {
    assert_eq!(reply.status, 400, "{}", reply.text);
    let expected = json!({
        "type": "about:blank", "title": "Order failed", "status": 400, "message": message,
        "detail": {"message": message, "order_id": id, "product_id": 1, "quantity": 2, "reason": reason,
                   "compensation_executed": compensated},
    });
    assert_eq!(reply.body, expected);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(reply.headers["location"], format!("/orders/{id}"));
}

pub(crate) const PAYMENT: &str = "Order failed due to payment issue";
pub(crate) const INTERRUPTED: &str = "Order failed due to an interrupted step";
pub(crate) const STOCK: &str = "Order failed due to stock issue";
