//! THE ASYNC CONTRACT: one type per event, with its way through the broker. Its twin is [`api`](crate::api).
//! Ids, times and trace context of a message travel in its properties, not here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A queue and the event that it carries. Durable, read by one service, with a dead-letter queue `<name>.dlq`.
pub struct Queue<E> {
    pub name: &'static str,
    event: std::marker::PhantomData<fn() -> E>,
}

impl<E> Queue<E> {
    const fn named(name: &'static str) -> Queue<E> {
        Queue { name, event: std::marker::PhantomData }
    }
}

/// How an event reaches its readers.
#[derive(Clone, Copy, Debug)]
pub enum Route {
    /// One reader: the default exchange takes it to the queue of this name.
    Queue(&'static str),
    /// Several readers: a fanout exchange copies it to each of these queues.
    Fanout { exchange: &'static str, queues: &'static [&'static str] },
}

#[cfg(feature = "amqp")]
impl Route {
    /// Where the event arrives.
    pub(crate) fn queues(&self) -> &[&'static str] {
        match self {
            Route::Queue(queue) => std::slice::from_ref(queue),
            Route::Fanout { queues, .. } => queues,
        }
    }
}

/// A fact, announced to whom it may concern.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// `type` in the message's properties, and the label in metrics.
    const NAME: &'static str;
    const ROUTE: Route;
}

macro_rules! queues {
    ($($(#[$doc:meta])* $constant:ident: $event:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Queue<$event> = Queue::named($name);)*
        /// Every queue of the system.
        pub const ALL_QUEUES: &[&str] = &[$($name),*];
    };
}

queues! {
    /// S1. userservice -> emailservice
    USER_REGISTERED_QUEUE: UserRegistered = "user_registered_queue";
    /// S2. paymentservice -> paymentservice
    PAYMENT_INITIATED_QUEUE: PaymentInitiated = "payment_initiated_queue";
    /// S2. paymentservice -> paymentservice, its audit
    PAYMENT_COMPLETED_QUEUE: PaymentCompleted = "payment_completed_queue";
    /// S3. productservice -> searchservice
    SEARCH_PRODUCT_UPDATES_QUEUE: ProductUpdated = "search_product_updates_queue";
    /// S3. productservice -> cacheservice
    CACHE_PRODUCT_UPDATES_QUEUE: ProductUpdated = "cache_product_updates_queue";
    /// S3. productservice -> analyticsservice
    ANALYTICS_PRODUCT_UPDATES_QUEUE: ProductUpdated = "analytics_product_updates_queue";
    /// S4. reportservice -> reportservice
    REPORT_JOBS_QUEUE: GenerateReportJob = "report_jobs_queue";
    /// S5. orderservice -> inventoryservice
    ORDER_CREATED_QUEUE: OrderCreated = "order_created_queue";
    /// S5. inventoryservice -> paymentservice
    STOCK_RESERVED_QUEUE: StockReserved = "stock_reserved_queue";
    /// S5. inventoryservice -> orderservice, when there is no such product or not enough of it
    STOCK_REJECTED_QUEUE: StockRejected = "stock_rejected_queue";
    /// S5. paymentservice -> inventoryservice
    INVENTORY_PAYMENT_FAILED_QUEUE: PaymentFailed = "inventory_payment_failed_queue";
    /// S5. paymentservice -> orderservice
    ORDER_PAYMENT_FAILED_QUEUE: PaymentFailed = "order_payment_failed_queue";
    /// S5, happy path. paymentservice -> inventoryservice
    INVENTORY_PAYMENT_SUCCEEDED_QUEUE: PaymentSucceeded = "inventory_payment_succeeded_queue";
    /// S5, happy path. paymentservice -> orderservice
    ORDER_PAYMENT_SUCCEEDED_QUEUE: PaymentSucceeded = "order_payment_succeeded_queue";
    /// S5, given up. orderservice -> inventoryservice
    INVENTORY_ORDER_CANCELLED_QUEUE: OrderCancelled = "inventory_order_cancelled_queue";
    /// S5, given up. orderservice -> paymentservice
    PAYMENT_ORDER_CANCELLED_QUEUE: OrderCancelled = "payment_order_cancelled_queue";
    /// S6. analyticsservice -> analyticsservice
    CLICK_TRACKED_QUEUE: ClickTracked = "click_tracked_queue";
}

macro_rules! event {
    ($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? } -> $route:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name { $($(#[$meta])* pub $field: $type),* }
        impl Event for $name {
            const NAME: &'static str = stringify!($name);
            const ROUTE: Route = $route;
        }
    };
}

event! {
    /// S1. A user exists.
    UserRegistered { user_id: i64, email: String } -> Route::Queue(USER_REGISTERED_QUEUE.name)
}
event! {
    /// S2. A payment was accepted and is to be taken.
    PaymentInitiated { payment_id: String, amount: f64, currency: String } -> Route::Queue(PAYMENT_INITIATED_QUEUE.name)
}
event! {
    /// S2. A payment was taken.
    PaymentCompleted { payment_id: String, transaction_id: String, status: String }
    -> Route::Queue(PAYMENT_COMPLETED_QUEUE.name)
}
event! {
    /// S3. A product has this content since this version.
    ProductUpdated { product_id: i64, name: String, stock: i64, version: i64 }
    -> Route::Fanout {
        exchange: "product_updates",
        queues: &[
            SEARCH_PRODUCT_UPDATES_QUEUE.name,
            CACHE_PRODUCT_UPDATES_QUEUE.name,
            ANALYTICS_PRODUCT_UPDATES_QUEUE.name,
        ],
    }
}
event! {
    /// S4. A report is to be computed.
    GenerateReportJob { job_id: String, report_type: String } -> Route::Queue(REPORT_JOBS_QUEUE.name)
}
event! {
    /// S5. An order is pending.
    OrderCreated { order_id: i64, product_id: i64, quantity: i64 } -> Route::Queue(ORDER_CREATED_QUEUE.name)
}
event! {
    /// S5. Stock is held for an order.
    StockReserved { order_id: i64, product_id: i64, quantity: i64 } -> Route::Queue(STOCK_RESERVED_QUEUE.name)
}
event! {
    /// S5. No stock could be held for an order.
    StockRejected { order_id: i64, reason: String } -> Route::Queue(STOCK_REJECTED_QUEUE.name)
}
event! {
    /// S5. The payment of an order was refused.
    PaymentFailed { order_id: i64, #[serde(skip_serializing_if = "Option::is_none")] payment_id: Option<String>, reason: String }
    -> Route::Fanout {
        exchange: "payment_failed",
        queues: &[INVENTORY_PAYMENT_FAILED_QUEUE.name, ORDER_PAYMENT_FAILED_QUEUE.name],
    }
}
event! {
    /// S5. An order was paid.
    PaymentSucceeded { order_id: i64, payment_id: String, transaction_id: String }
    -> Route::Fanout {
        exchange: "payment_succeeded",
        queues: &[INVENTORY_PAYMENT_SUCCEEDED_QUEUE.name, ORDER_PAYMENT_SUCCEEDED_QUEUE.name],
    }
}
event! {
    /// S5. An order was given up after waiting too long.
    OrderCancelled { order_id: i64, reason: String }
    -> Route::Fanout {
        exchange: "order_cancelled",
        queues: &[INVENTORY_ORDER_CANCELLED_QUEUE.name, PAYMENT_ORDER_CANCELLED_QUEUE.name],
    }
}
event! {
    /// S6. A user looked at a page.
    ClickTracked { event_id: Uuid, user_id: i64, page: String, #[serde(skip_serializing_if = "Option::is_none")] session_id: Option<String> }
    -> Route::Queue(CLICK_TRACKED_QUEUE.name)
}

/// What the receivers of S3 store is the same in both modes.
impl From<&ProductUpdated> for crate::api::ProductChange {
    fn from(product: &ProductUpdated) -> Self {
        Self {
            product_id: product.product_id,
            name: Some(product.name.clone()),
            stock: Some(product.stock),
            version: Some(product.version),
        }
    }
}
