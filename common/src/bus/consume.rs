//! How a handler is declared, run and judged, whatever the transport. A handler is an async fn whose second argument says
//! which event it takes. What does not parse is dead; an error says whether time may heal it; a panic counts as an error;
//! a database that is away costs no attempt.

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::events::Destination;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::together::{self, InTransaction, Meeting, TOGETHER};
use crate::context::{Context, now_us};
use crate::events::{Event, Queue};
use crate::otel::{Begun, Spans};
use crate::tasks::panic_text;
use crate::telemetry::{self, Handling};
use crate::{ApiError, Db, db, metrics};

/// Deliveries of one message before it is set aside.
pub const MAX_ATTEMPTS: u32 = 5;

/// An event that was received, with what travelled in its properties.
#[derive(Clone, Debug)]
pub struct Incoming<E> {
    pub event: E,
    pub queue: &'static str,
    pub message_id: String,
    pub context: Context,
}

impl<E> Deref for Incoming<E> {
    type Target = E;
    fn deref(&self) -> &E {
        &self.event
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    Applied,
    /// It had been applied before; nothing was changed.
    Duplicate,
}

impl Handled {
    /// As metrics and logs have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Handled::Applied => "ok",
            Handled::Duplicate => "duplicate",
        }
    }
}

/// Why an event could not be applied.
#[derive(Debug)]
pub enum HandlerError {
    /// Time may heal it: tried again after 1, 10, 60 and 60 s, then set aside.
    Retry(anyhow::Error),
    /// It cannot be applied, ever: set aside at once.
    Reject(anyhow::Error),
    /// The database is away: the event waits, no attempt is counted.
    Away(anyhow::Error),
}

impl HandlerError {
    pub fn retry(error: impl Into<anyhow::Error>) -> HandlerError {
        HandlerError::Retry(error.into())
    }

    pub fn reject(error: impl Into<anyhow::Error>) -> HandlerError {
        HandlerError::Reject(error.into())
    }

    pub(super) fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
        HandlerError::Retry(anyhow::anyhow!("the handler panicked: {}", panic_text(panic)))
    }

    /// The same for another event.
    pub(super) fn again(&self) -> HandlerError {
        let again = |error: &anyhow::Error| anyhow::anyhow!("{error:#}");
        match self {
            HandlerError::Retry(error) => HandlerError::Retry(again(error)),
            HandlerError::Reject(error) => HandlerError::Reject(again(error)),
            HandlerError::Away(error) => HandlerError::Away(again(error)),
        }
    }
}

impl From<sqlx::Error> for HandlerError {
    fn from(error: sqlx::Error) -> HandlerError {
        if db::is_outage(&error) {
            HandlerError::Away(error.into())
        } else if db::refuses_data(&error) {
            HandlerError::Reject(error.into())
        } else {
            HandlerError::Retry(error.into())
        }
    }
}

impl From<ApiError> for HandlerError {
    fn from(error: ApiError) -> HandlerError {
        match error {
            ApiError::Unavailable(_) => HandlerError::Away(error.into()),
            ApiError::NotFound(_) | ApiError::Invalid(_) | ApiError::Conflict(_) => {
                HandlerError::Reject(error.into())
            }
            // What the database said decides, whichever way it came here.
            ApiError::Internal(cause) => match cause.downcast::<sqlx::Error>() {
                Ok(error) => error.into(),
                Err(cause) => HandlerError::Retry(cause),
            },
            _ => HandlerError::Retry(error.into()),
        }
    }
}

/// A message as a transport received it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub message_id: String,
    pub context: Context,
    pub published_us: Option<i64>,
    pub body: Vec<u8>,
}

/// What a transport has to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done(Handled),
    Retry(String),
    Dead(String),
    Away(String),
}

impl Verdict {
    fn as_str(&self) -> &'static str {
        match self {
            Verdict::Done(handled) => handled.as_str(),
            Verdict::Retry(_) => "failed",
            Verdict::Dead(_) => "rejected",
            Verdict::Away(_) => "waiting",
        }
    }

    /// Why it was not applied.
    fn failure(&self) -> Option<&str> {
        match self {
            Verdict::Done(_) => None,
            Verdict::Retry(reason) | Verdict::Dead(reason) | Verdict::Away(reason) => Some(reason),
        }
    }
}

