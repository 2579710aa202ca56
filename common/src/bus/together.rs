//! Events that are ready at the same time share a transaction: as many commits as there is time for, not one for each event.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use contract::Effect;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::consume::{Handled, HandlerError, Incoming};
use crate::db::Tx;
use crate::failpoint::{self, Protection, disabled};
use crate::pace::Pace;
use crate::{Db, effects, inbox};

/// Events that share a transaction, at most.
pub(super) const TOGETHER: usize = 64;

/// What an event did in a transaction that it may share.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Applied,
    /// It was the final effect of its workflow, with this outcome.
    Completed(Effect, &'static str),
    /// It had been applied before; nothing was changed.
    Duplicate,
}

/// An async fn that applies an event in a transaction.
pub trait InTransaction<'tx, S, E> {
    type Ending: Future<Output = Result<Outcome, HandlerError>> + Send + 'tx;
    fn apply(&self, state: S, tx: &'tx mut Tx, event: Incoming<E>) -> Self::Ending;
}

impl<'tx, S, E, F, Fut> InTransaction<'tx, S, E> for F
where
    F: Fn(S, &'tx mut Tx, Incoming<E>) -> Fut,
    Fut: Future<Output = Result<Outcome, HandlerError>> + Send + 'tx,
{
    type Ending = Fut;
    fn apply(&self, state: S, tx: &'tx mut Tx, event: Incoming<E>) -> Fut {
        self(state, tx, event)
    }
}

/// Applies `events` of one queue in one transaction: all of them or none.
pub(super) async fn apply<S, E, F>(
    db: &Db,
    queue: &'static str,
    state: S,
    events: Vec<Incoming<E>>,
    handler: &F,
) -> Result<Vec<Handled>, HandlerError>
where
    S: Clone,
    F: for<'tx> InTransaction<'tx, S, E>,
{
    let (mut tx, mut new) = inbox::begin_together(db, queue, &events).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        if !new.remove(&event.message_id) && !disabled(Protection::Inbox) {
            outcomes.push((event.context, Outcome::Duplicate));
            continue;
        }
        failpoint::applied(&mut tx, queue, &event.message_id).await?;
        let context = event.context.clone();
        let span = tracing::info_span!("event", queue, request_id = context.workflow);
        let applying = handler.apply(state.clone(), &mut tx, event);
        outcomes.push((context.clone(), context.scope(applying).instrument(span).await?));
    }
    tx.commit().await?;
    let handled = outcomes.iter().map(|(context, outcome)| match outcome {
        Outcome::Applied => Handled::Applied,
        Outcome::Completed(effect, how) => {
            effects::completed_in(*effect, context, how);
            Handled::Applied
        }
        Outcome::Duplicate => Handled::Duplicate,
    });
    Ok(handled.collect())
}

/// Where events that each had something to wait for first meet those that are ready, too.
pub(super) struct Meeting<S, E, F> {
    db: Db,
    queue: &'static str,
    state: S,
    handler: F,
    ready: Mutex<Vec<Ready<E>>>,
    turn: tokio::sync::Mutex<Pace>,
}

/// An event, and who waits for what becomes of it.
struct Ready<E> {
    event: Incoming<E>,
    outcome: oneshot::Sender<Result<Handled, HandlerError>>,
}

impl<S, E, F> Meeting<S, E, F>
where
    S: Clone,
    E: Clone,
    F: for<'tx> InTransaction<'tx, S, E>,
{
    pub(super) fn new(db: Db, queue: &'static str, state: S, handler: F) -> Meeting<S, E, F> {
        let (ready, turn) = (Mutex::default(), tokio::sync::Mutex::new(Pace::new()));
        Meeting { db, queue, state, handler, ready, turn }
    }

    /// Has `event` applied: by whoever of those that are ready takes the turn, for all of them.
    pub(super) async fn join(&self, event: Incoming<E>) -> Result<Handled, HandlerError> {
        let (outcome, mut settled) = oneshot::channel();
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(Ready { event, outcome });
        loop {
            tokio::select! {
                biased;
                settled = &mut settled => return settled.unwrap_or_else(|_| Err(left_alone())),
                mut pace = self.turn.lock() => {
                    pace.turn().await;
                    self.serve().await;
                }
            }
        }
    }

    /// Applies those that have been ready for the longest time.
    async fn serve(&self) {
        let (events, outcomes) = self.take();
        match self.attempt(events.clone()).await {
            Ok(handled) => {
                for (outcome, handled) in outcomes.into_iter().zip(handled) {
                    outcome.send(Ok(handled)).ok();
                }
            }
            // Which one of them was it? Each on its own, so that its neighbours are served.
            Err(HandlerError::Retry(_) | HandlerError::Reject(_)) if events.len() > 1 => {
                for (event, outcome) in events.into_iter().zip(outcomes) {
                    let alone = self.attempt(vec![event]).await;
                    outcome.send(alone.map(|mut handled| handled.remove(0))).ok();
                }
            }
            Err(error) => {
                for outcome in outcomes {
                    outcome.send(Err(error.again())).ok();
                }
            }
        }
    }

    /// Without those whose task has ended: they come again.
    #[expect(clippy::type_complexity, reason = "two columns")]
    fn take(&self) -> (Vec<Incoming<E>>, Vec<oneshot::Sender<Result<Handled, HandlerError>>>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|ready| !ready.outcome.is_closed());
        let most = ready.len().min(TOGETHER);
        ready.drain(..most).map(|Ready { event, outcome }| (event, outcome)).unzip()
    }

    /// A panic of the handler's is an error like others.
    async fn attempt(&self, events: Vec<Incoming<E>>) -> Result<Vec<Handled>, HandlerError> {
        let applying = apply(&self.db, self.queue, self.state.clone(), events, &self.handler);
        let attempted = AssertUnwindSafe(applying).catch_unwind().await;
        attempted.unwrap_or_else(|panic| Err(HandlerError::panicked(&*panic)))
    }
}

fn left_alone() -> HandlerError {
    HandlerError::Away(anyhow::anyhow!("the transaction that it shared was given up"))
}
