//! Orders: placed, then ended once. Nothing here knows the stack.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::rules::no_nul;
use common::web::{Path, Query};
use common::{ApiError, Context, Db, telemetry};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::{MAX_QUANTITY, MAX_TEXT, Newest, Rows};

/// What `POST /order` takes.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// The state of an order. In the stack `rest` a reserved one may still become notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    Placed,
    Reserved,
    Notified,
    Failed,
    Timeout,
}

impl Status {
    /// The outcome of the final effect, in metrics and journals.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Status::Placed => "placed",
            Status::Reserved => "reserved",
            Status::Notified => "notified",
            Status::Failed => "failed",
            Status::Timeout => "timeout",
        }
    }
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Order {
    #[schema(value_type = String, format = "uuid")]
    pub order_id: Uuid,
    pub item: String,
    pub quantity: i64,
    pub status: Status,
    /// When it was placed, seconds since 1970
    #[sqlx(rename = "placed_at")]
    pub timestamp: f64,
    #[serde(skip)]
    pub student_id: Option<String>,
}

/// An order that the sweeper works on, and its workflow.
#[cfg(feature = "sync")]
#[derive(sqlx::FromRow)]
pub(crate) struct Due {
    pub(crate) order_id: Uuid,
    #[sqlx(json)]
    pub(crate) context: Context,
}

/// The key by which the order `id` is stored. A UUID in upper case names the same order as in lower case; any other text names itself.
pub(crate) fn key(id: &str) -> Cow<'_, str> {
    match parse_id(id) {
        Some(id) => id.to_string().into(),
        None => id.into(),
    }
}

/// The id of an order of campus-order, if the text can be one: with its hyphens, and without the other forms of a UUID.
pub(crate) fn parse_id(text: &str) -> Option<Uuid> {
    text.parse().ok().filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
}

/// Stores a placed order of the current workflow.
///
/// # Errors
/// As the database.
pub(crate) async fn place(
    tx: &mut PgConnection,
    item: &str,
    quantity: i64,
    student_id: Option<&str>,
) -> Result<Order, sqlx::Error> {
    let insert = sqlx::query_as(
        "INSERT INTO orders (order_id, item, quantity, student_id, context) VALUES ($1, $2, $3, $4, $5) RETURNING *",
    );
    let insert = insert.bind(Uuid::now_v7()).bind(item).bind(quantity).bind(student_id);
    let order: Order = insert.bind(sqlx::types::Json(Context::current())).fetch_one(tx).await?;
    telemetry::subject("order", order.order_id);
    Ok(order)
}

/// Stores a placed order for each of these workflows.
///
/// # Errors
/// As the database.
#[cfg(feature = "stream")]
pub(crate) async fn place_many(
    tx: &mut PgConnection,
    item: &str,
    quantity: i64,
    workflows: &[Context],
) -> Result<Vec<Order>, sqlx::Error> {
    let insert = sqlx::query_as(
        "INSERT INTO orders (order_id, item, quantity, context)
         SELECT id, $3, $4, context FROM unnest($1::uuid[], $2::jsonb[]) WITH ORDINALITY AS new (id, context, place)
         ORDER BY place RETURNING *",
    );
    let ids: Vec<Uuid> = workflows.iter().map(|_| Uuid::now_v7()).collect();
    let contexts: Vec<_> = workflows.iter().map(sqlx::types::Json).collect();
    insert.bind(ids).bind(contexts).bind(item).bind(quantity).fetch_all(tx).await
}

/// Brings an order from one status to another; `None` if it has another status, or does not exist.
///
/// # Errors
/// As the database.
pub(crate) async fn advance(
    tx: &mut PgConnection,
    order_id: Uuid,
    from: Status,
    to: Status,
) -> Result<Option<Order>, sqlx::Error> {
    let update =
        sqlx::query_as("UPDATE orders SET status = $3 WHERE order_id = $1 AND status = $2 RETURNING *");
    let order = update.bind(order_id).bind(from).bind(to).fetch_optional(&mut *tx).await?;
    if order.is_some() && from == Status::Placed {
        witness(tx, "order", order_id).await?;
    }
    Ok(order)
}