type Judged = BoxFuture<'static, Vec<Verdict>>;
type Judge = Arc<dyn Fn(Arc<[Raw]>) -> Judged + Send + Sync>;

/// One queue and the handler that reads it.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub queue: &'static str,
    /// The name of its event.
    pub event: &'static str,
    /// How its event reaches the queue.
    pub destination: Destination,
    /// Messages that are worked on at once; the service's setting if `None`.
    pub concurrency: Option<u16>,
    /// Messages that are handed over together; 1 for a handler of single events.
    pub batch: usize,
    judge: Judge,
}

impl Subscription {
    /// Runs the handler over a batch: one verdict a message, in order.
    pub(crate) async fn judge(&self, batch: Arc<[Raw]>, spans: &Spans) -> Vec<Verdict> {
        let started = Instant::now();
        let begin = |raw: &Raw| spans.handling(self.queue, &raw.message_id, &raw.context);
        let hops: Vec<Begun> = batch.iter().map(begin).collect();
        let verdicts = (self.judge)(Arc::clone(&batch)).await;
        let (metrics, seconds) = (metrics::get(), started.elapsed().as_secs_f64());
        if metrics::counting() {
            metrics.event_handling.with_label_values(&[self.queue]).observe(seconds);
        }
        let ages = metrics.event_age.with_label_values(&[self.queue]);
        let waits = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Away(_)));
        for ((raw, verdict), hop) in batch.iter().zip(&verdicts).zip(hops) {
            let age = raw.published_us.map(|us| (now_us() - us).max(0) as f64 / 1e6);
            if let (Some(age), Verdict::Done(_), true) = (age, verdict, metrics::counting()) {
                ages.observe(age);
            }
            // Judged again, under the same id: its span is that of the last time.
            let again = waits || (batch.len() > 1 && matches!(verdict, Verdict::Retry(_)));
            let hop = if again { Begun::nowhere() } else { hop };
            let (queue, outcome, failure) = (self.queue, verdict.as_str(), verdict.failure());
            telemetry::handled(hop, &raw.context, Handling { queue, outcome, failure, seconds, age });
        }
        verdicts
    }
}

/// All subscriptions of a service: they stand on one screen.
pub struct Consumers<S> {
    state: S,
    subscriptions: Vec<Subscription>,
}

