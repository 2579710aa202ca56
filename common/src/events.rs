//! The async contract: one type per event, with its destination. Its twin is [`api`](crate::api).
//! Ids, times and trace context of a message travel in its properties, not in its body.

use std::fmt;

use contract::events::{Destination, queues};
use garde::Validate;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::Context;
use crate::rules::{self, is_email, no_nul, no_nul_opt};

/// A queue and the event that it carries. Durable, read by one service, with a dead-letter queue `<name>.dlq`.
pub struct Queue<E> {
    pub name: &'static str,
    event: std::marker::PhantomData<fn() -> E>,
}

impl<E> Queue<E> {
    /// The queue of the contract. Its event must be `E`.
    pub const fn of(queue: contract::events::Queue) -> Queue<E> {
        Queue::named(queue.name)
    }

    /// A queue of the destination of `E`.
    pub const fn named(name: &'static str) -> Queue<E> {
        Queue { name, event: std::marker::PhantomData }
    }
}

/// A domain event.
pub trait Event: Serialize + DeserializeOwned + Validate<Context = ()> + Send + Sync + 'static {
    /// `type` in the message's properties, and the label in metrics.
    const NAME: &'static str;
    const DESTINATION: Destination;
    /// Whether the body may be an array. serde would take one for any struct, its fields in order.
    const MAY_BE_ARRAY: bool = false;
    /// Whether the body gets a field `timestamp` with the time at which the message was made, as RFC 3339.
    const STAMPED: bool = true;

    /// By which readers recognise the event when it comes again, where the body contains it. A published message has it as its id if
    /// it is a UUID.
    fn id(&self) -> Option<&str> {
        None
    }

    /// The body under which a message that cannot be applied is kept: unchanged, unless the event's contract adds the reason.
    fn dead_letter(body: &[u8], _reason: &str) -> Vec<u8> {
        body.to_vec()
    }
}

macro_rules! queues {
    ($($constant:ident: $event:ident = $queue:ident;)*) => {
        $(pub const $constant: Queue<$event> = Queue::of(queues::$queue);)*
    };
}

queues! {
    USER_REGISTERED_QUEUE: UserRegistered = USER_REGISTERED;
    PAYMENT_INITIATED_QUEUE: PaymentInitiated = PAYMENT_INITIATED;
    PAYMENT_COMPLETED_QUEUE: PaymentCompleted = PAYMENT_COMPLETED;
    SEARCH_PRODUCT_UPDATES_QUEUE: ProductUpdated = SEARCH_PRODUCT_UPDATES;
    CACHE_PRODUCT_UPDATES_QUEUE: ProductUpdated = CACHE_PRODUCT_UPDATES;
    ANALYTICS_PRODUCT_UPDATES_QUEUE: ProductUpdated = ANALYTICS_PRODUCT_UPDATES;
    REPORT_JOBS_QUEUE: GenerateReportJob = REPORT_JOBS;
    ORDER_CREATED_QUEUE: OrderCreated = ORDER_CREATED;
    STOCK_RESERVED_QUEUE: StockReserved = STOCK_RESERVED;
    STOCK_REJECTED_QUEUE: StockRejected = STOCK_REJECTED;
    INVENTORY_PAYMENT_FAILED_QUEUE: PaymentFailed = INVENTORY_PAYMENT_FAILED;
    ORDER_PAYMENT_FAILED_QUEUE: PaymentFailed = ORDER_PAYMENT_FAILED;
    INVENTORY_PAYMENT_SUCCEEDED_QUEUE: PaymentSucceeded = INVENTORY_PAYMENT_SUCCEEDED;
    ORDER_PAYMENT_SUCCEEDED_QUEUE: PaymentSucceeded = ORDER_PAYMENT_SUCCEEDED;
    INVENTORY_ORDER_CANCELLED_QUEUE: OrderCancelled = INVENTORY_ORDER_CANCELLED;
    PAYMENT_ORDER_CANCELLED_QUEUE: OrderCancelled = PAYMENT_ORDER_CANCELLED;
    CLICK_TRACKED_QUEUE: Clicks = CLICK_TRACKED;
}

