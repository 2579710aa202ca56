//! What the stacks with a broker share: the dependencies of handlers, faults, and the end of an order.

use common::bus::{HandlerError, Incoming, Outcome};
use common::outbox::Outbox;
use common::{Db, Tx};
use contract::campus::effects::ORDER;
use serde::{Deserialize, Serialize};

use crate::orders::{self, Status};
use crate::stock::Stock;

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
