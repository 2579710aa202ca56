//! What the stacks with a broker share: the dependencies of handlers, faults, the decision about an order, and its end.

use common::bus::{HandlerError, Incoming, Outcome};
use common::context::now_us;
use common::outbox::Outbox;
use common::rules::no_nul;
use common::{Db, Tx};
use contract::campus::effects::ORDER;
use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::orders::{self, Status};
use crate::stock::{Reservation, Stock};
use crate::{MAX_QUANTITY, MAX_TEXT};

/// What campus-order works on.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
}

/// What campus-inventory works on.
#[derive(Clone)]
pub(crate) struct Inventory {
    pub(crate) stock: Stock,
    pub(crate) outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Reserved,
    Failed,
}

/// Inventory has reserved stock for an order, or could not.
#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
pub struct StockDecided {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    pub quantity: i64,
    #[garde(skip)]
    pub status: Decision,
    /// Seconds since 1970.
    #[garde(skip)]
    pub timestamp: Option<f64>,
}

/// Keyed by the order: `None` if it was decided before, by another message about it.
pub(crate) async fn decide(
    app: &Inventory,
    tx: &mut Tx,
    order_id: String,
    item: String,
    quantity: i64,
) -> Result<Option<StockDecided>, sqlx::Error> {
    let Reservation { refusal, first } = app.stock.reserve(tx, &order_id, &item, quantity).await?;
    let timestamp = Some(now_us() as f64 / 1e6);
    let status = if refusal.is_none() { Decision::Reserved } else { Decision::Failed };
    Ok(first.then_some(StockDecided { order_id, item, quantity, status, timestamp }))
}

/// The faults that are set for each reservation. Events wait side by side.
pub(crate) async fn faults<E>(app: Inventory, _: Incoming<E>) -> Result<Option<Outcome>, HandlerError> {
    app.stock.faults.pass().await.map_err(HandlerError::retry)?;
    Ok(None)
}

/// Keyed by the order: only a placed one ends. Orders that are not known here came from another publisher.
pub(crate) async fn end(tx: &mut Tx, order_id: &str, reserved: bool) -> Result<Outcome, HandlerError> {
    let Some(order_id) = orders::parse_id(order_id) else { return Ok(Outcome::Duplicate) };
    let to = if reserved { Status::Reserved } else { Status::Failed };
    let ended = orders::advance(tx, order_id, Status::Placed, to).await?;
    Ok(if ended.is_some() { Outcome::Completed(ORDER, to.as_str()) } else { Outcome::Duplicate })
}