macro_rules! event {
    ($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? } -> $event:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
        pub struct $name { $($(#[$meta])* pub $field: $type),* }
        impl Event for $name {
            const NAME: &'static str = contract::events::$event.name;
            const DESTINATION: Destination = contract::events::$event.destination;
        }
    };
}

event! {
    /// S1. A user exists.
    UserRegistered {
        #[garde(range(min = 1))] user_id: i64,
        #[garde(custom(is_email))] email: String,
    } -> USER_REGISTERED
}
event! {
    /// S2. A payment was accepted and is to be taken.
    PaymentInitiated {
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] payment_id: String,
        #[garde(range(min = rules::MIN_AMOUNT, max = rules::MAX_AMOUNT))] amount: f64,
        #[garde(custom(rules::is_currency))] currency: String,
    } -> PAYMENT_INITIATED
}
event! {
    /// S2. A payment was taken.
    PaymentCompleted {
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] payment_id: String,
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] transaction_id: String,
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] status: String,
    } -> PAYMENT_COMPLETED
}
event! {
    /// S3. A product has this content since this version.
    ProductUpdated {
        #[garde(range(min = 1))] product_id: i64,
        #[garde(length(chars, min = 1, max = rules::MAX_NAME), custom(no_nul))] name: String,
        #[garde(range(min = 0))] stock: i64,
        #[garde(range(min = 1))] version: i64,
    } -> PRODUCT_UPDATED
}
event! {
    /// S4. A report is to be computed.
    GenerateReportJob {
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] job_id: String,
        #[garde(length(chars, min = 1, max = rules::MAX_REPORT_TYPE), custom(no_nul))] report_type: String,
    } -> GENERATE_REPORT_JOB
}
event! {
    /// S5. An order is pending.
    OrderCreated {
        #[garde(range(min = 1))] order_id: i64,
        #[garde(range(min = 1))] product_id: i64,
        #[garde(range(min = 1, max = rules::MAX_QUANTITY))] quantity: i64,
    } -> ORDER_CREATED
}
event! {
    /// S5. Stock is held for an order.
    StockReserved {
        #[garde(range(min = 1))] order_id: i64,
        #[garde(range(min = 1))] product_id: i64,
        #[garde(range(min = 1, max = rules::MAX_QUANTITY))] quantity: i64,
    } -> STOCK_RESERVED
}
event! {
    /// S5. No stock could be held for an order.
    StockRejected {
        #[garde(range(min = 1))] order_id: i64,
        #[garde(length(chars, min = 1, max = rules::MAX_REASON), custom(no_nul))] reason: String,
    } -> STOCK_REJECTED
}
event! {
    /// S5. The payment of an order was refused.
    PaymentFailed {
        #[garde(range(min = 1))] order_id: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul_opt))] payment_id: Option<String>,
        #[garde(length(chars, min = 1, max = rules::MAX_REASON), custom(no_nul))] reason: String,
    } -> PAYMENT_FAILED
}
event! {
    /// S5. An order was paid.
    PaymentSucceeded {
        #[garde(range(min = 1))] order_id: i64,
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] payment_id: String,
        #[garde(length(chars, min = 1, max = rules::MAX_TEXT_ID), custom(no_nul))] transaction_id: String,
    } -> PAYMENT_SUCCEEDED
}
event! {
    /// S5. An order was given up after waiting too long.
    OrderCancelled {
        #[garde(range(min = 1))] order_id: i64,
        #[garde(length(chars, min = 1, max = rules::MAX_REASON), custom(no_nul))] reason: String,
    } -> ORDER_CANCELLED
}
event! {
    /// S6. A user looked at a page.
    ClickTracked {
        #[garde(skip)] event_id: Uuid,
        #[garde(range(min = 0))] user_id: i64,
        #[garde(length(chars, min = 1, max = rules::MAX_PAGE), custom(no_nul))] page: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[garde(length(chars, min = 1, max = rules::MAX_SESSION_ID), custom(no_nul_opt))] session_id: Option<String>,
    } -> CLICK_TRACKED
}

