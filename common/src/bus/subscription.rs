//! How a service declares its consumers, and how a batch of deliveries is handled, whatever the transport.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::events::Destination;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::Histogram;
use tracing::Instrument;

use super::body;
use super::handler::{HandlerError, Incoming, Outcome};
use super::policy::{self, Attempts, Disposition};
use super::rewind::Rewind;
use crate::context::{Context, now_us};
use crate::events::{Event, Queue};
use crate::otel::{Span, Spans};
use crate::telemetry::{self, Handling};
use crate::{effects, metrics};

/// Events that are handled together unless the consumer says otherwise.
pub(super) const BATCH: usize = 64;

/// A message as a transport received it.
#[derive(Debug)]
pub struct Delivery {
    /// When this process began with it.
    pub(crate) received: Instant,
    pub(crate) message_id: String,
    pub(crate) context: Context,
    pub(crate) published_us: Option<i64>,
    pub(crate) attempts: Attempts,
    pub(crate) body: Vec<u8>,
}

impl Delivery {
    /// The event in the body; rejected if the body does not parse or violates a rule.
    pub(super) fn read<E: Event>(&self, queue: &'static str) -> Result<Incoming<E>, HandlerError> {
        let event: E =
            body::read(&self.body).map_err(|reason| HandlerError::Reject(anyhow::anyhow!(reason)))?;
        let message_id = E::id(&event).map_or_else(|| self.message_id.clone(), str::to_owned);
        Ok(Incoming { event, queue, message_id, context: self.context.clone() })
    }
}

pub(super) type HandlerResult<T = Outcome> = Result<T, HandlerError>;

/// A handler of deliveries of one queue, in any of its shapes.
pub trait BatchHandler<S>: Send + Sync {
    /// One result a delivery, in order.
    fn handle<'a>(&'a self, state: &'a S, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>>;
}

/// What comes before a delivery is handed to its handler. A result means that it need not be.
type First<S> = Arc<dyn Fn(&S, &Delivery) -> BoxFuture<'static, Option<HandlerResult>> + Send + Sync>;

/// One queue with its handler. Made by [`consumer`] or [`transaction`](super::transaction).
pub struct Consumer<S, E> {
    queue: Queue<E>,
    concurrency: Option<u16>,
    batch: usize,
    first: Option<First<S>>,
    steps_over: bool,
    rewind: Option<Rewind>,
    handler: Arc<dyn BatchHandler<S>>,
}

impl<S, E> Consumer<S, E>
where
    S: Clone + Send + Sync + 'static,
    E: Event,
{
    pub(super) fn new(queue: Queue<E>, batch: usize, handler: Arc<dyn BatchHandler<S>>) -> Consumer<S, E> {
        Consumer { queue, concurrency: None, batch, first: None, steps_over: false, rewind: None, handler }
    }

    /// The number of events that are handled at the same time, instead of `CONSUMER_PREFETCH`: for work that is bounded by the
    /// processor.
    pub fn concurrency(mut self, concurrency: u16) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// Takes up to `size` waiting events at once and acknowledges them together. A handler of single events handles them one
    /// after the other.
    pub fn batch(mut self, size: usize) -> Self {
        self.batch = size;
        self
    }

    /// Acknowledges what can never be applied, and leaves it to the dead-letter queue of another reader of the destination.
    pub fn stepping_over_rejected(mut self) -> Self {
        self.steps_over = true;
        self
    }

    /// Goes back to the first event when `rewind` says so.
    pub fn rewound_by(mut self, rewind: &Rewind) -> Self {
        rewind.expect();
        self.rewind = Some(rewind.clone());
        self
    }

    /// Handles each event this long after its delivery. Delays run side by side and hold no connection to the database.
    pub fn delay(self, delay: Duration) -> Self {
        if delay.is_zero() {
            return self;
        }
        self.first_of(move |_, _| {
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                None
            })
        })
    }

    /// Runs `first` for each event, side by side, before the handler. An outcome from `first` ends the event without the handler.
    /// Replaces a [`delay`](Self::delay).
    pub fn first<F, Fut>(self, first: F) -> Self
    where
        F: Fn(S, Incoming<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult<Option<Outcome>>> + Send + 'static,
    {
        let queue = self.queue.name;
        self.first_of(move |state, delivery| match delivery.read::<E>(queue) {
            Err(error) => Box::pin(async { Some(Err(error)) }),
            Ok(event) => {
                let context = event.context.clone();
                let running = in_workflow(queue, context, first(state.clone(), event));
                Box::pin(async { running.await.transpose() })
            }
        })
    }

    fn first_of(
        mut self,
        first: impl Fn(&S, &Delivery) -> BoxFuture<'static, Option<HandlerResult>> + Send + Sync + 'static,
    ) -> Self {
        self.first = Some(Arc::new(first));
        self
    }
}

