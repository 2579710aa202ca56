//! Events that must not be lost: written in the transaction of the effect they announce, sent by a relay that deletes a row
//! only when the broker has confirmed it. While the broker is away, or a destination does not take its events, work is still
//! accepted, up to a bound.

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

/// Where a handler leaves its events. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    wake: Notify,
    doors: RwLock<Doors>,
    bus: Bus,
}

/// What is refused because too much of it waits.
#[derive(Default, PartialEq, Eq)]
struct Doors {
    all_closed: bool,
    /// Destinations.
    closed: BTreeSet<String>,
}

impl Shared {
    fn refusal(&self, destination: &str) -> Option<ApiError> {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        if doors.all_closed {
            return Some(ApiError::Unavailable("too many events wait for the broker".into()));
        }
        let closed = doors.closed.contains(destination);
        closed.then(|| ApiError::Unavailable(format!("too many events wait for {destination}").into()))
    }

    /// Logs what changes.
    fn set(&self, doors: Doors) {
        let mut current = self.doors.write().unwrap_or_else(PoisonError::into_inner);
        if doors.all_closed && !current.all_closed {
            tracing::error!("outbox is full: new work is refused");
        }
        for destination in doors.closed.difference(&current.closed) {
            tracing::error!(destination, "outbox is full for a destination: new work for it is refused");
        }
        if *current != Doors::default() && doors == Doors::default() {
            tracing::info!("outbox takes new work again");
        }
        *current = doors;
    }
}

impl Outbox {
    pub(crate) fn new(db: Db, bus: Bus, settings: &BrokerSettings) -> (Outbox, Relay) {
        let shared = Shared { wake: Notify::new(), doors: RwLock::default(), bus: bus.clone() };
        let outbox = Outbox { shared: Arc::new(shared) };
        (outbox.clone(), Relay::new(db, bus, outbox, settings))
    }

    /// Leaves `event` in the transaction that makes it true, as part of the current workflow.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when too much waits for the broker already, or for the event's destination.
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

/// [`write_several`] for one alone: a set of one costs the database a fifth more.
async fn write_one(tx: &mut PgConnection, message: &Message) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (message_id, event, exchange, routing_key, context, body)
         VALUES ($1::text::uuid, $2, $3, $4, $5, $6)",
    )
    .bind(&message.id)
    .bind(message.event.as_ref())
    .bind(message.exchange.as_ref())
    .bind(message.routing_key.as_ref())
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
        "INSERT INTO outbox (message_id, event, exchange, routing_key, context, body)
         SELECT * FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[])",
    )
    .bind(messages().map(|message| message.id.as_str()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.event.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.exchange.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.routing_key.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| Json(&message.context)).collect::<Vec<_>>())
    .bind(messages().map(|message| message.body.as_slice()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
