//! The seam to the broker. A transport provides two tasks: one publishes what the [`Bus`] hands over, the other runs a
//! [`ConsumerTask`](super::consumer::ConsumerTask) for each subscription. Both stay connected until they are stopped.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Bus, Endpoint, PublisherHandle};
use crate::config::BrokerSettings;
use crate::{Db, Mode};

#[cfg(not(any(feature = "amqp", feature = "kafka")))]
compile_error!("enable a transport: `amqp` or `kafka`");

#[derive(Clone)]
pub(crate) enum Transport {
    #[cfg(feature = "amqp")]
    Amqp(super::amqp::Amqp),
    #[cfg(feature = "kafka")]
    Kafka(super::kafka::Kafka),
}

impl Transport {
    /// The transport of a mode.
    ///
    /// # Errors
    /// One line, when the broker's address is missing or wrong.
    pub(crate) fn new(
        mode: Mode,
        settings: &BrokerSettings,
        endpoint: Endpoint,
    ) -> Result<Transport, String> {
        match mode {
            #[cfg(feature = "amqp")]
            Mode::Async => super::amqp::Amqp::new(&settings.amqp, endpoint).map(Transport::Amqp),
            #[cfg(feature = "kafka")]
            Mode::Stream => super::kafka::Kafka::new(&settings.kafka, endpoint).map(Transport::Kafka),
            _ => Err(format!("this binary was built without the broker of mode {mode}")),
        }
    }

    /// Keeps a publisher connected until `stop`. `publisher` is set while it is connected.
    pub(crate) async fn publish(self, publisher: watch::Sender<PublisherHandle>, stop: CancellationToken) {
        match self {
            #[cfg(feature = "amqp")]
            Transport::Amqp(amqp) => amqp.publish(publisher, stop).await,
            #[cfg(feature = "kafka")]
            Transport::Kafka(kafka) => kafka.publish(publisher, stop).await,
        }
    }

    /// Keeps the subscriptions connected until `stop`, while the database is available. `connected` tells whether they are.
    pub(crate) async fn consume(
        self,
        bus: Bus,
        db: Option<Db>,
        connected: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        match self {
            #[cfg(feature = "amqp")]
            Transport::Amqp(amqp) => amqp.consume(bus, db, connected, stop).await,
            #[cfg(feature = "kafka")]
            Transport::Kafka(kafka) => kafka.consume(bus, db, connected, stop).await,
        }
    }
}
