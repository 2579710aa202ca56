//! The stack `kafka`: campus-order answers at once; inventory, then the order, react to records, and analytics counts them. The logs
//! keep the records, so analytics can count them again from the first. Twin: `rabbitmq.rs`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, Rewind, consumer, transaction};
use common::error::Problems;
use common::events::{Event, Queue};
use common::rules::no_nul;
use common::web::{self, OptionalJson, StoredResponse};
use common::{ApiError, Context, Db, Deps, Service, Tx};
use contract::campus::{
    ANALYTICS_GROUP, INVENTORY_EVENTS, INVENTORY_GROUP, ORDER_EVENTS, ORDER_PLACED, ORDER_STATUS_GROUP, Stack,
};
use contract::events::Destination;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::events::{Decision, Inventory, Orders, StockDecided, decide, end, faults};
use crate::figures::{self, Throttle};
use crate::orders::{self, NewOrder, Order};
use crate::stock::{self, Stock};
use crate::{Empty, MAX_QUANTITY, MAX_TEXT, Reset, forget};

/// Records of one topic that analytics has at once.
const COUNTED_AT_ONCE: u16 = 64;

/// An order was placed.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
pub struct OrderPlaced {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    pub quantity: i64,
    #[garde(skip)]
    #[serde(default)]
    pub status: Placed,
    /// Seconds since 1970.
    #[garde(skip)]
    pub timestamp: Option<f64>,
}

/// The only status of a placed order.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placed {
    #[default]
    Placed,
}

impl Event for OrderPlaced {
    const NAME: &'static str = ORDER_PLACED;
    const DESTINATION: Destination = Destination::Log(&ORDER_EVENTS);
    const STAMPED: bool = false;
}

/// [`StockDecided`] as a record.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct Decided(#[garde(dive)] pub StockDecided);

impl Event for Decided {
    const NAME: &'static str = "inventory.decided";
    const DESTINATION: Destination = Destination::Log(&INVENTORY_EVENTS);
    const STAMPED: bool = false;
}

/// What campus-analytics works on.
#[derive(Clone)]
struct Analytics {
    db: Db,
    throttle: Throttle,
    rewind: Rewind,
}

pub fn order(deps: &Deps) -> Service {
    let app = Orders { db: deps.db(), outbox: deps.outbox() };
    let routes =
        OpenApiRouter::new().routes(routes!(place_order)).routes(routes!(place_orders)).with_state(app);
    let ended = transaction(&deps.db(), Queue::named(ORDER_STATUS_GROUP), end_order);
    Service::new(routes.merge(orders::routes(deps.db())).merge(orders::reset(deps.db())))
        .publishes::<OrderPlaced>()
        .consumes(Consumers::of(()).with(ended))
}

pub fn inventory(deps: &Deps) -> Service {
    let app = Inventory { stock: Stock::new(deps.db(), Stack::Kafka), outbox: deps.outbox() };
    let stats = OpenApiRouter::new().routes(routes!(stats)).with_state(deps.db());
    let placed = transaction(&deps.db(), Queue::named(INVENTORY_GROUP), reserve).first(faults);
    Service::new(app.stock.routes().merge(stats))
        .publishes::<Decided>()
        .consumes(Consumers::of(app).with(placed))
}