/// What a handler takes: one event, or several.
pub trait Input {
    type Event: Event;
    /// What the handler returns: one outcome, or one for each event in order.
    type Output;
    /// Deliveries that are handled together by default.
    const BATCH: usize;
}

impl<E: Event> Input for Incoming<E> {
    type Event = E;
    type Output = Outcome;
    const BATCH: usize = 1;
}

impl<E: Event> Input for Vec<Incoming<E>> {
    type Event = E;
    type Output = Vec<Outcome>;
    const BATCH: usize = BATCH;
}

/// A consumer whose handler takes an [`Incoming`] event, or a `Vec` of them, and manages its own transactions. If a handler of
/// several events fails, it is called again for each of them alone, so that one event does not affect its neighbours.
pub fn consumer<S, I, F, Fut>(queue: Queue<I::Event>, handler: F) -> Consumer<S, I::Event>
where
    S: Clone + Send + Sync + 'static,
    I: Input,
    F: Fn(S, I) -> Fut,
    Fut: Future<Output = HandlerResult<I::Output>>,
    OnItsOwn<F, I>: BatchHandler<S> + 'static,
{
    let queue_name = queue.name;
    Consumer::new(queue, I::BATCH, Arc::new(OnItsOwn { queue: queue_name, handler, input: PhantomData }))
}

pub struct OnItsOwn<F, I> {
    queue: &'static str,
    handler: F,
    input: PhantomData<fn(I)>,
}

impl<S, E, F, Fut> BatchHandler<S> for OnItsOwn<F, Incoming<E>>
where
    S: Clone + Send + Sync,
    E: Event,
    F: Fn(S, Incoming<E>) -> Fut + Send + Sync,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    fn handle<'a>(&'a self, state: &'a S, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(batch.len());
            for delivery in batch {
                let unavailable = match results.last() {
                    Some(Err(error @ HandlerError::Unavailable(_))) => Some(error.replicate()),
                    _ => None,
                };
                results.push(match (unavailable, delivery.read(self.queue)) {
                    (Some(error), _) | (None, Err(error)) => Err(error),
                    (None, Ok(event)) => {
                        let context = delivery.context.clone();
                        in_workflow(self.queue, context, (self.handler)(state.clone(), event)).await
                    }
                });
            }
            results
        })
    }
}

impl<S, E, F, Fut> BatchHandler<S> for OnItsOwn<F, Vec<Incoming<E>>>
where
    S: Clone + Send + Sync,
    E: Event,
    F: Fn(S, Vec<Incoming<E>>) -> Fut + Send + Sync,
    Fut: Future<Output = HandlerResult<Vec<Outcome>>> + Send + 'static,
{
    fn handle<'a>(&'a self, state: &'a S, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>> {
        Box::pin(together_or_alone(self.queue, batch, |events| (self.handler)(state.clone(), events)))
    }
}

