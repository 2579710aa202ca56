//! What the suite knows of RabbitMQ. Another transport supplies another one of these, and of [`own_broker`](crate::own_broker).

use common::Mode;
use common::config::NoSettings;
use common::testing::{Method, Sandbox, eventually};
use serde_json::{Value, json};

use crate::proxy::Proxy;

pub(crate) const MODE: Mode = Mode::Async;
/// Events are settled one by one, not up to one.
pub(crate) const SETTLES_EACH: bool = true;

pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::new().await
}

/// A way to the broker that a test can disturb.
pub(crate) struct Ways {
    pub(crate) proxy: Proxy,
    /// The settings that lead through the proxy.
    pub(crate) through: Vec<String>,
    /// The settings that lead to the same broker directly.
    pub(crate) direct: Vec<String>,
}

impl Ways {
    pub(crate) async fn to_broker(sandbox: &Sandbox) -> Ways {
        let url = sandbox.settings::<NoSettings>(MODE, &[]).0.broker.amqp.amqp_url.expect("a URL");
        let (login, rest) = url.split_once('@').expect("a login");
        let (target, vhost) = rest.split_once('/').expect("a virtual host");
        let proxy = Proxy::new().await;
        proxy.lead_to(target.to_owned());
        let through = vec![format!("--amqp-url={login}@{}/{vhost}", proxy.address)];
        Ways { proxy, through, direct: Vec::new() }
    }
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
