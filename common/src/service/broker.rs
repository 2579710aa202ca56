//! What async mode adds to a service: its subscriptions and routes, and the tasks that keep them connected.

use std::sync::Arc;
use std::time::Duration;

use contract::events::Destination;
use tokio::sync::watch;

use super::{Service, Stages};
use crate::Mode;
use crate::bus::amqp::{self, Amqp};
use crate::bus::consume::{Consumers, Subscription};
use crate::bus::{Bus, Line};
use crate::config::Settings;
use crate::db::Db;
use crate::events::Event;
use crate::otel::Spans;
use crate::outbox::{Outbox, Relay};
use crate::tasks::every;
use crate::{inbox, metrics};

/// What a service publishes and consumes.
#[derive(Default)]
pub(super) struct Messaging {
    publishes: Vec<Destination>,
    subscriptions: Vec<Subscription>,
    needs_broker: bool,
}

impl Service {
    /// Declares the way of `E` on the broker, so that nothing published before the first consumer comes is lost.
    pub fn publishes<E: Event>(mut self) -> Service {
        metrics::get().announce_published(E::NAME);
        self.messaging.publishes.push(E::DESTINATION);
        self
    }

    pub fn consumes<S: Clone + Send + Sync + 'static>(mut self, consumers: Consumers<S>) -> Service {
        let subscriptions = consumers.into_subscriptions();
        subscriptions.iter().for_each(|subscription| metrics::get().announce_consumed(subscription.queue));
        self.messaging.subscriptions.extend(subscriptions);
        self
    }

    /// Nothing can be accepted without the broker: not ready until it is connected.
    pub fn needs_broker(mut self) -> Service {
        self.messaging.needs_broker = true;
        self
    }
}

/// The broker as the process sees it, before it is connected.
pub(super) struct Broker {
    pub(super) bus: Bus,
    pub(super) outbox: Option<Outbox>,
    line: watch::Sender<Line>,
    relay: Option<Relay>,
}

/// What `/ready` looks at.
#[derive(Clone, Default)]
pub(super) struct Connected {
    pub(super) consuming: Option<watch::Receiver<bool>>,
    pub(super) publisher: Option<Bus>,
}

impl Broker {
    pub(super) fn new(mode: Mode, db: Option<&Db>, settings: &Settings, spans: Spans) -> Broker {
        let (bus, line) = Bus::new(spans);
        let (outbox, relay) = match (db, mode) {
            (Some(db), Mode::Async) => Some(Outbox::new(db.clone(), bus.clone(), &settings.broker)).unzip(),
            _ => (None, None),
        };
        Broker { bus, outbox, line, relay }
    }

    /// Starts what keeps the service connected.
    ///
    /// # Errors
    /// One line, when the broker's address is missing or wrong.
    pub(super) fn connect(
        self,
        service: &'static str,
        messaging: Messaging,
        settings: &Settings,
        db: Option<&Db>,
        stages: &mut Stages,
    ) -> Result<Connected, String> {
        let Broker { bus, line, relay, .. } = self;
        let amqp = Amqp {
            address: amqp::address(&settings.broker)?,
            service,
            publishes: messaging.publishes.into(),
            subscriptions: messaging.subscriptions.into(),
            prefetch: settings.broker.consumer_prefetch,
        };
        let mut state = Connected { publisher: messaging.needs_broker.then(|| bus.clone()), consuming: None };
        if !amqp.subscriptions.is_empty() {
            let (connected, consuming) = watch::channel(false);
            state.consuming = Some(consuming);
            let (amqp, db) = (amqp.clone(), db.cloned());
            stages.ingress.start("consumers", |stop| amqp.consumer(bus, db, connected, stop));
        }
        if let Some(relay) = relay {
            stages.relay.start("outbox relay", |stop| relay.run(stop));
        }
        stages.infrastructure.start("publisher", |stop| amqp.publisher(line, stop));
        if let Some(db) = db {
            let db = Arc::new(db.clone());
            let prune = move || {
                let db = Arc::clone(&db);
                async move {
                    db.wait_ready().await;
                    inbox::prune(&db).await
                }
            };
            let hour = Duration::from_secs(3600);
            stages.infrastructure.start("inbox pruning", |stop| every(hour, "inbox pruning", stop, prune));
        }
        Ok(state)
    }
}
