//! The scenarios from a client's side. Checks the answers, which depend on the mode, and returns the final state.

use std::time::{Duration, Instant};

use contract::events::queues;
use serde_json::{Value, json};
use stack::broker::Broker;
use stack::{Stack, http, signals};
use ureq::Agent;

/// Far more than any step takes, so that only a hang exceeds it.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Driver<'a> {
    stack: &'a Stack,
    agent: Agent,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(stack: &'a Stack) -> Self {
        Self { stack, agent: http::agent(DEADLINE) }
    }

    fn sync(&self) -> bool {
        !self.stack.mode().has_broker()
    }

    /// `workflow` is the request's id, by which its effects are found in the journals.
    fn send(&self, method: &str, service: &str, path: &str, workflow: &str, body: &Value) -> Answer {
        let url = format!("{}{path}", self.stack.url(service));
        let request = match method {
            "PUT" => self.agent.put(&url),
            _ => self.agent.post(&url),
        };
        let mut response = request.header("x-request-id", workflow).send_json(body).unwrap();
        let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let echoed = response.headers().get("x-request-id").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(echoed.as_deref(), Some(workflow), "{method} {path}");
        Answer {
            status: response.status().as_u16(),
            location,
            body: response.body_mut().read_json().unwrap(),
        }
    }

    fn post(&self, service: &str, path: &str, workflow: &str, body: &Value) -> Answer {
        self.send("POST", service, path, workflow, body)
    }

    fn get(&self, service: &str, path: &str) -> (u16, Value) {
        let (status, body) = http::get(&self.agent, &format!("{}{path}", self.stack.url(service))).unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Polls until no queue holds a message, dead letters included.
    pub(crate) fn nothing_waits(&self, broker: &dyn Broker) {
        let deadline = Instant::now() + broker.count_lag() + Duration::from_secs(5);
        loop {
            let queues = broker.queues().unwrap();
            assert!(queues.iter().filter(|queue| !queue.is_dead()).count() >= queues::ALL.len());
            let held: Vec<_> = queues.into_iter().filter(|queue| queue.messages > 0).collect();
            if held.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{} stack: {held:?}", self.stack.mode());
            signals::rest(Duration::from_millis(100));
        }
    }

    /// Polls until `done`; fails with the last answer.
    fn await_body(&self, service: &str, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.get(service, path);
            if status == 200 && done(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{service} {path} stays at {status} {body}");
            signals::rest(Duration::from_millis(20));
        }
    }

    pub(crate) fn s1_users_get_one_mail_each(&self) -> Vec<(String, usize)> {
        let mut ids = Vec::new();
        for (n, email) in ["ada.1@example.com", "bob22@example.org"].iter().enumerate() {
            let answer = self.post("userservice", "/register", &format!("s1-{n}"), &json!({"email": email}));
            assert_eq!(answer.status, if self.sync() { 201 } else { 202 }, "{}", answer.body);
            assert_eq!(answer.body["email"], *email);
            assert_eq!(answer.body.get("event_published"), (!self.sync()).then_some(&json!(true)));
            assert_eq!(answer.body.get("warnings"), None);
            ids.push(answer.body["id"].as_i64().unwrap());
        }
        let again = self.post("userservice", "/register", "again", &json!({"email": "ADA.1@Example.COM"}));
        assert_eq!(again.status, 409, "{}", again.body);
        let users = self.get("userservice", "/users").1;
        let users = users.as_array().unwrap().iter().rev().zip(ids);
        users
            .map(|(user, id)| {
                assert_eq!(user["id"], id);
                let path = format!("/emails?user_id={id}");
                let mails =
                    self.await_body("emailservice", &path, |mails| !mails.as_array().unwrap().is_empty());
                (user["email"].as_str().unwrap().to_owned(), mails.as_array().unwrap().len())
            })
            .collect()
    }

    pub(crate) fn s2_payments_are_taken(&self) -> Vec<Value> {
        let failed = self.post("paymentservice", "/process_payment_fail", "failed", &json!({}));
        assert_eq!((failed.status, &failed.body["reason"]), (400, &json!("Insufficient funds")));
        assert_eq!(failed.body["detail"]["status"], "failed");
        let asked = [json!({}), json!({"amount": 12.5, "currency": "EUR", "order_id": 7})];
        let take = |(n, body): (usize, &Value)| {
            let answer = self.post("paymentservice", "/process_payment", &format!("s2-{n}"), body);
            let path = format!("/payments/{}", answer.body["payment_id"].as_str().unwrap());
            assert!(path.starts_with("/payments/pay_"), "{path}");
            if self.sync() {
                assert_eq!((answer.status, &answer.body["status"]), (200, &json!("success")));
            } else {
                assert_eq!((answer.status, &answer.body["status"]), (202, &json!("processing")));
                assert_eq!(answer.location.as_deref(), Some(path.as_str()));
            }
            let payment =
                self.await_body("paymentservice", &path, |payment| payment["status"] != "processing");
            assert!(payment["transaction_id"].is_string(), "{payment}");
            select(&payment, &["status", "amount", "currency"])
        };
        asked.iter().enumerate().map(take).collect()
    }

    /// The product, and what search, cache and analytics know of it.
    pub(crate) fn s3_a_change_reaches_all_three(&self) -> (Value, Value, Value, Vec<Value>) {
        assert_eq!(
            self.send("PUT", "productservice", "/products/999", "unknown", &json!({"stock": 1})).status,
            404
        );
        for (n, change) in [json!({"stock": 120}), json!({"name": "Quiet Mouse"})].iter().enumerate() {
            let answer = self.send("PUT", "productservice", "/products/2", &format!("s3-{n}"), change);
            assert_eq!((answer.status, &answer.body["stock"]), (200, &json!(120)), "{}", answer.body);
            assert_eq!(answer.body.get("event_published"), (!self.sync()).then_some(&json!(true)));
            assert_eq!(answer.body.get("warnings"), None);
        }
        let fields = ["id", "name", "stock", "version"];
        let found = |hits: &Value| hits[0]["name"] == "Quiet Mouse";
        let searched = self.await_body("searchservice", "/search?q=quiet", found);
        let mut searched = searched[0].clone();
        searched["id"] = searched["product_id"].clone();
        let renamed = |product: &Value| product["name"] == "Quiet Mouse";
        let cached = self.await_body("cacheservice", "/cache/products/2", renamed);
        let both = |updates: &Value| updates.as_array().unwrap().len() == 2;
        let recorded = self.await_body("analyticsservice", "/product_updates?product_id=2", both);
        let mut versions: Vec<Value> =
            recorded.as_array().unwrap().iter().map(|row| row["version"].clone()).collect();
        versions.sort_by_key(Value::as_i64);
        let product = self.get("productservice", "/products/2").1;
        (select(&product, &fields[..3]), select(&searched, &fields), select(&cached, &fields), versions)
    }

    pub(crate) fn s4_a_report_is_computed(&self) -> Value {
        let answer = self.post("reportservice", "/generate_report", "s4-0", &json!({"report_type": "sales"}));
        let path = format!("/jobs/{}", answer.body["job_id"].as_str().unwrap());
        assert!(path.starts_with("/jobs/job_"), "{path}");
        if self.sync() {
            assert_eq!((answer.status, &answer.body["status"]), (200, &json!("completed")));
            assert_eq!(
                (&answer.body["report_type"], &answer.body["iterations"]),
                (&json!("sales"), &json!(20_000))
            );
        } else {
            assert_eq!((answer.status, &answer.body["status"]), (202, &json!("queued")));
            assert_eq!(answer.location.as_deref(), Some(path.as_str()));
        }
        let ended = |job: &Value| !["queued", "running"].iter().any(|status| job["status"] == *status);
        let job = self.await_body("reportservice", &path, ended);
        let hash = job["report_hash"].as_str().unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        select(&job, &["status", "iterations"])
    }

    /// Paid or not, of an unknown product, of more than the stock.
    pub(crate) fn s5_orders_end(&self, paid: bool) -> Vec<Value> {
        let asked = [
            json!({"product_id": 1, "quantity": 2}),
            json!({"product_id": 999}),
            json!({"product_id": 3, "quantity": 100_000}),
        ];
        let place = |(n, body): (usize, &Value)| {
            let answer = self.post("orderservice", "/create_order", &format!("s5-{n}"), body);
            let id = self.order_id(&answer, n == 0, paid);
            let path = format!("/orders/{id}");
            let order = self.await_body("orderservice", &path, |order| order["status"] != "pending");
            let mut order = select(&order, &["product_id", "quantity", "status", "reason"]);
            if n > 0 {
                // The wording is the service's own; only its presence is promised.
                assert!(order["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{order}");
                order["reason"] = json!("some");
            }
            order
        };
        asked.iter().enumerate().map(place).collect()
    }

    fn order_id(&self, answer: &Answer, reserved: bool, paid: bool) -> i64 {
        let Answer { status, location, body } = answer;
        if !self.sync() {
            let id = body["id"].as_i64().unwrap();
            assert_eq!((*status, &body["status"]), (202, &json!("pending")));
            assert_eq!(location.as_deref(), Some(format!("/orders/{id}").as_str()));
            return id;
        }
        if reserved && paid {
            assert_eq!(*status, 201, "{body}");
            return body["id"].as_i64().unwrap();
        }
        assert_eq!((*status, &body["detail"]["compensation_executed"]), (400, &json!(reserved)), "{body}");
        body["detail"]["order_id"].as_i64().unwrap()
    }

    /// When nothing is reserved any more: an order ends before its stock is back.
    pub(crate) fn inventory_at_rest(&self) -> Vec<Value> {
        let at_rest = |rows: &Value| rows.as_array().unwrap().iter().all(|row| row["reserved"] == 0);
        let rows = self.await_body("inventoryservice", "/inventory", at_rest);
        let mut rows: Vec<Value> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| select(row, &["product_id", "stock", "reserved"]))
            .collect();
        rows.sort_by_key(|row| row["product_id"].as_i64());
        rows
    }

    pub(crate) fn s6_clicks_are_counted(&self, clicks: i64) -> i64 {
        for n in 0..clicks {
            let click = json!({"user_id": 1, "page": "/products/1", "session_id": "s"});
            let answer = self.post("analyticsservice", "/track_click", &format!("s6-{n}"), &click);
            assert_eq!((answer.status, &answer.body["status"]), (200, &json!("tracked")));
        }
        let counted = |body: &Value| body["count"].as_i64().unwrap() >= clicks;
        self.await_body("analyticsservice", "/clicks/count", counted)["count"].as_i64().unwrap()
    }
}

/// Some fields of an object, `null` where it has none.
fn select(object: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), object[*field].clone())).collect()
}
