//! The stack `orders003`: as `rabbitmq.rs`, with the names, fields and log lines of the older lab. An `order_id` counts once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer, transaction};
use common::context::now_us;
use common::error::Problems;
use common::events::{Event, Queue};
use common::rules::no_nul;
use common::web::{self, Path, Query};
use common::{ApiError, Deps, Service, Tx, inbox};
use contract::campus::effects::NOTIFICATION;
use contract::campus::{INVENTORY_QUEUE, NOTIFICATION_QUEUE, ORDER_STATUS_QUEUE, Stack, topics};
use contract::events::Destination;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::events::{Inventory, Orders, end, faults};
use crate::orders::{self, Status};
use crate::rabbitmq::MAX_MESSAGE_ID;
use crate::stock::{Refusal, Stock};
use crate::{MAX_QUANTITY, MAX_TEXT, Newest, notifications};

/// Reservations at work at once in a process. More of them would wait for a connection, or for the row of one item.
static AT_WORK: Semaphore = Semaphore::const_new(8);

/// What `POST /order` takes.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 1_000_000)]
    qty: i64,
    #[serde(default = "unknown")]
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100, default = "unknown")]
    student_id: String,
}

fn unknown() -> String {
    "unknown".into()
}

/// What `POST /order` answers.
#[derive(Serialize, ToSchema)]
pub struct Placed {
    #[schema(value_type = String, format = "uuid")]
    order_id: Uuid,
    status: Shown,
}

/// An order as this stack shows it.
#[derive(Serialize, ToSchema)]
pub struct Order {
    #[schema(value_type = String, format = "uuid")]
    order_id: Uuid,
    item: String,
    qty: i64,
    student_id: String,
    status: Shown,
}

/// The status of an order as this stack shows it.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Shown {
    Placed,
    Confirmed,
    Failed,
}

impl From<orders::Order> for Order {
    fn from(order: orders::Order) -> Order {
        let status = match order.status {
            Status::Placed => Shown::Placed,
            Status::Reserved | Status::Notified => Shown::Confirmed,
            Status::Failed | Status::Timeout => Shown::Failed,
        };
        let student_id = order.student_id.unwrap_or_else(unknown);
        Order { order_id: order.order_id, item: order.item, qty: order.quantity, student_id, status }
    }
}

/// An order was placed.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
pub struct OrderPlaced {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    pub qty: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub student_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = MAX_MESSAGE_ID), custom(no_nul)))]
    pub message_id: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub timestamp: Option<Value>,
}

impl Event for OrderPlaced {
    const NAME: &'static str = topics::PLACED_003.key;
    const DESTINATION: Destination = Destination::Topic(&topics::PLACED_003);
    const STAMPED: bool = false;

    fn id(&self) -> Option<&str> {
        Some(self.message_id.as_deref().unwrap_or(&self.order_id))
    }

    /// The object with the reason; what is no object stays as it is.
    fn dead_letter(body: &[u8], reason: &str) -> Vec<u8> {
        let Ok(Value::Object(mut order)) = serde_json::from_slice(body) else { return body.to_vec() };
        let defect = defect(&order);
        if let Some(defect) = &defect {
            let order_id = order.get("order_id").and_then(Value::as_str).unwrap_or("UNKNOWN");
            tracing::warn!("Malformed message for order {order_id}: {defect}");
        }
        let error = defect.unwrap_or_else(|| reason.to_owned());
        order.insert("error".into(), error.into());
        Value::Object(order).to_string().into_bytes()
    }
}

/// What the older lab says about an order that it cannot reserve.
fn defect(order: &serde_json::Map<String, Value>) -> Option<String> {
    let absent = |name: &&str| order.get(*name).is_none_or(|value| value.is_null() || *value == json!(""));
    let missing: Vec<&str> = ["order_id", "item", "qty"].into_iter().filter(absent).collect();
    if !missing.is_empty() {
        return Some(format!("Missing required field(s): {}", missing.join(", ")));
    }
    let qty = &order["qty"];
    let valid = qty.as_i64().is_some_and(|qty| qty > 0);
    (!valid).then(|| format!("Invalid qty: {qty} (must be a positive integer)"))
}

/// Inventory has reserved stock for an order, or could not.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
pub struct StockDecided {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    pub qty: i64,
    #[garde(skip)]
    pub status: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub reason: Option<String>,
    /// Seconds since 1970.
    #[garde(skip)]
    pub timestamp: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    Reserved,
    Failed,
}

impl Event for StockDecided {
    const NAME: &'static str = topics::RESERVED_003.key;
    const DESTINATION: Destination = Destination::Topic(&topics::RESERVED_003);
    const STAMPED: bool = false;

    /// An order is decided once. The ids of other publishers' messages need not differ.
    fn id(&self) -> Option<&str> {
        Some(&self.order_id)
    }
}

/// [`StockDecided`] by the routing key of a failure.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct StockFailed(#[garde(dive)] pub StockDecided);

impl Event for StockFailed {
    const NAME: &'static str = topics::FAILED_003.key;
    const DESTINATION: Destination = Destination::Topic(&topics::FAILED_003);
    const STAMPED: bool = false;

    /// An order is decided once. The ids of other publishers' messages need not differ.
    fn id(&self) -> Option<&str> {
        Some(&self.0.order_id)
    }
}

