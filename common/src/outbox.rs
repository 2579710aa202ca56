//! The transactional outbox. An event is a row that is written in the transaction of the effect that it announces. A relay sends
//! the rows, and deletes a row when the broker has confirmed its event. While the broker is unavailable, or a destination does
//! not take its events, services still accept work, up to a bound.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use contract::events::Destination;
use futures_util::future::{BoxFuture, join_all};
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::sync::Notify;

use crate::bus::{Bus, Message};
use crate::config::BrokerSettings;
use crate::context::Context;
use crate::db::{CommitHook, Tx};
use crate::events::Event;
use crate::failpoint::{self, Protection, disabled};
use crate::{ApiError, Db};

mod lanes;
mod relay;
pub(crate) use relay::Relay;

/// Adds events to transactions. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    wake: Notify,
    full: RwLock<Full>,
    bus: Bus,
}

/// Which events are refused because too many wait.
#[derive(Default, PartialEq, Eq)]
struct Full {
    /// All events.
    all: bool,
    /// Events for these destinations.
    destinations: BTreeSet<String>,
}

impl Shared {
    fn refusal(&self, destination: &str) -> Option<ApiError> {
        let full = self.full.read().unwrap_or_else(PoisonError::into_inner);
        if full.all {
            return Some(ApiError::Unavailable("too many events wait for the broker".into()));
        }
        let refused = full.destinations.contains(destination);
        refused.then(|| ApiError::Unavailable(format!("too many events wait for {destination}").into()))
    }

    /// Sets what is refused, and logs the changes.
    fn set(&self, full: Full) {
        let mut current = self.full.write().unwrap_or_else(PoisonError::into_inner);
        if full.all && !current.all {
            tracing::error!("outbox is full: new work is refused");
        }
        for destination in full.destinations.difference(&current.destinations) {
            tracing::error!(destination, "outbox is full for a destination: new work for it is refused");
        }
        if *current != Full::default() && full == Full::default() {
            tracing::info!("outbox takes new work again");
        }
        *current = full;
    }
}

impl Outbox {
    pub(crate) fn new(db: Db, bus: Bus, settings: &BrokerSettings) -> (Outbox, Relay) {
        let shared = Shared { wake: Notify::new(), full: RwLock::default(), bus: bus.clone() };
        let outbox = Outbox { shared: Arc::new(shared) };
        (outbox.clone(), Relay::new(db, bus, outbox, settings))
    }

    /// Adds `event`, as part of the current workflow, to the transaction of the effect that it announces.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when too many events wait for the broker, or for the event's destination.
    pub fn add<E: Event>(&self, tx: &mut Tx, event: &E) -> Result<(), ApiError> {
        self.add_in(tx, event, Context::current())
    }

    /// [`Outbox::add`] as part of the workflow `context`.
    ///
    /// # Errors
    /// As [`Outbox::add`].
    pub fn add_in<E: Event>(&self, tx: &mut Tx, event: &E, context: Context) -> Result<(), ApiError> {
        if let Some(refusal) = self.shared.refusal(E::DESTINATION.name()) {
            return Err(refusal);
        }
        let message = Message::of(event, context)?;
        tx.hook(|| Events { outbox: self.clone(), messages: Vec::new() })
            .messages
            .push((message, E::DESTINATION));
        Ok(())
    }
}

/// The events of one transaction, written together right before its commit.
struct Events {
    outbox: Outbox,
    messages: Vec<(Message, Destination)>,
}

impl CommitHook for Events {
    fn before_commit<'a>(&'a mut self, tx: &'a mut PgConnection) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(self.write(tx))
    }

    /// Wakes the relay: the rows are visible now.
    fn after_commit(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.outbox.shared.wake.notify_one();
        Box::pin(async move {
            // Without the outbox, events are published after the commit and may be lost.
            if disabled(Protection::Outbox) {
                let shared = &self.outbox.shared;
                join_all(self.messages.into_iter().map(|(message, _)| shared.bus.send(message))).await;
            }
        })
    }
}

impl Events {
    async fn write(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        for (message, destination) in &self.messages {
            failpoint::written(tx, &message.id, destination.queues()).await?;
        }
        if disabled(Protection::Outbox) {
            return Ok(());
        }
        match &self.messages[..] {
            [(message, _)] => write_one(tx, message).await,
            several => write_several(tx, several).await,
        }
    }
}

/// [`write_several`] for one event, where `unnest` would cost the database a fifth more.
async fn write_one(tx: &mut PgConnection, message: &Message) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (message_id, event, destination, context, body)
         VALUES ($1::text::uuid, $2, $3, $4, $5)",
    )
    .bind(&message.id)
    .bind(message.event.as_ref())
    .bind(message.address.name())
    .bind(Json(&message.context))
    .bind(message.body.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_several(
    tx: &mut PgConnection,
    messages: &[(Message, Destination)],
) -> Result<(), sqlx::Error> {
    let messages = || messages.iter().map(|(message, _)| message);
    sqlx::query(
        "INSERT INTO outbox (message_id, event, destination, context, body)
         SELECT * FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::bytea[])",
    )
    .bind(messages().map(|message| message.id.as_str()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.event.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.address.name()).collect::<Vec<_>>())
    .bind(messages().map(|message| Json(&message.context)).collect::<Vec<_>>())
    .bind(messages().map(|message| message.body.as_slice()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
