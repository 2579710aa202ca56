//! S5 in async mode: there is no coordinator; the stock reacts to the events of the order.
//! Twin: `sync.rs` is called by orderservice for each step.

use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::events::{
    INVENTORY_ORDER_CANCELLED_QUEUE, INVENTORY_PAYMENT_FAILED_QUEUE, INVENTORY_PAYMENT_SUCCEEDED_QUEUE,
    ORDER_CREATED_QUEUE, OrderCancelled, OrderCreated, PaymentFailed, PaymentSucceeded, StockRejected,
    StockReserved,
};
use common::outbox::Outbox;
use common::saga::StockRefusal;
use common::{ApiError, Deps, Service, Tx, effects};

use crate::stock::{self, End, Ending, Reservation};

#[derive(Clone)]
struct App {
    outbox: Outbox,
}

pub fn service(deps: &Deps) -> Service {
    let (app, db) = (App { outbox: deps.outbox() }, deps.db());
    let consumers = Consumers::of(app)
        .with(transaction(&db, ORDER_CREATED_QUEUE, reserve_stock))
        .with(transaction(&db, INVENTORY_PAYMENT_FAILED_QUEUE, release_stock))
        .with(transaction(&db, INVENTORY_PAYMENT_SUCCEEDED_QUEUE, commit_stock))
        .with(transaction(&db, INVENTORY_ORDER_CANCELLED_QUEUE, cancel_stock));
    Service::new(stock::routes(deps.db()))
        .publishes::<StockReserved>()
        .publishes::<StockRejected>()
        .consumes(consumers)
        .every(stock::MEASURE_EVERY, "stock gauge", move || stock::measure(db.clone()))
}

/// Keyed by the order: asked again, it announces again what was found first, so that a saga that got stuck goes on. The same
/// order with another product or quantity is set aside.
async fn reserve_stock(
    app: App,
    tx: &mut Tx,
    order: Incoming<OrderCreated>,
) -> Result<Outcome, HandlerError> {
    let OrderCreated { order_id, product_id, quantity } = order.event;
    let reservation = stock::reserve(tx, Some(order_id), product_id, quantity).await?;
    match reservation {
        Reservation::Held => {
            app.outbox.add(tx, &StockReserved { order_id, product_id, quantity })?;
            Ok(Outcome::Applied)
        }
        Reservation::Refused { refusal: StockRefusal::ReservationEnded, .. } => Ok(Outcome::Applied),
        Reservation::Refused { refusal: refusal @ StockRefusal::OtherReservation, .. } => {
            Err(ApiError::from(refusal).into())
        }
        Reservation::Refused { refusal, first } => {
            app.outbox.add(tx, &StockRejected { order_id, reason: refusal.as_str().into() })?;
            Ok(if first { Outcome::Completed(effects::STOCK, "refused") } else { Outcome::Applied })
        }
    }
}

/// The compensation. Keyed by the order: only what is reserved is released.
async fn release_stock(
    _: App,
    tx: &mut Tx,
    payment: Incoming<PaymentFailed>,
) -> Result<Outcome, HandlerError> {
    end_reservation(tx, payment.order_id, End::Released, "released").await
}

/// Keyed by the order: only what is reserved is sold. What was released before stays released: the order was given up.
async fn commit_stock(
    _: App,
    tx: &mut Tx,
    payment: Incoming<PaymentSucceeded>,
) -> Result<Outcome, HandlerError> {
    end_reservation(tx, payment.order_id, End::Committed, "sold").await
}

/// Keyed by the order: what comes after finds the tombstone.
async fn cancel_stock(_: App, tx: &mut Tx, order: Incoming<OrderCancelled>) -> Result<Outcome, HandlerError> {
    end_reservation(tx, order.order_id, End::Cancelled, "released").await
}

async fn end_reservation(
    tx: &mut Tx,
    order_id: i64,
    end: End,
    outcome: &'static str,
) -> Result<Outcome, HandlerError> {
    Ok(match stock::end(tx, order_id, None, end).await? {
        Ending::Now => Outcome::Completed(effects::STOCK, outcome),
        Ending::Before | Ending::NotHeld => Outcome::Duplicate,
    })
}
