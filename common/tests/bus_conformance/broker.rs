//! All that the suite knows of RabbitMQ: what lies in its queues, and what it can do to a service. Another transport
//! supplies another one of these, and of [`own_broker`](crate::own_broker).

use common::testing::{Method, Sandbox, eventually};
use serde_json::{Value, json};

/// An event that was set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) message_id: String,
    pub(crate) workflow: String,
    pub(crate) event: String,
    pub(crate) body: String,
    pub(crate) attempt: u32,
    pub(crate) reason: String,
    pub(crate) first_failed_us: i64,
}

/// What was set aside from `queue` so far.
pub(crate) async fn set_aside(sandbox: &Sandbox, queue: &str) -> Vec<Aside> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let aside = |message: Value| {
        let properties = &message["properties"];
        let header = |name: &str| text(&properties["headers"][name]);
        Aside {
            message_id: text(&properties["message_id"]),
            workflow: text(&properties["correlation_id"]),
            event: text(&properties["type"]),
            body: text(&message["payload"]),
            attempt: header("x-attempt").parse().expect("a number of attempts"),
            reason: header("x-reason"),
            first_failed_us: header("x-first-failed-at").parse().expect("a time"),
        }
    };
    sandbox.messages(&format!("{queue}.dlq")).await.into_iter().map(aside).collect()
}

/// Events that are ready in `queue`, without those that a consumer holds.
pub(crate) async fn waiting(sandbox: &Sandbox, queue: &str) -> usize {
    sandbox.messages(queue).await.len()
}

/// Events that wait for their next attempt.
pub(crate) async fn delayed(sandbox: &Sandbox) -> usize {
    let mut delayed = 0;
    for delay in ["1s", "10s", "60s"] {
        delayed += waiting(sandbox, &format!("retry_{delay}_queue")).await;
    }
    delayed
}

/// Any text, published by hand with any id.
pub(crate) async fn put(sandbox: &Sandbox, queue: &str, text: &str, message_id: &str) {
    sandbox.publish_raw("", queue, text, message_id).await;
}

/// What an operator must not do, and does: `queue` is gone with all that was in it.
pub(crate) async fn delete_queue(sandbox: &Sandbox, queue: &str) {
    let path = format!("queues/{}/{queue}", sandbox.vhost);
    sandbox.manage(Method::DELETE, &path, Value::Null).await;
}

/// The broker closes the channel of the next publisher to this exchange.
pub(crate) async fn delete_exchange(sandbox: &Sandbox, exchange: &str) {
    let path = format!("exchanges/{}/{exchange}", sandbox.vhost);
    sandbox.manage(Method::DELETE, &path, Value::Null).await;
}

/// Closes every connection that this test has to the broker: the publisher's and the consumer's.
pub(crate) async fn close_connections(sandbox: &Sandbox) {
    let path = format!("vhosts/{}/connections", sandbox.vhost);
    let connections = async || match sandbox.manage(Method::GET, &path, Value::Null).await {
        Value::Array(connections) => connections,
        _ => Vec::new(),
    };
    // The broker reports them with some delay.
    eventually("both connections are known", async || connections().await.len() >= 2).await;
    for connection in connections().await {
        let name =
            connection["name"].as_str().expect("it has a name").replace(' ', "%20").replace('>', "%3E");
        sandbox.manage(Method::DELETE, &format!("connections/{name}"), json!(null)).await;
    }
}
