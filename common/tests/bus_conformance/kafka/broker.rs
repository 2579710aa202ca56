//! What the suite knows of Kafka.

use common::Mode;
use common::testing::Sandbox;

use crate::own_broker::OwnBroker;
use crate::proxy::Proxy;

pub(crate) const MODE: Mode = Mode::Stream;
/// An event that is settled may come again if an earlier one of its partition is not.
pub(crate) const SETTLES_EACH: bool = false;

pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::on_kafka()
}

/// A way to the broker that a test can disturb.
pub(crate) struct Ways {
    pub(crate) proxy: Proxy,
    /// The settings that lead through the proxy.
    pub(crate) through: Vec<String>,
    /// The settings that lead to the same broker directly.
    pub(crate) direct: Vec<String>,
    _broker: OwnBroker,
}

impl Ways {
    /// The broker itself tells its clients where to connect, so it has to know the proxy.
    pub(crate) async fn to_broker(_: &Sandbox) -> Ways {
        let proxy = Proxy::new().await;
        let broker = OwnBroker::behind(Some(proxy.address)).await;
        proxy.lead_to(format!("127.0.0.1:{}", broker.proxied));
        let through = vec![format!("--kafka-bootstrap={}", proxy.address)];
        Ways { proxy, through, direct: broker.settings(), _broker: broker }
    }
}
