//! Consumers whose handler applies an event in a transaction. Events that wait at the same time share the transaction, so that
//! one commit serves several events.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::handler::{Incoming, Outcome};
use super::subscription::{
    BATCH, BatchHandler, Consumer, Delivery, HandlerResult, in_workflow, together_or_alone,
};
use crate::db::Tx;
use crate::events::{Event, Queue};
use crate::failpoint::{self, Protection, disabled};
use crate::{Db, inbox};

/// An async fn that applies an event in a transaction.
pub trait TransactionHandler<'tx, S, E> {
    type Applying: Future<Output = HandlerResult> + Send + 'tx;
    fn apply(&self, state: S, tx: &'tx mut Tx, event: Incoming<E>) -> Self::Applying;
}

impl<'tx, S, E, F, Fut> TransactionHandler<'tx, S, E> for F
where
    F: Fn(S, &'tx mut Tx, Incoming<E>) -> Fut,
    Fut: Future<Output = HandlerResult> + Send + 'tx,
{
    type Applying = Fut;
    fn apply(&self, state: S, tx: &'tx mut Tx, event: Incoming<E>) -> Fut {
        self(state, tx, event)
    }
}

/// A consumer whose handler applies one event after the other in a transaction that they share. The inbox recognises events
/// that were applied before. If an event fails, the transaction is rolled back and each event gets a transaction of its own.
pub fn transaction<S, E, F>(db: &Db, queue: Queue<E>, handler: F) -> Consumer<S, E>
where
    S: Clone + Send + Sync + 'static,
    E: Event,
    F: for<'tx> TransactionHandler<'tx, S, E> + Send + Sync + 'static,
{
    let shared = InTransaction { db: db.clone(), queue: queue.name, handler, event: PhantomData };
    Consumer::new(queue, BATCH, Arc::new(shared))
}

struct InTransaction<E, F> {
    db: Db,
    queue: &'static str,
    handler: F,
    event: PhantomData<fn(E)>,
}

impl<S, E, F> BatchHandler<S> for InTransaction<E, F>
where
    S: Clone + Send + Sync,
    E: Event,
    F: for<'tx> TransactionHandler<'tx, S, E> + Send + Sync,
{
    fn handle<'a>(&'a self, state: &'a S, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>> {
        Box::pin(together_or_alone(self.queue, batch, move |events| self.apply(state, events)))
    }
}

impl<E: Event, F> InTransaction<E, F> {
    /// Applies all of these events or none.
    async fn apply<S>(&self, state: &S, events: Vec<Incoming<E>>) -> HandlerResult<Vec<Outcome>>
    where
        S: Clone + Send + Sync,
        F: for<'tx> TransactionHandler<'tx, S, E>,
    {
        let queue = self.queue;
        let (mut tx, mut new) = inbox::begin_together(&self.db, queue, &events).await?;
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            if !new.remove(&event.message_id) && !disabled(Protection::Inbox) {
                outcomes.push(Outcome::Duplicate);
                continue;
            }
            failpoint::applied(&mut tx, queue, &event.message_id).await?;
            let context = event.context.clone();
            let applying = self.handler.apply(state.clone(), &mut tx, event);
            outcomes.push(in_workflow(queue, context, applying).await?);
        }
        tx.commit().await?;
        Ok(outcomes)
    }
}