impl<S: Clone + Send + Sync + 'static> Consumers<S> {
    pub fn of(state: S) -> Consumers<S> {
        Consumers { state, subscriptions: Vec::new() }
    }

    /// `handler` reads `queue`, one event at a time, as many at once as `CONSUMER_PREFETCH` says.
    pub fn on<E, F, Fut>(self, queue: Queue<E>, handler: F) -> Self
    where
        E: Event,
        F: Fn(S, Incoming<E>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Handled, HandlerError>> + Send + 'static,
    {
        self.add(queue, None, 1, single(handler))
    }

    /// Like [`Consumers::on`], with `concurrency` events at once: for work that is bounded by the processor.
    pub fn on_with<E, F, Fut>(self, concurrency: u16, queue: Queue<E>, handler: F) -> Self
    where
        E: Event,
        F: Fn(S, Incoming<E>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Handled, HandlerError>> + Send + 'static,
    {
        self.add(queue, Some(concurrency), 1, single(handler))
    }

    /// Like [`Consumers::on`], for a handler that waits for nothing: one event after the other, acknowledged together.
    pub fn in_turn<E, F, Fut>(self, queue: Queue<E>, handler: F) -> Self
    where
        E: Event,
        F: Fn(S, Incoming<E>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Handled, HandlerError>> + Send + 'static,
    {
        self.add(queue, None, TOGETHER, single(handler))
    }

    /// `handler` reads up to `size` waiting events together and says of each what became of it.
    pub fn on_batch<E, F, Fut>(self, queue: Queue<E>, size: usize, handler: F) -> Self
    where
        E: Event,
        F: Fn(S, Vec<Incoming<E>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Handled>, HandlerError>> + Send + 'static,
    {
        self.add(queue, None, size, handler)
    }

    /// `handler` applies one event after the other in a transaction; those that wait at the same time share it.
    pub fn together<E, F>(self, db: &Db, queue: Queue<E>, handler: F) -> Self
    where
        E: Event,
        F: for<'tx> InTransaction<'tx, S, E> + Clone + Send + Sync + 'static,
    {
        let (db, name) = (db.clone(), queue.name);
        self.add(queue, None, TOGETHER, move |state, events| {
            let (db, handler) = (db.clone(), handler.clone());
            async move { together::apply(&db, name, state, events, &handler).await }
        })
    }

    /// [`Consumers::together`], for events that each have to wait so long first, side by side.
    pub fn together_after<E, F>(self, delay: Duration, db: &Db, queue: Queue<E>, handler: F) -> Self
    where
        E: Event + Clone,
        F: for<'tx> InTransaction<'tx, S, E> + Clone + Send + Sync + 'static,
    {
        if delay.is_zero() {
            return self.together(db, queue, handler);
        }
        let wait = move |_, _| async move {
            tokio::time::sleep(delay).await;
            Ok(None)
        };
        self.together_then(wait, db, queue, handler)
    }

    /// [`Consumers::together`], for events that each need something done first, side by side: `first` says what became of an
    /// event that needs no transaction any more.
    pub fn together_then<E, P, Fut, F>(self, first: P, db: &Db, queue: Queue<E>, handler: F) -> Self
    where
        E: Event + Clone,
        P: Fn(S, Incoming<E>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Handled>, HandlerError>> + Send + 'static,
        F: for<'tx> InTransaction<'tx, S, E> + Clone + Send + Sync + 'static,
    {
        let meeting = Arc::new(Meeting::new(db.clone(), queue.name, self.state.clone(), handler));
        self.on(queue, move |state: S, event: Incoming<E>| {
            let (first, meeting) = (first.clone(), Arc::clone(&meeting));
            async move {
                match first(state, event.clone()).await? {
                    Some(handled) => Ok(handled),
                    None => meeting.join(event).await,
                }
            }
        })
    }

    fn add<E, F, Fut>(mut self, queue: Queue<E>, concurrency: Option<u16>, batch: usize, handler: F) -> Self
    where
        E: Event,
        F: Fn(S, Vec<Incoming<E>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Handled>, HandlerError>> + Send + 'static,
    {
        let (state, name) = (self.state.clone(), queue.name);
        let judge: Judge =
            Arc::new(move |batch| Box::pin(judge(name, state.clone(), batch, handler.clone())));
        self.subscriptions.push(Subscription {
            queue: queue.name,
            event: E::NAME,
            destination: E::DESTINATION,
            concurrency,
            batch,
            judge,
        });
        self
    }

    pub(crate) fn into_subscriptions(self) -> Vec<Subscription> {
        self.subscriptions
    }
}

/// A handler of single events as one of batches.
fn single<S, E, F, Fut>(
    handler: F,
) -> impl Fn(S, Vec<Incoming<E>>) -> BoxFuture<'static, Result<Vec<Handled>, HandlerError>>
+ Clone
+ Send
+ Sync
+ 'static
where
    S: Clone + Send + 'static,
    E: Event,
    F: Fn(S, Incoming<E>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Handled, HandlerError>> + Send + 'static,
{
    move |state, events| {
        let handler = handler.clone();
        Box::pin(async move {
            let mut handled = Vec::with_capacity(events.len());
            for event in events {
                let context = event.context.clone();
                let span = tracing::info_span!("event", queue = event.queue, request_id = context.workflow);
                handled.push(context.scope(handler(state.clone(), event)).instrument(span).await?);
            }
            Ok(handled)
        })
    }
}

async fn judge<S, E, F, Fut>(queue: &'static str, state: S, batch: Arc<[Raw]>, handler: F) -> Vec<Verdict>
where
    S: Clone,
    E: Event,
    F: Fn(S, Vec<Incoming<E>>) -> Fut,
    Fut: Future<Output = Result<Vec<Handled>, HandlerError>>,
{
    let mut verdicts = vec![Verdict::Done(Handled::Applied); batch.len()];
    let mut events = Vec::with_capacity(batch.len());
    let mut places = Vec::with_capacity(batch.len());
    for (place, raw) in batch.iter().enumerate() {
        match read::<E>(&raw.body) {
            Ok(event) => {
                let (message_id, context) = (raw.message_id.clone(), raw.context.clone());
                events.push(Incoming { event, queue, message_id, context });
                places.push(place);
            }
            Err(reason) => verdicts[place] = Verdict::Dead(reason),
        }
    }
    if events.is_empty() {
        return verdicts;
    }
    let handled = AssertUnwindSafe(handler(state, events)).catch_unwind().await;
    let failed = match handled.unwrap_or_else(|panic| Err(HandlerError::panicked(&*panic))) {
        Ok(handled) => {
            for (place, handled) in places.iter().zip(handled) {
                verdicts[*place] = Verdict::Done(handled);
            }
            return verdicts;
        }
        Err(HandlerError::Retry(error)) => Verdict::Retry(format!("{error:#}")),
        // One of several: which one is found by judging each on its own, as after any other error.
        Err(HandlerError::Reject(error)) if places.len() > 1 => Verdict::Retry(format!("{error:#}")),
        Err(HandlerError::Reject(error)) => Verdict::Dead(format!("{error:#}")),
        Err(HandlerError::Away(error)) => Verdict::Away(format!("{error:#}")),
    };
    for place in places {
        verdicts[place] = failed.clone();
    }
    verdicts
}

/// The event in the body of a message; else why it can never be applied: what it lacks, or which rule it breaks. The same
/// rules hold for the call that takes its place in sync mode.
fn read<E: Event>(body: &[u8]) -> Result<E, String> {
    let does_not_parse = |why: &str| format!("does not parse as {}: {why}", E::NAME);
    if !E::MAY_BE_ARRAY && body.trim_ascii_start().first() == Some(&b'[') {
        return Err(does_not_parse("it is an array"));
    }
    let event: E =
        serde_json::from_slice(body).map_err(|error| does_not_parse(&without_values(&error.to_string())))?;
    event.validate().map_err(|report| {
        let broken: Vec<String> = report
            .iter()
            .map(|(path, error)| {
                let path = path.to_string();
                // The only field of an enum's variant has no name.
                format!("{}: {error}", path.strip_prefix("[0].").unwrap_or(&path))
            })
            .collect();
        format!("is no valid {}: {}", E::NAME, broken.join("; "))
    })?;
    Ok(event)
}

/// A parser's message without the value that it quotes: reasons are logged, bodies are not.
fn without_values(message: &str) -> String {
    // These quote a name of ours.
    let named = ["missing field", "duplicate field"].iter().any(|kind| message.starts_with(kind));
    let Some(value) = message.find(['"', '`']).filter(|_| !named) else { return message.to_owned() };
    let expected = message.rfind(", expected ").or_else(|| message.rfind(" at line "));
    let rest = expected.filter(|at| *at > value).map_or("", |at| &message[at..]);
    format!("{}…{rest}", &message[..value])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::events::*;

    /// Whether the reason for which a body is refused names `field`; a body without a defect is taken.
    fn refused<E: Event>(body: serde_json::Value, field: &str) -> bool {
        let refusal = read::<E>(body.to_string().as_bytes()).err();
        refusal.is_some_and(|reason| reason.starts_with(&format!("is no valid {}: {field}: ", E::NAME)))
    }

    #[test]
    fn every_rule_of_every_event_is_kept() {
        let order = |change: serde_json::Value| {
            let mut order = json!({"order_id": 1, "product_id": 1, "quantity": 1, "reason": "r", "payment_id": "p",
                                   "transaction_id": "t"});
            order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            order
        };
        let (long, nul) = ("x".repeat(5000), "a\u{0}b");
        assert!(read::<OrderCreated>(order(json!({})).to_string().as_bytes()).is_ok());
        for id in [0, -5] {
            let of = |field: &str| order(json!({ field: id }));
            assert!(refused::<OrderCreated>(of("order_id"), "order_id"));
            assert!(refused::<OrderCreated>(of("product_id"), "product_id"));
            assert!(refused::<OrderCreated>(of("quantity"), "quantity"));
            assert!(refused::<StockReserved>(of("order_id"), "order_id"));
            assert!(refused::<StockReserved>(of("product_id"), "product_id"));
            assert!(refused::<StockReserved>(of("quantity"), "quantity"));
            assert!(refused::<StockRejected>(of("order_id"), "order_id"));
            assert!(refused::<PaymentFailed>(of("order_id"), "order_id"));
            assert!(refused::<PaymentSucceeded>(of("order_id"), "order_id"));
            assert!(refused::<OrderCancelled>(of("order_id"), "order_id"));
        }
        assert!(refused::<OrderCreated>(order(json!({"quantity": 2_147_483_648_i64})), "quantity"));
        for text in ["", nul, &long] {
            let of = |field: &str| order(json!({ field: text }));
            assert!(refused::<StockRejected>(of("reason"), "reason"));
            assert!(refused::<PaymentFailed>(of("reason"), "reason"));
            assert!(refused::<PaymentFailed>(of("payment_id"), "payment_id"));
            assert!(refused::<OrderCancelled>(of("reason"), "reason"));
            assert!(refused::<PaymentSucceeded>(of("payment_id"), "payment_id"));
            assert!(refused::<PaymentSucceeded>(of("transaction_id"), "transaction_id"));
            let job = json!({"job_id": text, "report_type": "t"});
            assert!(refused::<GenerateReportJob>(job, "job_id"));
            let job = json!({"job_id": "j", "report_type": text});
            assert!(refused::<GenerateReportJob>(job, "report_type"));
            let product = json!({"product_id": 1, "name": text, "stock": 0, "version": 1});
            assert!(refused::<ProductUpdated>(product, "name"));
            let click = json!({"event_id": Uuid::nil(), "user_id": 0, "page": text});
            assert!(refused::<Clicks>(click, "page"));
            let payment = json!({"payment_id": text, "amount": 1.0, "currency": "USD"});
            assert!(refused::<PaymentInitiated>(payment, "payment_id"));
            let payment = json!({"payment_id": "p", "transaction_id": "t", "status": text});
            assert!(refused::<PaymentCompleted>(payment, "status"));
        }
        for address in ["no address", "", "a@x.org\r\nBcc: b@x.org", "a@x..org"] {
            assert!(refused::<UserRegistered>(json!({"user_id": 1, "email": address}), "email"), "{address}");
        }
        assert!(refused::<UserRegistered>(json!({"user_id": 0, "email": "a@x.org"}), "user_id"));
        for (amount, currency, field) in
            [(0.0, "USD", "amount"), (1e10, "USD", "amount"), (1.0, "usd", "currency")]
        {
            let payment = json!({"payment_id": "p", "amount": amount, "currency": currency});
            assert!(refused::<PaymentInitiated>(payment, field));
        }
        for (stock, version, field) in [(-1, 1, "stock"), (1, 0, "version")] {
            let product = json!({"product_id": 1, "name": "n", "stock": stock, "version": version});
            assert!(refused::<ProductUpdated>(product, field));
        }
    }

    #[test]
    fn an_array_is_no_event_but_a_batch_of_clicks_is() {
        assert!(read::<UserRegistered>(br#"[1, "a@x.org"]"#).is_err());
        let click = json!({"event_id": Uuid::nil(), "user_id": 0, "page": "/"});
        let pack =
            |click: &serde_json::Value| json!([{"context": Context::fresh(), "click": click}]).to_string();
        assert!(read::<Clicks>(pack(&click).as_bytes()).is_ok());
        let bad = json!({"event_id": Uuid::nil(), "user_id": -1, "page": "/"});
        assert!(read::<Clicks>(pack(&bad).as_bytes()).is_err_and(|reason| reason.contains("user_id")));
    }

    #[test]
    fn a_reason_does_not_quote_the_body() {
        let of = |error: serde_json::Error| without_values(&error.to_string());
        let text = serde_json::from_str::<i64>(r#""ada, expected \"x\"@example.org""#).unwrap_err();
        assert!(text.to_string().contains("ada"), "{text}");
        assert_eq!(of(text), "invalid type: string …, expected i64 at line 1 column 33");
        let number = serde_json::from_str::<String>("4930123456").unwrap_err();
        assert_eq!(of(number), "invalid type: integer …, expected a string at line 1 column 10");
        let id = serde_json::from_str::<uuid::Uuid>(r#""ada@example.org""#).unwrap_err();
        assert!(!of(id).contains('`'));
        assert_eq!(without_values("missing field `user_id`"), "missing field `user_id`");
    }
}
