//! The stack `rabbitmq`: campus-order answers at once; inventory, then notification and the order react to events.
//! Twin: `rest.rs` calls one service after the other.

use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::error::Problems;
use common::events::{Event, Queue};
use common::rules::no_nul;
use common::web::{Json, StoredResponse};
use common::{ApiError, Deps, Service, Tx};
use contract::campus::effects::NOTIFICATION;
use contract::campus::{INVENTORY_QUEUE, NOTIFICATION_QUEUE, ORDER_STATUS_QUEUE, Stack, topics};
use contract::events::Destination;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::events::{Decision, Inventory, Orders, StockDecided, decide, end, faults};
use crate::orders::{self, NewOrder, Order};
use crate::stock::Stock;
use crate::{MAX_QUANTITY, MAX_TEXT, notifications};

/// Characters of the id of a message.
pub(crate) const MAX_MESSAGE_ID: usize = 255;

/// An order was placed.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
pub struct OrderPlaced {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_MESSAGE_ID), custom(no_nul))]
    pub message_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    pub quantity: i64,
    /// Seconds since 1970.
    #[garde(skip)]
    pub timestamp: Option<f64>,
}

impl Event for OrderPlaced {
    const NAME: &'static str = topics::PLACED.key;
    const DESTINATION: Destination = Destination::Topic(&topics::PLACED);
    const STAMPED: bool = false;

    fn id(&self) -> Option<&str> {
        Some(&self.message_id)
    }
}

impl Event for StockDecided {
    const NAME: &'static str = topics::RESERVED.key;
    const DESTINATION: Destination = Destination::Topic(&topics::RESERVED);
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
    const NAME: &'static str = topics::FAILED.key;
    const DESTINATION: Destination = Destination::Topic(&topics::FAILED);
    const STAMPED: bool = false;

    /// An order is decided once. The ids of other publishers' messages need not differ.
    fn id(&self) -> Option<&str> {
        Some(&self.0.order_id)
    }
}

pub fn order(deps: &Deps) -> Service {
    let app = Orders { db: deps.db(), outbox: deps.outbox() };
    let routes = OpenApiRouter::new().routes(routes!(place_order)).with_state(app);
    let ended = transaction(&deps.db(), Queue::named(ORDER_STATUS_QUEUE), end_order);
    Service::new(routes.merge(orders::routes(deps.db())).merge(orders::reset(deps.db())))
        .publishes::<OrderPlaced>()
        .consumes(Consumers::of(()).with(ended))
}

pub fn inventory(deps: &Deps) -> Service {
    let app = Inventory { stock: Stock::new(deps.db(), Stack::Rabbitmq), outbox: deps.outbox() };
    let placed = transaction(&deps.db(), Queue::named(INVENTORY_QUEUE), reserve).first(faults);
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
    responses((status = 202, description = "Accepted; see `Location`", body = Order), Problems))]
async fn place_order(
    State(app): State<Orders>,
    Json(new): Json<NewOrder>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let order = orders::place(&mut tx, &new.item, new.quantity, None).await?;
    let placed = OrderPlaced {
        order_id: order.order_id.to_string(),
        message_id: Uuid::now_v7().to_string(),
        item: new.item,
        quantity: new.quantity,
        timestamp: Some(order.timestamp),
    };
    app.outbox.add(&mut tx, &placed)?;
    tx.commit().await?;
    let location = format!("/order/{}", order.order_id);
    Ok(StoredResponse::new(StatusCode::ACCEPTED, order)?.at(location))
}

/// Keyed by the order: another message about it changes nothing.
async fn reserve(
    app: Inventory,
    tx: &mut Tx,
    placed: Incoming<OrderPlaced>,
) -> Result<Outcome, HandlerError> {
    let OrderPlaced { order_id, item, quantity, .. } = placed.event;
    let Some(decided) = decide(&app, tx, order_id, item, quantity).await? else {
        return Ok(Outcome::Duplicate);
    };
    match decided.status {
        Decision::Reserved => app.outbox.add(tx, &decided)?,
        Decision::Failed => app.outbox.add(tx, &StockFailed(decided))?,
    }
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
    let StockDecided { order_id, item, quantity, .. } = &reserved.event;
    let first = notifications::send(tx, order_id, "reserved", item, Some(*quantity)).await?;
    Ok(if first { Outcome::Completed(NOTIFICATION, "sent") } else { Outcome::Duplicate })
}
