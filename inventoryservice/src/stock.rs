//! Stock and reservations. Each step is keyed by the order and guarded by the state it expects, so that it counts once in
//! any order and any number of times. A step with other contents than the stored one moves nothing. Nothing here
//! knows the mode.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::{Protection, disabled, witness};
use common::metrics::{self, Gauges};
use common::saga::StockRefusal;
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

/// The state of a reservation. A reserved one ends once, as released or committed; a committed one may still be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
enum ReservationState {
    Reserved,
    Rejected,
    Released,
    Committed,
}

/// The result of a request to reserve stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The stock is reserved, by this request or by an earlier one.
    Held,
    /// It is not reserved. `first`: no earlier request found this.
    Refused { refusal: StockRefusal, first: bool },
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
    let refusal = if known { StockRefusal::InsufficientStock } else { StockRefusal::UnknownProduct };
    // Stored, so that a repeated request of the order gets the same answer.
    sqlx::query("UPDATE reservations SET state = 'rejected', reason = $2 WHERE id = $1")
        .bind(id)
        .bind(refusal.as_str())
        .execute(tx)
        .await?;
    Ok(Reservation::Refused { refusal, first: true })
}

#[derive(sqlx::FromRow)]
struct Stored {
    /// `None` in a tombstone that was made without a product: it matches every request.
    product_id: Option<i64>,
    quantity: i64,
    state: ReservationState,
    reason: Option<String>,
}

impl Stored {
    fn differs(&self, contents: (i64, i64)) -> bool {
        self.product_id.is_some_and(|product_id| (product_id, self.quantity) != contents)
    }
}

async fn stored(tx: &mut PgConnection, order_id: Option<i64>) -> Result<Option<Stored>, sqlx::Error> {
    let select = "SELECT product_id, quantity, state, reason FROM reservations WHERE order_id = $1";
    sqlx::query_as(select).bind(order_id).fetch_optional(tx).await
}

/// The result of an earlier request of the same order.
async fn earlier(
    tx: &mut PgConnection,
    order_id: Option<i64>,
    contents: (i64, i64),
) -> Result<Reservation, sqlx::Error> {
    let stored = stored(tx, order_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    let refused = |refusal| Ok(Reservation::Refused { refusal, first: false });
    if stored.differs(contents) {
        return refused(StockRefusal::OtherReservation);
    }
    match stored.state {
        ReservationState::Reserved => Ok(Reservation::Held),
        ReservationState::Rejected => {
            let reason = stored.reason.unwrap_or_default();
            refused(reason.try_into().map_err(|error: String| sqlx::Error::Decode(error.into()))?)
        }
        ReservationState::Released | ReservationState::Committed => refused(StockRefusal::ReservationEnded),
    }
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
    let move_stock = match (before, end) {
        (ReservationState::Committed, _) => "UPDATE inventory SET stock = stock + $2 WHERE product_id = $1",
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
    let Some(stored) = stored(tx, Some(order_id)).await? else {
        return Err(ApiError::not_found("reservation of order", order_id));
    };
    if contents.is_some_and(|contents| stored.differs(contents)) {
        return Err(StockRefusal::OtherReservation.into());
    }
    let sold = stored.state == ReservationState::Committed;
    Ok(if end == End::Committed && !sold { Ending::NotHeld } else { Ending::Before })
}

/// Product, quantity and former state of the reservation, if it has these contents and was in a state that can end so.
async fn close(
    tx: &mut PgConnection,
    order_id: i64,
    contents: Option<(i64, i64)>,
    end: End,
) -> Result<Option<(i64, i64, ReservationState)>, sqlx::Error> {
    let (state, from) = match end {
        End::Released => (ReservationState::Released, &["reserved"][..]),
        End::Committed => (ReservationState::Committed, &["reserved"][..]),
        End::Cancelled => (ReservationState::Released, &["reserved", "committed"][..]),
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