/// S6. The body of a message of [`CLICK_TRACKED_QUEUE`]: a click, or a batch of clicks.
#[derive(Clone, Debug, PartialEq, Serialize, Validate)]
#[serde(untagged)]
pub enum Clicks {
    /// A JSON object.
    One(#[garde(dive)] ClickTracked),
    /// A JSON array; [`batch`] writes it.
    Batch(#[garde(dive)] Vec<BatchedClick>),
}

impl Event for Clicks {
    const NAME: &'static str = ClickTracked::NAME;
    const DESTINATION: Destination = ClickTracked::DESTINATION;
    const MAY_BE_ARRAY: bool = true;
}

/// A click of a batch, with its workflow. The message's properties describe the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
pub struct BatchedClick {
    #[serde(deserialize_with = "Context::batched")]
    #[garde(skip)]
    pub context: Context,
    #[garde(dive)]
    pub click: ClickTracked,
}

impl ClickTracked {
    /// Approximate number of bytes in a message.
    pub fn weight(&self) -> usize {
        150 + self.page.len() + self.session_id.as_ref().map_or(0, String::len)
    }
}

impl BatchedClick {
    /// Approximate number of bytes in a batch.
    pub fn weight(&self) -> usize {
        150 + self.context.workflow.len() + self.click.weight()
    }
}

impl<'de> Deserialize<'de> for Clicks {
    fn deserialize<D: Deserializer<'de>>(body: D) -> Result<Clicks, D::Error> {
        body.deserialize_any(OneOrBatch)
    }
}

struct OneOrBatch;

/// Decides by the first character. An untagged enum would parse everything twice.
impl<'de> Visitor<'de> for OneOrBatch {
    type Value = Clicks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a click or an array of clicks")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Clicks, A::Error> {
        ClickTracked::deserialize(MapAccessDeserializer::new(map)).map(Clicks::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Clicks, A::Error> {
        let batch: Vec<BatchedClick> = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
        if batch.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(Clicks::Batch(batch)) }
    }
}

/// The body of a message with these clicks and the current time. Not by `flatten`, which would copy every field.
///
/// # Errors
/// When the clicks cannot be represented as JSON.
pub fn batch(clicks: &[BatchedClick]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Batched<'a> {
        context: &'a Context,
        click: Stamped<'a>,
    }
    #[derive(Serialize)]
    struct Stamped<'a> {
        event_id: Uuid,
        user_id: i64,
        page: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        timestamp: &'a str,
    }
    let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    let batched = clicks.iter().map(|BatchedClick { context, click }| {
        let ClickTracked { event_id, user_id, page, session_id } = click;
        let session_id = session_id.as_deref();
        let click =
            Stamped { event_id: *event_id, user_id: *user_id, page, session_id, timestamp: &timestamp };
        Batched { context, click }
    });
    let mut body = Vec::with_capacity(clicks.iter().map(BatchedClick::weight).sum());
    serde_json::Serializer::new(&mut body).collect_seq(batched)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn batched(page: &str, session_id: Option<&str>) -> BatchedClick {
        let click = ClickTracked {
            event_id: Uuid::now_v7(),
            user_id: 7,
            page: page.into(),
            session_id: session_id.map(Into::into),
        };
        BatchedClick { context: Context::fresh(), click }
    }

    #[test]
    fn a_batch_says_of_each_click_what_a_message_of_its_own_would() {
        let clicks = [batched("/a \" \\ \n é", Some("s")), batched("/b", None)];
        let body = batch(&clicks).unwrap();
        assert_eq!(serde_json::from_slice::<Clicks>(&body).unwrap(), Clicks::Batch(clicks.to_vec()));
        let body: Value = serde_json::from_slice(&body).unwrap();
        for (mut written, BatchedClick { context, click }) in
            body.as_array().unwrap().clone().into_iter().zip(clicks)
        {
            let timestamp = written["click"].as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(OffsetDateTime::parse(timestamp.as_str().unwrap(), &Rfc3339).is_ok(), "{timestamp}");
            assert_eq!(written["click"], serde_json::to_value(click).unwrap());
            assert_eq!(written["context"], serde_json::to_value(context).unwrap());
        }
    }

    #[test]
    fn a_message_is_a_click_or_a_batch_and_nothing_else() {
        let BatchedClick { context, click } = batched("/", None);
        let (context, click) = (json!(context), json!(click));
        let read = |body: Value| serde_json::from_str::<Clicks>(&body.to_string());
        assert!(matches!(read(click.clone()), Ok(Clicks::One(_))));
        let whole = json!({"context": context, "click": click});
        assert!(matches!(read(json!([whole, whole])), Ok(Clicks::Batch(batch)) if batch.len() == 2));
        for bad in [
            json!([]),
            json!({}),
            json!(1),
            json!(null),
            json!([1]),
            json!([click]),
            json!([whole, {"context": context}]),
            json!([whole, {"click": click}]),
            json!([whole, {"context": {}, "click": click}]),
            json!([whole, {"context": context, "click": {"user_id": 1}}]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_workflow_from_long_ago_counts_from_now_as_in_a_message_of_its_own() {
        let mut old = batched("/", None);
        old.context.accepted_us = 99;
        let Clicks::Batch(read) = serde_json::from_slice(&batch(&[old]).unwrap()).unwrap() else {
            panic!("no batch")
        };
        assert!(read[0].context.age_seconds() < 60.0);
    }

    #[test]
    fn what_a_click_weighs_is_about_its_size() {
        for click in [batched("/", None), batched(&"p".repeat(2000), Some(&"s".repeat(255)))] {
            let (weight, size) = (click.weight(), batch(&[click]).unwrap().len());
            assert!((size..size + 60).contains(&weight), "{weight} for {size} bytes");
        }
    }
}
