//! S5 in async mode: orderservice publishes the order; inventory and payment react, and the order ends with their events.
//! There is no coordinator. Twin: `sync.rs` makes each step of the saga itself.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::error::Problems;
use common::events::{
    ORDER_PAYMENT_FAILED_QUEUE, ORDER_PAYMENT_SUCCEEDED_QUEUE, OrderCancelled, OrderCreated, PaymentFailed,
    PaymentSucceeded, STOCK_REJECTED_QUEUE, StockRejected,
};
use common::idempotency::{Claim, IdempotencyKey};
use common::outbox::Outbox;
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service, Tx, effects};
use time::OffsetDateTime;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::orders::{self, Cause, End, NewOrder, OVERDUE, Order, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
    settings: Settings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox(), settings: settings.clone() };
    let routes = OpenApiRouter::new().routes(routes!(create_order)).with_state(app.clone());
    Service::new(routes.merge(orders::routes(deps.db())))
        .publishes::<OrderCreated>()
        .publishes::<OrderCancelled>()
        .consumes(
            Consumers::of(app.clone())
                .with(transaction(&app.db, STOCK_REJECTED_QUEUE, reject_order))
                .with(transaction(&app.db, ORDER_PAYMENT_FAILED_QUEUE, fail_order))
                .with(transaction(&app.db, ORDER_PAYMENT_SUCCEEDED_QUEUE, complete_order)),
        )
        .every(Duration::from_secs(5), "sweeper", move || sweep(app.clone()))
}

/// Order a product; the saga follows
#[utoipa::path(post, path = "/create_order", request_body = NewOrder, params(IdempotencyKey),
    responses((status = 202, description = "Accepted; see `Location`", body = Order), Problems))]
async fn create_order(
    State(app): State<App>,
    key: IdempotencyKey,
    Json(new): Json<NewOrder>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let guard = match key.claim(&mut tx, "create_order", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, _) | Claim::New(guard) => guard,
    };
    let order = orders::insert(&mut tx, &new).await?;
    app.outbox.add(&mut tx, &created(&order))?;

    let location = format!("/orders/{}", order.id);
    let answer = StoredResponse::new(StatusCode::ACCEPTED, order)?.at(location);
    guard.responded_in(&mut tx, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Keyed by the order: only a pending one ends.
async fn reject_order(_: App, tx: &mut Tx, stock: Incoming<StockRejected>) -> Result<Outcome, HandlerError> {
    let end = End::Failed { cause: Cause::Stock, reason: &stock.reason, compensated: false };
    finish(tx, stock.order_id, end).await
}

/// Keyed by the order: only a pending one ends.
async fn fail_order(_: App, tx: &mut Tx, payment: Incoming<PaymentFailed>) -> Result<Outcome, HandlerError> {
    let end = End::Failed { cause: Cause::Payment, reason: &payment.reason, compensated: false };
    finish(tx, payment.order_id, end).await
}

/// Keyed by the order: only a pending one ends.
async fn complete_order(
    _: App,
    tx: &mut Tx,
    payment: Incoming<PaymentSucceeded>,
) -> Result<Outcome, HandlerError> {
    finish(tx, payment.order_id, End::Completed).await
}

async fn finish(tx: &mut Tx, order_id: i64, end: End<'_>) -> Result<Outcome, HandlerError> {
    let first = orders::end(tx, order_id, end).await?;
    Ok(if first { Outcome::Completed(effects::ORDER, end.outcome()) } else { Outcome::Duplicate })
}

fn created(order: &Order) -> OrderCreated {
    OrderCreated { order_id: order.id, product_id: order.product_id, quantity: order.quantity }
}

/// Publishes overdue orders again, and gives up those that have been pending for much longer.
async fn sweep(app: App) -> Result<(), ApiError> {
    app.db.wait_ready().await;
    let mut tx = app.db.begin().await?;
    let given_up_before =
        OffsetDateTime::now_utc() - Duration::from_secs(app.settings.saga_give_up_seconds.into());
    let mut cancelled = Vec::new();
    for order in orders::take_overdue(&mut tx, &app.settings).await? {
        let request_id = &order.context.workflow;
        if order.created_at > given_up_before {
            tracing::warn!(request_id, order_id = order.id, "order is overdue and published again");
            app.outbox.add_in(&mut tx, &created(&order), order.context)?;
            continue;
        }
        tracing::error!(request_id, order_id = order.id, "order is given up");
        let end = End::Failed { cause: Cause::Overdue, reason: OVERDUE, compensated: false };
        orders::end(&mut tx, order.id, end).await?;
        let cancelled_order = OrderCancelled { order_id: order.id, reason: OVERDUE.into() };
        app.outbox.add_in(&mut tx, &cancelled_order, order.context.clone())?;
        cancelled.push(order.context);
    }
    tx.commit().await?;
    for context in cancelled {
        effects::completed_in(effects::ORDER, &context, "cancelled");
    }
    Ok(())
}