pub fn analytics(deps: &Deps) -> Service {
    let app = Analytics { db: deps.db(), throttle: Throttle::new(), rewind: Rewind::default() };
    let routes = OpenApiRouter::new().routes(routes!(reset_offsets)).routes(routes!(reset));
    let routes = routes.with_state(app.clone()).merge(app.throttle.routes());
    // Inventory and the order keep what is malformed.
    let turns = app.throttle.turns();
    let placed = consumer(Queue::named(ANALYTICS_GROUP), count_placed)
        .first(move |_, _| turns.clone().pass())
        .concurrency(COUNTED_AT_ONCE)
        .stepping_over_rejected()
        .rewound_by(&app.rewind);
    let turns = app.throttle.turns();
    let decided = consumer(Queue::named(ANALYTICS_GROUP), count_decided)
        .first(move |_, _| turns.clone().pass())
        .concurrency(COUNTED_AT_ONCE)
        .stepping_over_rejected()
        .rewound_by(&app.rewind);
    let (counted, interrupted) = (deps.db(), app.clone());
    Service::new(routes)
        .figures(move || {
            let db = counted.clone();
            async move { Ok(figures::of(&mut *db.acquire().await?).await?) }
        })
        .every(Duration::from_secs(1), "interrupted replays", move || interrupted.clone().finish_replays())
        .consumes(Consumers::of(app).with(placed).with(decided))
}

/// Order an item; inventory decides later
#[utoipa::path(post, path = "/order", request_body = NewOrder,
    responses((status = 201, description = "Placed; see `Location`", body = Order), Problems))]
async fn place_order(
    State(app): State<Orders>,
    web::Json(new): web::Json<NewOrder>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let order = orders::place(&mut tx, &new.item, new.quantity, None).await?;
    app.outbox.add(&mut tx, &placed(&order))?;
    tx.commit().await?;
    let location = format!("/order/{}", order.order_id);
    Ok(StoredResponse::new(StatusCode::CREATED, order)?.at(location))
}

/// The same order many times.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOrders {
    #[garde(range(min = 1, max = 100_000))]
    #[schema(minimum = 1, maximum = 100_000)]
    count: i64,
    #[serde(default = "burger")]
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100, default = "burger")]
    item: String,
    #[serde(default = "one")]
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

fn burger() -> String {
    "burger".to_owned()
}

const fn one() -> i64 {
    1
}

#[derive(Serialize, ToSchema)]
struct PlacedOrders {
    count: i64,
    /// The first five
    #[schema(value_type = Vec<String>)]
    order_ids_sample: Vec<Uuid>,
}

/// Place all of these orders or none
#[utoipa::path(post, path = "/orders/bulk", request_body = NewOrders,
    responses((status = 201, description = "None of them can be lost", body = PlacedOrders), Problems))]
async fn place_orders(
    State(app): State<Orders>,
    web::Json(new): web::Json<NewOrders>,
) -> Result<(StatusCode, Json<PlacedOrders>), ApiError> {
    // Each order is a workflow of its own: it ends by itself.
    let workflows: Vec<Context> = (0..new.count).map(|_| Context::fresh()).collect();
    let mut tx = app.db.begin().await?;
    let orders = orders::place_many(&mut tx, &new.item, new.quantity, &workflows).await?;
    for (order, workflow) in orders.iter().zip(workflows) {
        app.outbox.add_in(&mut tx, &placed(order), workflow)?;
    }
    tx.commit().await?;
    let order_ids_sample = orders.iter().take(5).map(|order| order.order_id).collect();
    Ok((StatusCode::CREATED, Json(PlacedOrders { count: new.count, order_ids_sample })))
}

fn placed(order: &Order) -> OrderPlaced {
    OrderPlaced {
        order_id: order.order_id.to_string(),
        item: order.item.clone(),
        quantity: order.quantity,
        status: Placed::Placed,
        timestamp: Some(order.timestamp),
    }
}

/// Keyed by the order: another record about it changes nothing.
async fn reserve(
    app: Inventory,
    tx: &mut Tx,
    placed: Incoming<OrderPlaced>,
) -> Result<Outcome, HandlerError> {
    let OrderPlaced { order_id, item, quantity, .. } = placed.event;
    let Some(decided) = decide(&app, tx, order_id, item, quantity).await? else {
        return Ok(Outcome::Duplicate);
    };
    app.outbox.add(tx, &Decided(decided))?;
    Ok(Outcome::Applied)
}

async fn end_order((): (), tx: &mut Tx, decided: Incoming<Decided>) -> Result<Outcome, HandlerError> {
    end(tx, &decided.0.order_id, decided.0.status == Decision::Reserved).await
}