/// Runs a handler of one event within the event's workflow. A panic is an error.
pub(super) async fn in_workflow<T>(
    queue: &'static str,
    context: Context,
    running: impl Future<Output = HandlerResult<T>>,
) -> HandlerResult<T> {
    let span = tracing::info_span!("event", queue, request_id = context.workflow);
    caught(context.scope(running).instrument(span)).await
}

/// A panic is an error.
async fn caught<T>(running: impl Future<Output = HandlerResult<T>>) -> HandlerResult<T> {
    let ended = AssertUnwindSafe(running).catch_unwind().await;
    ended.unwrap_or_else(|panic| Err(HandlerError::panicked(&*panic)))
}

/// Has the events of a batch handled together. If that fails, each is handled alone, so that one event does not affect its
/// neighbours.
pub(super) async fn together_or_alone<E, Fut>(
    queue: &'static str,
    batch: &[&Delivery],
    handle: impl Fn(Vec<Incoming<E>>) -> Fut,
) -> Vec<HandlerResult>
where
    E: Event,
    Fut: Future<Output = HandlerResult<Vec<Outcome>>>,
{
    let mut results: Vec<HandlerResult> = Vec::with_capacity(batch.len());
    let (mut events, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for (place, delivery) in batch.iter().enumerate() {
        results.push(match delivery.read(queue) {
            Ok(event) => {
                events.push(event);
                places.push(place);
                Ok(Outcome::Applied)
            }
            Err(error) => Err(error),
        });
    }
    if events.is_empty() {
        return results;
    }
    let failed = match caught(handle(events)).await {
        Ok(outcomes) => {
            for (place, outcome) in places.into_iter().zip(outcomes) {
                results[place] = Ok(outcome);
            }
            return results;
        }
        Err(error) => error,
    };
    let alone = places.len() > 1 && !matches!(failed, HandlerError::Unavailable(_));
    for place in places {
        results[place] = match batch[place].read(queue) {
            Ok(event) if alone => caught(handle(vec![event])).await.map(|outcomes| outcomes[0]),
            _ => Err(failed.replicate()),
        };
    }
    results
}

/// A consumer with its state: what a transport works on.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub queue: &'static str,
    /// The name of its event.
    pub event: &'static str,
    /// How its event reaches the queue.
    pub destination: Destination,
    /// The body under which a delivery is dead-lettered, from its body and the reason.
    pub dead_letter: fn(&[u8], &str) -> Vec<u8>,
    concurrency: Option<u16>,
    /// Deliveries that are handled together; 1 if each is handled in a task of its own.
    pub batch: usize,
    /// Whether something comes before a delivery is handled.
    pub has_first: bool,
    /// Whether a delivery that is rejected is acknowledged, not dead-lettered.
    steps_over: bool,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only a log can be read again"))]
    pub rewind: Option<Rewind>,
    handler: Arc<dyn Bound>,
}

/// A handler with its state.
trait Bound: Send + Sync {
    fn first(&self, delivery: &Delivery) -> Option<BoxFuture<'static, Option<HandlerResult>>>;
    fn handle<'a>(&'a self, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>>;
}

struct WithState<S> {
    state: S,
    first: Option<First<S>>,
    handler: Arc<dyn BatchHandler<S>>,
}

impl<S: Send + Sync> Bound for WithState<S> {
    fn first(&self, delivery: &Delivery) -> Option<BoxFuture<'static, Option<HandlerResult>>> {
        self.first.as_ref().map(|first| first(&self.state, delivery))
    }

    fn handle<'a>(&'a self, batch: &'a [&'a Delivery]) -> BoxFuture<'a, Vec<HandlerResult>> {
        self.handler.handle(&self.state, batch)
    }
}

impl Subscription {
    /// Deliveries that may be unacknowledged at the same time; `default` is the service's setting.
    pub(crate) fn prefetch(&self, default: u16) -> u16 {
        let batches = u16::try_from(2 * self.batch).unwrap_or(u16::MAX);
        self.concurrency.unwrap_or_else(|| default.max(batches))
    }

