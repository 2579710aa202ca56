//! Stock and reservations. Each step is keyed by the order and guarded by the state it expects, so that it counts once in
//! whatever order and however often it comes. A step with other contents than the stored one moves nothing. Nothing here
//! knows the mode.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::{Protection, disabled, witness};
use common::metrics::{self, Gauges};
use common::saga::{INSUFFICIENT_STOCK, OTHER_RESERVATION, UNKNOWN_PRODUCT};
use common::web::{Page, Path, Query};
use common::{ApiError, Db};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Stock {
    pub product_id: i64,
    pub stock: i64,
    /// Held for orders that have not ended
    pub reserved: i64,
}

/// What became of a request to hold stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It is held, now or since before.
    Held,
    /// It cannot be: the reason. `first` if that was found now.
    Rejected { reason: String, first: bool },
    /// The order's reservation has ended already.
    Ended,
    /// The order's reservation is for another product or quantity.
    Other,
}

/// Holds stock for an order.
///
/// # Errors
/// As the database.
pub async fn reserve(
    tx: &mut PgConnection,
    order_id: Option<i64>,
    product_id: i64,
    quantity: i64,
) -> Result<Reservation, sqlx::Error> {
    let inserted: Option<i64> = sqlx::query_scalar(
        "INSERT INTO reservations (order_id, product_id, quantity, state) VALUES ($1, $2, $3, 'reserved')
         ON CONFLICT (order_id) DO NOTHING RETURNING id",
    )
    .bind(order_id)
    .bind(product_id)
    .bind(quantity)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = inserted else { return earlier(tx, order_id, (product_id, quantity)).await };
    let held = sqlx::query(
        "UPDATE inventory SET reserved = reserved + $2 WHERE product_id = $1 AND stock - reserved >= $2",
    )
    .bind(product_id)
    .bind(quantity)
    .execute(&mut *tx)
    .await?;
    if held.rows_affected() == 1 {
        if let Some(order_id) = order_id {
            witness(tx, "reserve", order_id).await?;
        }
        return Ok(Reservation::Held);
    }
    let known = find(tx, product_id).await?.is_some();
    let reason = if known { INSUFFICIENT_STOCK } else { UNKNOWN_PRODUCT };
    // Kept, so that the order gets the same answer when it asks again.
    sqlx::query("UPDATE reservations SET state = 'rejected', reason = $2 WHERE id = $1")
        .bind(id)
        .bind(reason)
        .execute(tx)
        .await?;
    Ok(Reservation::Rejected { reason: reason.into(), first: true })
}

/// What an order's reservation came to before.
async fn earlier(
    tx: &mut PgConnection,
    order_id: Option<i64>,
    contents: (i64, i64),
) -> Result<Reservation, sqlx::Error> {
    let (product_id, quantity, state, reason): (Option<i64>, i64, String, Option<String>) =
        sqlx::query_as("SELECT product_id, quantity, state, reason FROM reservations WHERE order_id = $1")
            .bind(order_id)
            .fetch_one(tx)
            .await?;
    Ok(match state.as_str() {
        _ if product_id.is_some_and(|product_id| (product_id, quantity) != contents) => Reservation::Other,
        "reserved" => Reservation::Held,
        "rejected" => Reservation::Rejected { reason: reason.unwrap_or_default(), first: false },
        _ => Reservation::Ended,
    })
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The payment failed: free again. This is the compensation.
    Released,
    /// It was paid: gone from the stock.
    Committed,
    /// The order was given up: free again, even what was sold; a reservation that comes later finds the tombstone.
    Cancelled,
}

/// What became of a request to end a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Now,
    /// It had ended so before.
    Before,
    /// It cannot be sold: it had been released, or refused.
    NotHeld,
}