/// Ends a placed order although stock may be reserved for it, now or later: it is due to be released. `None` if the order is not
/// placed.
///
/// # Errors
/// As the database.
#[cfg(feature = "sync")]
pub(crate) async fn give_up(
    tx: &mut PgConnection,
    order_id: Uuid,
    to: Status,
) -> Result<Option<Order>, sqlx::Error> {
    let order = advance(tx, order_id, Status::Placed, to).await?;
    if order.is_some() {
        let due = sqlx::query("UPDATE orders SET release_due = true WHERE order_id = $1");
        due.bind(order_id).execute(tx).await?;
    }
    Ok(order)
}

/// Orders that have been placed for this long: a request ends its order earlier, so a crash left them.
///
/// # Errors
/// As the database.
#[cfg(feature = "sync")]
pub(crate) async fn overdue(
    tx: &mut PgConnection,
    after: std::time::Duration,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as(
        "SELECT order_id, context FROM orders
         WHERE (status || '') = 'placed' AND placed_at < extract(epoch FROM now()) - $1
         ORDER BY placed_at LIMIT 100 FOR UPDATE SKIP LOCKED",
    )
    .bind(after.as_secs_f64())
    .fetch_all(tx)
    .await
}

/// Orders whose stock has to be released.
///
/// # Errors
/// As the database.
#[cfg(feature = "sync")]
pub(crate) async fn to_release(tx: &mut PgConnection) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as("SELECT order_id, context FROM orders WHERE release_due ORDER BY seq LIMIT 100")
        .fetch_all(tx)
        .await
}

/// The stock of these orders is released.
///
/// # Errors
/// As the database.
#[cfg(feature = "sync")]
pub(crate) async fn released(tx: &mut PgConnection, order_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE orders SET release_due = false WHERE order_id = ANY ($1)");
    update.bind(order_ids).execute(tx).await?;
    Ok(())
}

/// # Errors
/// 404 when there is none.
pub(crate) async fn find(tx: &mut PgConnection, order_id: &str) -> Result<Order, ApiError> {
    let missing = || ApiError::not_found("order", order_id);
    let id = parse_id(order_id).ok_or_else(missing)?;
    let found =
        sqlx::query_as("SELECT * FROM orders WHERE order_id = $1").bind(id).fetch_optional(tx).await?;
    found.ok_or_else(missing)
}

/// # Errors
/// As the database.
pub(crate) async fn newest(tx: &mut PgConnection, newest: Newest) -> Result<Vec<Order>, sqlx::Error> {
    let orders = sqlx::query_as("SELECT * FROM orders ORDER BY seq DESC LIMIT $1");
    orders.bind(newest.limit).fetch_all(tx).await
}

/// The paths that only look.
pub(crate) fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).with_state(db)
}

/// `POST /admin/reset`.
pub(crate) fn reset(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(crate::reset)).with_state(Rows { db, tables: &["orders"] })
}

/// The newest orders
#[utoipa::path(get, path = "/orders", params(Newest), responses((status = 200, body = [Order]), Problems))]
async fn list(State(db): State<Db>, Query(limit): Query<Newest>) -> Result<Json<Vec<Order>>, ApiError> {
    Ok(Json(newest(&mut *db.acquire().await?, limit).await?))
}

/// An order
#[utoipa::path(get, path = "/order/{order_id}", params(("order_id" = String, Path)),
    responses((status = 200, body = Order), Problems))]
async fn get(State(db): State<Db>, Path(order_id): Path<String>) -> Result<Json<Order>, ApiError> {
    Ok(Json(find(&mut *db.acquire().await?, &order_id).await?))
}