#[derive(Serialize, ToSchema)]
struct Stats {
    /// Orders that were decided, each once
    processed_count: i64,
}

/// What inventory has done
#[utoipa::path(get, path = "/stats", responses((status = 200, body = Stats), Problems))]
async fn stats(State(db): State<Db>) -> Result<Json<Stats>, ApiError> {
    Ok(Json(Stats { processed_count: stock::decided(&mut *db.acquire().await?).await? }))
}

async fn count_placed(
    app: Analytics,
    placed: Vec<Incoming<OrderPlaced>>,
) -> Result<Vec<Outcome>, HandlerError> {
    let orders: Vec<_> = placed.iter().map(|order| (order.order_id.as_str(), order.timestamp)).collect();
    let mut tx = app.db.begin().await?;
    figures::add_placed(&mut tx, &orders).await?;
    tx.commit().await?;
    Ok(vec![Outcome::Applied; orders.len()])
}

async fn count_decided(
    app: Analytics,
    decided: Vec<Incoming<Decided>>,
) -> Result<Vec<Outcome>, HandlerError> {
    let of = |order: &'_ Incoming<Decided>| order.0.status == Decision::Failed;
    let orders: Vec<_> =
        decided.iter().map(|order| (order.0.order_id.as_str(), of(order), order.0.timestamp)).collect();
    let mut tx = app.db.begin().await?;
    figures::add_decided(&mut tx, &orders).await?;
    tx.commit().await?;
    Ok(vec![Outcome::Applied; orders.len()])
}

impl Analytics {
    /// Has all records counted again, if a reset has not come to that.
    async fn finish_replays(self) -> Result<(), ApiError> {
        self.db.wait_ready().await;
        let due = sqlx::query_scalar("SELECT max(id) FROM replays_due");
        let due: Option<i64> = due.fetch_one(&mut *self.db.acquire().await?).await?;
        match due {
            Some(due) => self.replay(due).await,
            None => Ok(()),
        }
    }

    /// Goes back to the first records, because of the resets up to this one.
    async fn replay(&self, due: i64) -> Result<(), ApiError> {
        self.rewind.all().await?;
        let begun = sqlx::query("DELETE FROM replays_due WHERE id <= $1");
        begun.bind(due).execute(&mut *self.db.acquire().await?).await?;
        Ok(())
    }
}

#[derive(Serialize, ToSchema)]
struct OffsetsReset {
    #[schema(example = "offsets reset: every record is counted again")]
    message: &'static str,
}

/// Set the figures to 0 and count every record again
#[utoipa::path(post, path = "/admin/reset-offsets", request_body = Option<Empty>,
    responses((status = 200, body = OffsetsReset), Problems))]
async fn reset_offsets(
    State(app): State<Analytics>,
    OptionalJson(Empty {}): OptionalJson<Empty>,
) -> Result<Json<OffsetsReset>, ApiError> {
    let mut tx = app.db.begin().await?;
    forget(&mut tx, &["placed", "decided"]).await?;
    let due =
        sqlx::query_scalar("INSERT INTO replays_due DEFAULT VALUES RETURNING id").fetch_one(&mut *tx).await?;
    tx.commit().await?;
    app.replay(due).await?;
    Ok(Json(OffsetsReset { message: "offsets reset: every record is counted again" }))
}

/// No figures and no throttle; for an idle stack. Records stay in the logs and are not counted again
#[utoipa::path(post, path = "/admin/reset", request_body = Option<Empty>,
    responses((status = 200, body = Reset), Problems))]
async fn reset(
    State(app): State<Analytics>,
    OptionalJson(Empty {}): OptionalJson<Empty>,
) -> Result<Json<Reset>, ApiError> {
    let mut tx = app.db.begin().await?;
    forget(&mut tx, &figures::TABLES).await?;
    tx.commit().await?;
    app.throttle.end();
    Ok(Json(Reset { status: "reset" }))
}