/// Ends an order's reservation. `contents` are its product and quantity, where the caller says them.
///
/// # Errors
/// 409 when the reservation has other contents, 404 when there is none to be sold.
pub async fn end(
    tx: &mut PgConnection,
    order_id: i64,
    contents: Option<(i64, i64)>,
    end: End,
) -> Result<Ending, ApiError> {
    if end == End::Released && disabled(Protection::Compensation) {
        return Ok(Ending::Now);
    }
    let mut ended = close(tx, order_id, contents, end).await?;
    if ended.is_none() && end != End::Committed {
        if entomb(tx, order_id, contents).await? {
            return Ok(Ending::Now);
        }
        // There is a row after all: it has ended before, or was being made while the first look was taken.
        ended = close(tx, order_id, contents, end).await?;
    }
    let Some((product_id, quantity, before)) = ended else {
        return not_ended(tx, order_id, contents, end).await;
    };
    let move_stock = match (before.as_str(), end) {
        ("committed", _) => "UPDATE inventory SET stock = stock + $2 WHERE product_id = $1",
        (_, End::Committed) => {
            "UPDATE inventory SET stock = stock - $2, reserved = reserved - $2 WHERE product_id = $1"
        }
        _ => "UPDATE inventory SET reserved = reserved - $2 WHERE product_id = $1",
    };
    sqlx::query(move_stock).bind(product_id).bind(quantity).execute(&mut *tx).await?;
    witness(tx, if end == End::Committed { "sell" } else { "release" }, order_id).await?;
    Ok(Ending::Now)
}

/// Why a reservation could not end so.
async fn not_ended(
    tx: &mut PgConnection,
    order_id: i64,
    contents: Option<(i64, i64)>,
    end: End,
) -> Result<Ending, ApiError> {
    let stored: Option<(Option<i64>, i64, String)> =
        sqlx::query_as("SELECT product_id, quantity, state FROM reservations WHERE order_id = $1")
            .bind(order_id)
            .fetch_optional(tx)
            .await?;
    let Some((product_id, quantity, state)) = stored else {
        return Err(ApiError::not_found("reservation of order", order_id));
    };
    // A tombstone without a product fits everything.
    let stored = product_id.map(|product_id| (product_id, quantity));
    if let (Some(stored), Some(asked)) = (stored, contents)
        && stored != asked
    {
        return Err(ApiError::Conflict(OTHER_RESERVATION.into()));
    }
    let sold = state == "committed";
    Ok(if end == End::Committed && !sold { Ending::NotHeld } else { Ending::Before })
}

/// Product, quantity and former state of the reservation, if it has these contents and was in a state that can end so.
async fn close(
    tx: &mut PgConnection,
    order_id: i64,
    contents: Option<(i64, i64)>,
    end: End,
) -> Result<Option<(i64, i64, String)>, sqlx::Error> {
    let (state, from) = match end {
        End::Released => ("released", &["reserved"][..]),
        End::Committed => ("committed", &["reserved"][..]),
        End::Cancelled => ("released", &["reserved", "committed"][..]),
    };
    sqlx::query_as(
        "UPDATE reservations r SET state = $2 FROM (SELECT id, state FROM reservations WHERE order_id = $1 FOR UPDATE) old
         WHERE r.id = old.id AND old.state = ANY($3)
           AND r.product_id = coalesce($4, r.product_id) AND r.quantity = coalesce($5, r.quantity)
         RETURNING r.product_id, r.quantity, old.state",
    )
    .bind(order_id)
    .bind(state)
    .bind(from)
    .bind(contents.map(|(product_id, _)| product_id))
    .bind(contents.map(|(_, quantity)| quantity))
    .fetch_optional(tx)
    .await
}