pub fn order(deps: &Deps) -> Service {
    let app = Orders { db: deps.db(), outbox: deps.outbox() };
    let routes = OpenApiRouter::new().routes(routes!(place_order)).routes(routes!(list)).routes(routes!(get));
    let ended = transaction(&deps.db(), Queue::named(ORDER_STATUS_QUEUE), end_order);
    Service::new(routes.with_state(app).merge(orders::reset(deps.db())))
        .publishes::<OrderPlaced>()
        .consumes(Consumers::of(()).with(ended))
}

pub fn inventory(deps: &Deps) -> Service {
    let app = Inventory { stock: Stock::new(deps.db(), Stack::Orders003), outbox: deps.outbox() };
    let placed = consumer(Queue::named(INVENTORY_QUEUE), reserve).first(faults);
    Service::new(app.stock.routes())
        .publishes::<StockDecided>()
        .publishes::<StockFailed>()
        .consumes(Consumers::of(app).with(placed))
}

pub fn notification(deps: &Deps) -> Service {
    let reserved = transaction(&deps.db(), Queue::named(NOTIFICATION_QUEUE), notify);
    Service::new(notifications::routes(deps.db())).consumes(Consumers::of(()).with(reserved))
}

/// Order an item; inventory decides later
#[utoipa::path(post, path = "/order", request_body = NewOrder,
    responses((status = 201, description = "Placed", body = Placed), Problems))]
async fn place_order(
    State(app): State<Orders>,
    web::Json(new): web::Json<NewOrder>,
) -> Result<(StatusCode, Json<Placed>), ApiError> {
    let NewOrder { item, qty, student_id } = new;
    let mut tx = app.db.begin().await?;
    let order = orders::place(&mut tx, &item, qty, Some(&student_id)).await?;
    let placed = OrderPlaced {
        order_id: order.order_id.to_string(),
        item,
        qty,
        student_id: Some(student_id.into()),
        message_id: Some(Uuid::now_v7().to_string()),
        timestamp: Some(order.timestamp.into()),
    };
    app.outbox.add(&mut tx, &placed)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Placed { order_id: order.order_id, status: Shown::Placed })))
}

/// The newest orders
#[utoipa::path(get, path = "/orders", params(Newest), responses((status = 200, body = [Order]), Problems))]
async fn list(State(app): State<Orders>, Query(newest): Query<Newest>) -> Result<Json<Vec<Order>>, ApiError> {
    let orders = orders::newest(&mut *app.db.acquire().await?, newest).await?;
    Ok(Json(orders.into_iter().map(Order::from).collect()))
}

/// An order
#[utoipa::path(get, path = "/order/{order_id}", params(("order_id" = String, Path)),
    responses((status = 200, body = Order), Problems))]
async fn get(State(app): State<Orders>, Path(order_id): Path<String>) -> Result<Json<Order>, ApiError> {
    Ok(Json(orders::find(&mut *app.db.acquire().await?, &order_id).await?.into()))
}

/// Keyed by the order, in a transaction of its own, so that each line of the log is true when it is written.
async fn reserve(app: Inventory, placed: Incoming<OrderPlaced>) -> Result<Outcome, HandlerError> {
    let duplicate = |order_id: &str| {
        tracing::info!("Duplicate detected for order {order_id}, skipping");
        Ok(Outcome::Duplicate)
    };
    let _permit = AT_WORK.acquire().await.map_err(HandlerError::retry)?;
    let Some(mut tx) = inbox::begin(&app.stock.db, &placed).await? else {
        return duplicate(&placed.order_id);
    };
    let OrderPlaced { order_id, item, qty, .. } = placed.event;
    let reservation = app.stock.reserve(&mut tx, &order_id, &item, qty).await?;
    if !reservation.first {
        tx.commit().await?;
        return duplicate(&order_id);
    }
    let reason = reservation.refusal.map(|refusal| match refusal {
        Refusal::UnknownItem => format!("Item '{item}' not found in inventory"),
        _ => format!("Insufficient stock for '{item}': requested {qty}"),
    });
    let line = match &reason {
        None => format!("Reserved {qty} {item} for order {order_id}"),
        Some(reason) => format!("InventoryFailed for order {order_id}: {reason}"),
    };
    let timestamp = Some(now_us() as f64 / 1e6);
    let status = if reason.is_none() { Decision::Reserved } else { Decision::Failed };
    let decided = StockDecided { order_id, item, qty, status, reason, timestamp };
    match status {
        Decision::Reserved => app.outbox.add(&mut tx, &decided)?,
        Decision::Failed => app.outbox.add(&mut tx, &StockFailed(decided))?,
    }
    tx.commit().await?;
    tracing::info!("{line}");
    Ok(Outcome::Applied)
}

async fn end_order((): (), tx: &mut Tx, decided: Incoming<StockDecided>) -> Result<Outcome, HandlerError> {
    end(tx, &decided.order_id, decided.status == Decision::Reserved).await
}

/// Keyed by the order: one notification each.
async fn notify((): (), tx: &mut Tx, reserved: Incoming<StockDecided>) -> Result<Outcome, HandlerError> {
    if reserved.status != Decision::Reserved {
        return Err(HandlerError::reject(anyhow::anyhow!("its status is not that of its routing key")));
    }
    let StockDecided { order_id, item, qty, .. } = &reserved.event;
    let first = notifications::send(tx, order_id, "confirmed", item, Some(*qty)).await?;
    Ok(if first { Outcome::Completed(NOTIFICATION, "sent") } else { Outcome::Duplicate })
}
