//! S5 in async mode: nobody coordinates; the stock reacts to what happened to the order.
//! Twin: `sync.rs` is called by orderservice for each step.

use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::events::{
    INVENTORY_ORDER_CANCELLED_QUEUE, INVENTORY_PAYMENT_FAILED_QUEUE, INVENTORY_PAYMENT_SUCCEEDED_QUEUE,
    ORDER_CREATED_QUEUE, OrderCancelled, OrderCreated, PaymentFailed, PaymentSucceeded, StockRejected,
    StockReserved,
};
use common::outbox::Outbox;
use common::{ApiError, Db, Deps, Service, effects, inbox};

use crate::stock::{self, End, Reservation};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
}

pub fn service(deps: &Deps) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox() };
    let consumers = Consumers::of(app)
        .on(ORDER_CREATED_QUEUE, reserve_stock)
        .on(INVENTORY_PAYMENT_FAILED_QUEUE, release_stock)
        .on(INVENTORY_PAYMENT_SUCCEEDED_QUEUE, commit_stock)
        .on(INVENTORY_ORDER_CANCELLED_QUEUE, cancel_stock);
    let db = deps.db();
    Service::new(stock::routes(deps.db()))
        .publishes::<StockReserved>()
        .publishes::<StockRejected>()
        .consumes(consumers)
        .every(stock::MEASURE_EVERY, "stock gauge", move || stock::measure(db.clone()))
}

/// Keyed by the order: asked again, it announces again what was found first, so that a saga that got stuck goes on.
async fn reserve_stock(app: App, order: Incoming<OrderCreated>) -> Result<Handled, HandlerError> {
    let Some(mut tx) = inbox::begin(&app.db, &order).await? else { return Ok(Handled::Duplicate) };
    let OrderCreated { order_id, product_id, quantity } = order.event;
    if quantity < 1 {
        return Err(ApiError::invalid("quantity", "must be at least 1").into());
    }
    let reservation = stock::reserve(&mut tx, Some(order_id), product_id, quantity).await?;
    let refused = matches!(reservation, Reservation::Rejected { first: true, .. });
    match reservation {
        Reservation::Held => {
            app.outbox.add(&mut tx, &StockReserved { order_id, product_id, quantity }).await?;
        }
        Reservation::Rejected { reason, .. } => {
            app.outbox.add(&mut tx, &StockRejected { order_id, reason }).await?;
        }
        Reservation::Ended => {}
    }
    app.outbox.commit(tx).await?;
    if refused {
        effects::STOCK.completed("refused");
    }
    Ok(Handled::Applied)
}

/// The compensation. Keyed by the order: only what is reserved is released.
async fn release_stock(app: App, payment: Incoming<PaymentFailed>) -> Result<Handled, HandlerError> {
    end_reservation(&app, &payment, payment.order_id, End::Released, "released").await
}

/// Keyed by the order: only what is reserved is sold.
async fn commit_stock(app: App, payment: Incoming<PaymentSucceeded>) -> Result<Handled, HandlerError> {
    end_reservation(&app, &payment, payment.order_id, End::Committed, "sold").await
}

/// Keyed by the order: what comes after finds the tombstone.
async fn cancel_stock(app: App, order: Incoming<OrderCancelled>) -> Result<Handled, HandlerError> {
    end_reservation(&app, &order, order.order_id, End::Cancelled, "released").await
}

async fn end_reservation<E: Sync>(
    app: &App,
    event: &Incoming<E>,
    order_id: i64,
    end: End,
    outcome: &'static str,
) -> Result<Handled, HandlerError> {
    let Some(mut tx) = inbox::begin(&app.db, event).await? else { return Ok(Handled::Duplicate) };
    let ended = stock::end(&mut tx, order_id, end).await?;
    tx.commit().await?;
    if !ended {
        return Ok(Handled::Duplicate);
    }
    effects::STOCK.completed(outcome);
    Ok(Handled::Applied)
}
