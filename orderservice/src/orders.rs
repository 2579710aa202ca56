//! Orders: pending until their saga ends them, once. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::saga::SagaSettings;
use common::web::{Page, Path, Query};
use common::{ApiError, Context, Db, rules, telemetry};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub saga: SagaSettings,
    /// Seconds after which a pending order is taken up again
    #[arg(long, env, default_value_t = 60)]
    pub saga_retry_seconds: u32,
    /// Seconds after which a pending order is given up (async mode; in sync mode it is given up when taken up again)
    #[arg(long, env, default_value_t = 600)]
    pub saga_give_up_seconds: u32,
}

/// What `POST /create_order` takes.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub product_id: i64,
    #[serde(default = "one")]
    #[garde(range(min = 1, max = rules::MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 2_147_483_647_i64, default = 1)]
    pub quantity: i64,
}

fn one() -> i64 {
    1
}

/// The state of an order. A pending one ends once, as failed or completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    Pending,
    Failed,
    Completed,
}

/// What made an order fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Cause {
    /// Stock could not be reserved.
    Stock,
    /// The payment was refused.
    Payment,
    /// A step gave no answer, so the saga was undone.
    Interrupted,
    /// The order was pending for too long, so the sweeper gave it up.
    Overdue,
}

impl Cause {
    /// The `message` of a failed order's 400.
    pub fn message(self) -> &'static str {
        match self {
            Cause::Stock => "Order failed due to stock issue",
            Cause::Payment => "Order failed due to payment issue",
            Cause::Interrupted => "Order failed due to an interrupted step",
            Cause::Overdue => "Order failed because it was pending for too long",
        }
    }
}

/// The stored reason of an order that the sweeper gives up.
pub const OVERDUE: &str = "Order given up: it was pending for too long";

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Order {
    pub id: i64,
    pub product_id: i64,
    pub quantity: i64,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    pub cause: Option<Cause>,
    /// This service knows that the reserved stock was released. In async mode inventoryservice releases it without a report.
    #[serde(skip)]
    pub compensated: bool,
    #[serde(skip)]
    #[sqlx(json)]
    pub context: Context,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What sync mode answers about a failed order: a problem with members of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedOrder {
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    title: &'static str,
    #[schema(example = 400)]
    status: u16,
    message: &'static str,
    detail: FailureDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct FailureDetail {
    message: &'static str,
    order_id: i64,
    product_id: i64,
    quantity: i64,
    reason: String,
    /// Whether stock had been reserved and was released
    compensation_executed: bool,
}

impl FailedOrder {
    pub fn of(order: Order) -> FailedOrder {
        let message = order.cause.unwrap_or(Cause::Interrupted).message();
        let detail = FailureDetail {
            message,
            order_id: order.id,
            product_id: order.product_id,
            quantity: order.quantity,
            reason: order.reason.unwrap_or_default(),
            compensation_executed: order.compensated,
        };
        FailedOrder { kind: "about:blank", title: "Order failed", status: 400, message, detail }
    }
}

/// How an order ends.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    Completed,
    /// `compensated`: the stock that was reserved for it has been released.
    Failed {
        cause: Cause,
        reason: &'a str,
        compensated: bool,
    },
}

impl End<'_> {
    /// The outcome of the final effect, in metrics and journals.
    pub fn outcome(self) -> &'static str {
        match self {
            End::Completed => "completed",
            End::Failed { .. } => "failed",
        }
    }
}

/// Stores a pending order of the current workflow.
///
/// # Errors
/// As the database.
pub async fn insert(tx: &mut PgConnection, new: &NewOrder) -> Result<Order, sqlx::Error> {
    let insert =
        sqlx::query_as("INSERT INTO orders (product_id, quantity, context) VALUES ($1, $2, $3) RETURNING *")
            .bind(new.product_id)
            .bind(new.quantity)
            .bind(sqlx::types::Json(Context::current()));
    let order: Order = insert.fetch_one(tx).await?;
    telemetry::subject("order", order.id);
    Ok(order)
}

/// # Errors
/// 404 when there is none.
pub async fn find(tx: &mut PgConnection, id: i64) -> Result<Order, ApiError> {
    let found = sqlx::query_as("SELECT * FROM orders WHERE id = $1").bind(id).fetch_optional(tx).await?;
    found.ok_or_else(|| ApiError::not_found("order", id))
}

/// Ends a pending order; `false` if it had ended.
///
/// # Errors
/// 404 when there is none.
pub async fn end(tx: &mut PgConnection, id: i64, end: End<'_>) -> Result<bool, ApiError> {
    let (status, cause, reason, compensated) = match end {
        End::Completed => (Status::Completed, None, None, false),
        End::Failed { cause, reason, compensated } => {
            (Status::Failed, Some(cause), Some(reason), compensated)
        }
    };
    let ended = sqlx::query(
        "UPDATE orders SET status = $2, cause = $3, reason = $4, compensated = $5
         WHERE id = $1 AND status = 'pending'",
    )
    .bind(id)
    .bind(status)
    .bind(cause)
    .bind(reason)
    .bind(compensated)
    .execute(&mut *tx)
    .await?;
    let first = ended.rows_affected() == 1;
    if first {
        witness(tx, "order", id).await?;
    } else {
        find(tx, id).await?;
    }
    Ok(first)
}

/// Orders that have been pending for too long, taken for one more try. Several instances share them.
///
/// # Errors
/// As the database.
pub async fn take_overdue(tx: &mut PgConnection, settings: &Settings) -> Result<Vec<Order>, sqlx::Error> {
    sqlx::query_as(
        "UPDATE orders SET tried_at = now() WHERE id IN (
             SELECT id FROM orders WHERE (status || '') = 'pending' AND tried_at < now() - make_interval(secs => $1)
             ORDER BY tried_at LIMIT 100 FOR UPDATE SKIP LOCKED)
         RETURNING *",
    )
    .bind(f64::from(settings.saga_retry_seconds))
    .fetch_all(tx)
    .await
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).with_state(db)
}

/// The newest orders
#[utoipa::path(get, path = "/orders", params(Page), responses((status = 200, body = [Order]), Problems))]
async fn list(State(db): State<Db>, Query(page): Query<Page>) -> Result<Json<Vec<Order>>, ApiError> {
    let orders = sqlx::query_as("SELECT * FROM orders ORDER BY id DESC LIMIT $1").bind(page.limit);
    Ok(Json(orders.fetch_all(&mut *db.acquire().await?).await?))
}

/// One order
#[utoipa::path(get, path = "/orders/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = Order), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<i64>) -> Result<Json<Order>, ApiError> {
    let mut connection = db.acquire().await?;
    Ok(Json(find(&mut connection, id).await?))
}