/// Keeps a reservation from being made after it was released; `false` if there is a row for the order.
async fn entomb(
    tx: &mut PgConnection,
    order_id: i64,
    contents: Option<(i64, i64)>,
) -> Result<bool, sqlx::Error> {
    let entombed = sqlx::query(
        "INSERT INTO reservations (order_id, product_id, quantity, state) VALUES ($1, $2, $3, 'released')
         ON CONFLICT (order_id) DO NOTHING",
    )
    .bind(order_id)
    .bind(contents.map(|(product_id, _)| product_id))
    .bind(contents.map_or(0, |(_, quantity)| quantity));
    Ok(entombed.execute(tx).await?.rows_affected() == 1)
}

/// Releases one reservation that was made without an order; `false` if there is none like it.
///
/// # Errors
/// As the database.
pub async fn release_anonymous(
    tx: &mut PgConnection,
    product_id: i64,
    quantity: i64,
) -> Result<bool, sqlx::Error> {
    let released = sqlx::query(
        "UPDATE reservations SET state = 'released' WHERE id = (
             SELECT id FROM reservations
             WHERE order_id IS NULL AND state = 'reserved' AND product_id = $1 AND quantity = $2
             ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)",
    );
    if released.bind(product_id).bind(quantity).execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE inventory SET reserved = reserved - $2 WHERE product_id = $1")
        .bind(product_id)
        .bind(quantity)
        .execute(tx)
        .await?;
    Ok(true)
}

/// The stock of a product, if it is known.
///
/// # Errors
/// As the database.
pub async fn find(tx: &mut PgConnection, product_id: i64) -> Result<Option<Stock>, sqlx::Error> {
    let select = sqlx::query_as("SELECT product_id, stock, reserved FROM inventory WHERE product_id = $1");
    select.bind(product_id).fetch_optional(tx).await
}

static UNITS: LazyLock<Gauges> =
    LazyLock::new(|| metrics::get().own_gauge("stock_units", "Units of all products", &["state"]));

/// How often [`measure`] is called.
pub const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Brings the gauge of the stock up to date.
///
/// # Errors
/// As the database.
pub async fn measure(db: Db) -> Result<(), sqlx::Error> {
    db.wait_ready().await;
    let (free, reserved): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(stock - reserved), 0)::int8, coalesce(sum(reserved), 0)::int8 FROM inventory",
    )
    .fetch_one(&mut *db.acquire().await?)
    .await?;
    UNITS.with_label_values(&["free"]).set(free);
    UNITS.with_label_values(&["reserved"]).set(reserved);
    Ok(())
}

/// The paths that are the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(reset)).with_state(db)
}

/// The stock of all products
#[utoipa::path(get, path = "/inventory", params(Page), responses((status = 200, body = [Stock]), Problems))]
async fn list(State(db): State<Db>, Query(page): Query<Page>) -> Result<Json<Vec<Stock>>, ApiError> {
    let stock =
        sqlx::query_as("SELECT product_id, stock, reserved FROM inventory ORDER BY product_id DESC LIMIT $1");
    Ok(Json(stock.bind(page.limit).fetch_all(&mut *db.acquire().await?).await?))
}

/// The stock of one product
#[utoipa::path(get, path = "/inventory/{product_id}", params(("product_id" = i64, Path)),
    responses((status = 200, body = Stock), Problems))]
async fn get(State(db): State<Db>, Path(product_id): Path<i64>) -> Result<Json<Stock>, ApiError> {
    let mut connection = db.acquire().await?;
    let stock = find(&mut connection, product_id).await?;
    Ok(Json(stock.ok_or_else(|| ApiError::not_found("product", product_id))?))
}

/// Bring the stock of every product back to what it started with; reservations stay
#[utoipa::path(post, path = "/reset_stock", responses((status = 200, body = [Stock]), Problems))]
async fn reset(State(db): State<Db>) -> Result<Json<Vec<Stock>>, ApiError> {
    let stock = sqlx::query_as(
        "UPDATE inventory SET stock = greatest(seed_stock, reserved) RETURNING product_id, stock, reserved",
    );
    Ok(Json(stock.fetch_all(&mut *db.acquire().await?).await?))
}
