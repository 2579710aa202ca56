//! The outside of a running stack: requests as a client of the lab sends them, and messages as another program publishes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use contract::campus::{self, Service};
use serde::Deserialize;
use serde_json::{Value, json};
use stack::broker::Broker;
use stack::http;

/// Longer than the limit of a call between services.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stack: campus::Stack,
    urls: BTreeMap<Service, String>,
    broker: Option<Box<dyn Broker>>,
    agent: ureq::Agent,
}

/// An answer to `POST /order`.
pub(crate) struct Placed {
    pub(crate) status: u16,
    pub(crate) order_id: Option<String>,
    pub(crate) took: Duration,
}

/// An order as `GET /orders` shows it.
#[derive(Deserialize)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) item: String,
    #[serde(alias = "qty")]
    pub(crate) quantity: i64,
    pub(crate) status: String,
}

impl Order {
    pub(crate) fn is_reserved(&self) -> bool {
        ["reserved", "notified", "CONFIRMED"].contains(&self.status.as_str())
    }

    pub(crate) fn has_ended(&self) -> bool {
        !self.status.eq_ignore_ascii_case("placed")
    }
}

#[derive(Deserialize)]
struct Notification {
    order_id: String,
}

impl Client {
    pub(crate) fn new(stack: campus::Stack, running: &stack::Stack) -> Self {
        let url = |service| (service, running.url(stack.container(service)));
        Self {
            stack,
            urls: stack.services().iter().copied().map(url).collect(),
            broker: running.broker(),
            agent: http::agent(LIMIT),
        }
    }

    fn url(&self, service: Service, path: &str) -> String {
        format!("{}{path}", self.urls[&service])
    }

    /// Status code and body.
    pub(crate) fn post(&self, service: Service, path: &str, body: &str) -> Result<(u16, String)> {
        let mut request = self.agent.post(self.url(service, path)).header("content-type", "application/json");
        if service != Service::Order {
            // A kept connection may belong to a process that has ended.
            request = request.header("connection", "close");
        }
        let mut response = request.send(body)?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, service: Service, path: &str) -> Result<T> {
        let url = self.url(service, path);
        let mut response = self.agent.get(&url).header("connection", "close").call()?;
        let text = response.body_mut().with_config().limit(16 << 20).read_to_string()?;
        ensure!(response.status() == 200, "{url} answered {}: {text}", response.status());
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text:.200}"))
    }

    pub(crate) fn place(&self, item: &str) -> Result<Placed> {
        let quantity = self.stack.quantity_field();
        let started = Instant::now();
        let (status, text) =
            self.post(Service::Order, "/order", &json!({"item": item, quantity: 1}).to_string())?;
        let took = started.elapsed();
        let body: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text:.200}"))?;
        // Of an order that failed at once it is in the details.
        let id =
            body.get("order_id").or_else(|| body.pointer("/detail/order/order_id")).and_then(Value::as_str);
        Ok(Placed { status, order_id: id.map(ToOwned::to_owned), took })
    }

    /// A new stack again, apart from what is in the queues.
    pub(crate) fn reset(&self) -> Result<()> {
        let mut services = self.stack.services().iter();
        services.try_for_each(|service| self.admin(*service, "reset", &json!({})))
    }

    /// Each reservation takes so much longer.
    pub(crate) fn delay(&self, seconds: u64) -> Result<()> {
        self.admin(Service::Inventory, "delay", &json!({"seconds": seconds}))
    }

    /// Whether each reservation fails.
    pub(crate) fn fail(&self, enabled: bool) -> Result<()> {
        self.admin(Service::Inventory, "fail", &json!({"enabled": enabled}))
    }

    fn admin(&self, service: Service, command: &str, body: &Value) -> Result<()> {
        let path = format!("/admin/{command}");
        match self.post(service, &path, &body.to_string())? {
            (200, _) => Ok(()),
            (status, text) => bail!("{path} of {service} answered {status}: {text}"),
        }
    }

    pub(crate) fn orders(&self) -> Result<Vec<Order>> {
        self.get(Service::Order, "/orders?limit=10000")
    }

    pub(crate) fn stock(&self) -> Result<BTreeMap<String, i64>> {
        self.get(Service::Inventory, "/stock")
    }

    /// The orders of all notifications.
    pub(crate) fn notified(&self) -> Result<Vec<String>> {
        let all: Vec<Notification> = self.get(Service::Notification, "/notifications")?;
        Ok(all.into_iter().map(|notification| notification.order_id).collect())
    }

    fn broker(&self) -> Result<&dyn Broker> {
        self.broker.as_deref().context("this stack has no broker")
    }

    /// Publishes a body to the queue of placed orders, as another program does.
    pub(crate) fn publish(&self, payload: &str) -> Result<()> {
        let id = format!("lab-{}", now_us()?);
        self.broker()?.publish(campus::INVENTORY_QUEUE, &id, campus::ORDER_PLACED, payload)
    }

    /// Messages in the dead-letter queue.
    pub(crate) fn dead_letters(&self) -> Result<u64> {
        let topology = self.stack.topology().context("this stack has no broker")?;
        Ok(self.broker()?.depth(topology.dead_letter_queue)? as u64)
    }
}

pub(crate) fn now_us() -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(i64::try_from(now.as_micros())?)
}
