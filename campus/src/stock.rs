//! Stock and reservations. Each step is keyed by the order, so that it counts once in whatever order and however often it comes.
//! Of the stack only the seed is known here.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::web::OptionalJson;
use common::{ApiError, Db};
use contract::campus;
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::faults::Faults;
use crate::orders::key;
use crate::{Empty, Reset, forget};

/// What inventory works on.
#[derive(Clone)]
pub(crate) struct Stock {
    pub(crate) db: Db,
    pub(crate) faults: Faults,
    seed: &'static [(&'static str, i64)],
}

/// The state of a reservation. A reserved one may become released; the others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum ReservationState {
    Reserved,
    UnknownItem,
    InsufficientStock,
    Released,
}

/// Why stock is not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownItem,
    InsufficientStock,
    /// The reservation of this order was released.
    Released,
    /// The order has a reservation of another item or quantity.
    Other,
}

/// The result of a request to reserve stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) refusal: Option<Refusal>,
    /// No earlier request of the same order found this.
    pub(crate) first: bool,
}

#[derive(sqlx::FromRow)]
struct Stored {
    /// `None` in a tombstone, which matches every request.
    item: Option<String>,
    quantity: Option<i64>,
    state: ReservationState,
}

impl Stock {
    pub(crate) fn new(db: Db, stack: campus::Stack) -> Stock {
        Stock { db, faults: Faults::default(), seed: stack.seed() }
    }

    /// Takes stock for an order.
    ///
    /// # Errors
    /// As the database.
    pub(crate) async fn reserve(
        &self,
        tx: &mut PgConnection,
        order_id: &str,
        item: &str,
        quantity: i64,
    ) -> Result<Reservation, sqlx::Error> {
        let order_id = &*key(order_id);
        let inserted = sqlx::query(
            "INSERT INTO reservations (order_id, item, quantity, state) VALUES ($1, $2, $3, 'reserved')
             ON CONFLICT DO NOTHING",
        );
        let inserted = inserted.bind(order_id).bind(item).bind(quantity).execute(&mut *tx).await?;
        if inserted.rows_affected() == 0 {
            return earlier(tx, order_id, item, quantity).await;
        }
        let (state, refusal) = match self.take(tx, item, quantity).await? {
            None => {
                witness(tx, "reserve", order_id).await?;
                return Ok(Reservation { refusal: None, first: true });
            }
            Some(refusal @ Refusal::UnknownItem) => (ReservationState::UnknownItem, refusal),
            Some(refusal) => (ReservationState::InsufficientStock, refusal),
        };
        // Stored, so that a repeated request of the order gets the same answer.
        let refused = sqlx::query("UPDATE reservations SET state = $2 WHERE order_id = $1");
        refused.bind(order_id).bind(state).execute(tx).await?;
        Ok(Reservation { refusal: Some(refusal), first: true })
    }

    /// Takes units of an item, or says why not.
    async fn take(
        &self,
        tx: &mut PgConnection,
        item: &str,
        quantity: i64,
    ) -> Result<Option<Refusal>, sqlx::Error> {
        let Some((_, seed)) = self.seed.iter().find(|(name, _)| *name == item) else {
            return Ok(Some(Refusal::UnknownItem));
        };
        let taken = sqlx::query(
            "INSERT INTO taken (item, units) SELECT $1, $2 WHERE $2 <= $3
             ON CONFLICT (item) DO UPDATE SET units = taken.units + $2 WHERE taken.units + $2 <= $3",
        );
        let taken = taken.bind(item).bind(quantity).bind(seed).execute(tx).await?;
        Ok((taken.rows_affected() == 0).then_some(Refusal::InsufficientStock))
    }

    pub(crate) fn routes(&self) -> OpenApiRouter {
        let routes =
            OpenApiRouter::new().routes(routes!(stock)).routes(routes!(reset)).with_state(self.clone());
        routes.merge(self.faults.routes())
    }
}

/// The result of an earlier request of the same order.
async fn earlier(
    tx: &mut PgConnection,
    order_id: &str,
    item: &str,
    quantity: i64,
) -> Result<Reservation, sqlx::Error> {
    let select = sqlx::query_as("SELECT item, quantity, state FROM reservations WHERE order_id = $1");
    let stored: Stored = select.bind(order_id).fetch_one(tx).await?;
    let same =
        stored.item.is_none_or(|stored| stored == item) && stored.quantity.is_none_or(|q| q == quantity);
    let refusal = match stored.state {
        _ if !same => Some(Refusal::Other),
        ReservationState::Reserved => None,
        ReservationState::UnknownItem => Some(Refusal::UnknownItem),
        ReservationState::InsufficientStock => Some(Refusal::InsufficientStock),
        ReservationState::Released => Some(Refusal::Released),
    };
    Ok(Reservation { refusal, first: false })
}

/// Gives the stock of an order back. A reservation that comes later finds that it was released.
///
/// # Errors
/// As the database.
#[cfg(feature = "sync")]
pub(crate) async fn release(tx: &mut PgConnection, order_id: &str) -> Result<(), sqlx::Error> {
    let order_id = &*key(order_id);
    let tombstone = sqlx::query(
        "INSERT INTO reservations (order_id, state) VALUES ($1, 'released') ON CONFLICT DO NOTHING",
    );
    if tombstone.bind(order_id).execute(&mut *tx).await?.rows_affected() == 1 {
        return Ok(());
    }
    let released = sqlx::query_as(
        "UPDATE reservations SET state = 'released' WHERE order_id = $1 AND state = 'reserved'
         RETURNING item, quantity",
    );
    let released: Option<(String, i64)> = released.bind(order_id).fetch_optional(&mut *tx).await?;
    if let Some((item, quantity)) = released {
        let free = sqlx::query("UPDATE taken SET units = units - $2 WHERE item = $1");
        free.bind(item).bind(quantity).execute(&mut *tx).await?;
        witness(tx, "release", order_id).await?;
    }
    Ok(())
}

/// The orders that were decided, each once.
///
/// # Errors
/// As the database.
#[cfg(feature = "stream")]
pub(crate) async fn decided(tx: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM reservations").fetch_one(tx).await
}

/// The free units of each item
#[utoipa::path(get, path = "/stock", responses((status = 200, body = BTreeMap<String, i64>), Problems))]
async fn stock(State(stock): State<Stock>) -> Result<Json<BTreeMap<&'static str, i64>>, ApiError> {
    let taken: Vec<(String, i64)> =
        sqlx::query_as("SELECT item, units FROM taken").fetch_all(&mut *stock.db.acquire().await?).await?;
    let free = |(item, seed): &(&'static str, i64)| {
        let taken = taken.iter().find(|(name, _)| name == item).map_or(0, |(_, units)| *units);
        (*item, seed - taken)
    };
    Ok(Json(stock.seed.iter().map(free).collect()))
}

/// Seed stock, no reservations, no faults; for an idle stack
#[utoipa::path(post, path = "/admin/reset", request_body = Option<Empty>,
    responses((status = 200, body = Reset), Problems))]
async fn reset(
    State(stock): State<Stock>,
    OptionalJson(Empty {}): OptionalJson<Empty>,
) -> Result<Json<Reset>, ApiError> {
    let mut tx = stock.db.begin().await?;
    forget(&mut tx, &["reservations", "taken"]).await?;
    tx.commit().await?;
    stock.faults.end();
    Ok(Json(Reset { status: "reset" }))
}