    /// What comes before the delivery is handled. A disposition means that it need not be handled.
    pub(super) async fn first(&self, delivery: &Delivery, spans: &Spans) -> Option<Disposition> {
        let result = self.handler.first(delivery)?.await?;
        let ages = metrics::get().event_age.with_label_values(&[self.queue]);
        Some(self.ended(delivery, result, spans, &ages))
    }

    /// Has a batch handled: one disposition a delivery, in order.
    pub(super) async fn handle_batch(&self, batch: &[&Delivery], spans: &Spans) -> Vec<Disposition> {
        let started = Instant::now();
        let results = self.handler.handle(batch).await;
        // What comes first takes a different time for each delivery; otherwise a batch has one.
        if !self.has_first {
            self.observe_handling(started);
        }
        let ages = metrics::get().event_age.with_label_values(&[self.queue]);
        let ended = batch.iter().zip(results);
        ended.map(|(delivery, result)| self.ended(delivery, result, spans, &ages)).collect()
    }

    fn observe_handling(&self, since: Instant) {
        if metrics::counting() {
            let handling = metrics::get().event_handling.with_label_values(&[self.queue]);
            handling.observe(since.elapsed().as_secs_f64());
        }
    }

    /// Reports how handling a delivery ended, and decides what happens to it.
    fn ended(
        &self,
        delivery: &Delivery,
        result: HandlerResult,
        spans: &Spans,
        ages: &Histogram,
    ) -> Disposition {
        let now = now_us();
        let age = delivery.published_us.map(|us| (now - us).max(0) as f64 / 1e6);
        let (outcome, failure) = match &result {
            Ok(outcome) => (outcome.as_str(), None),
            Err(error) => (error.as_str(), Some(error.reason())),
        };
        if let Ok(Outcome::Completed(effect, how)) = result {
            effects::completed_in(effect, &delivery.context, how);
        }
        if let (Ok(_), Some(age), true) = (&result, age, metrics::counting()) {
            ages.observe(age);
        }
        if self.has_first {
            self.observe_handling(delivery.received);
        }
        // A delivery that waits is handled again under the same id, so it has no span yet.
        let span = match result {
            Err(HandlerError::Unavailable(_)) => Span::none(),
            _ => spans.handling(self.queue, &delivery.message_id, &delivery.context, delivery.received),
        };
        let seconds = delivery.received.elapsed().as_secs_f64();
        let handling = Handling { queue: self.queue, outcome, failure: failure.as_deref(), seconds, age };
        telemetry::handled(span, &delivery.context, handling);
        match result {
            Err(HandlerError::Reject(_)) if self.steps_over => Disposition::StepOver,
            result => policy::decide(result, delivery.attempts, now),
        }
    }
}

/// All consumers of a service.
pub struct Consumers<S> {
    state: S,
    subscriptions: Vec<Subscription>,
}

impl<S: Clone + Send + Sync + 'static> Consumers<S> {
    /// Without a consumer yet. Each handler gets a clone of `state`.
    pub fn of(state: S) -> Consumers<S> {
        Consumers { state, subscriptions: Vec::new() }
    }

    pub fn with<E: Event>(mut self, consumer: Consumer<S, E>) -> Self {
        let Consumer { queue, concurrency, batch, first, steps_over, rewind, handler } = consumer;
        let has_first = first.is_some();
        let handler = WithState { state: self.state.clone(), first, handler };
        self.subscriptions.push(Subscription {
            queue: queue.name,
            event: E::NAME,
            destination: E::DESTINATION,
            dead_letter: E::dead_letter,
            concurrency,
            batch,
            has_first,
            steps_over,
            rewind,
            handler: Arc::new(handler),
        });
        self
    }

    pub(crate) fn into_subscriptions(self) -> Vec<Subscription> {
        self.subscriptions
    }
}
