//! What a mode with events adds to a service: its subscriptions and destinations, and the tasks that keep them connected.

use std::sync::Arc;
use std::time::Duration;

use contract::events::Destination;
use tokio::sync::watch;

use super::{Service, Stages};
use crate::Mode;
use crate::bus::transport::Transport;
use crate::bus::{Bus, Consumers, Endpoint, PublisherHandle, Subscription};
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
    /// Declares the destination of `E` on the broker, so that an event that is published before its first consumer is not lost.
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

    /// The service accepts nothing without the broker: it is not ready until the publisher is connected.
    pub fn needs_broker(mut self) -> Service {
        self.messaging.needs_broker = true;
        self
    }
}

/// The process's side of the broker, before it is connected.
pub(super) struct Broker {
    pub(super) bus: Bus,
    pub(super) outbox: Option<Outbox>,
    publisher: watch::Sender<PublisherHandle>,
    relay: Option<Relay>,
    mode: Mode,
}

/// What `/ready` checks.
#[derive(Clone, Default)]
pub(super) struct Connected {
    pub(super) consuming: Option<watch::Receiver<bool>>,
    pub(super) publisher: Option<Bus>,
}

impl Broker {
    pub(super) fn new(mode: Mode, db: Option<&Db>, settings: &Settings, spans: Spans) -> Broker {
        let (bus, publisher) = Bus::new(spans);
        let outbox = |db: &Db| Outbox::new(db.clone(), bus.clone(), &settings.broker);
        let (outbox, relay) = db.filter(|_| mode.has_broker()).map(outbox).unzip();
        Broker { bus, outbox, publisher, relay, mode }
    }

    /// Starts the tasks that keep the service connected.
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
        let Broker { bus, publisher, relay, mode, .. } = self;
        let consumes = !messaging.subscriptions.is_empty();
        let endpoint = Endpoint {
            service,
            publishes: messaging.publishes.into(),
            subscriptions: messaging.subscriptions.into(),
            prefetch: settings.broker.consumer_prefetch,
        };
        let transport = Transport::new(mode, &settings.broker, endpoint)?;
        let mut state = Connected { publisher: messaging.needs_broker.then(|| bus.clone()), consuming: None };
        if consumes {
            let (connected, consuming) = watch::channel(false);
            state.consuming = Some(consuming);
            let (transport, db) = (transport.clone(), db.cloned());
            stages.ingress.start("consumers", |stop| transport.consume(bus, db, connected, stop));
        }
        if let Some(relay) = relay {
            stages.relay.start("outbox relay", |stop| relay.run(stop));
        }
        stages.infrastructure.start("publisher", |stop| transport.publish(publisher, stop));
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
