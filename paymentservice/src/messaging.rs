//! S2 in async mode: `POST /process_payment` answers 202 at once; the payment is taken from a queue. In S5 the service
//! reacts to reserved stock. Twin: `sync.rs` answers when the payment was taken.

use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::error::Problems;
use common::events::{
    OrderCancelled, PAYMENT_COMPLETED_QUEUE, PAYMENT_INITIATED_QUEUE, PAYMENT_ORDER_CANCELLED_QUEUE,
    PaymentCompleted, PaymentFailed, PaymentInitiated, PaymentSucceeded, STOCK_RESERVED_QUEUE, StockReserved,
};
use common::idempotency::{Claim, IdempotencyKey};
use common::outbox::Outbox;
use common::saga::{INSUFFICIENT_FUNDS, SagaSettings};
use common::web::{OptionalJson, StoredResponse};
use common::{ApiError, Db, Deps, Service, Tx, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::payments::{self, Bank, Cancelled, NewPayment, Payment, Processing, SUCCESS, Settings, Status};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
    saga: SagaSettings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let (db, bank) = (deps.db(), Bank::new(settings));
    let app = App { db: db.clone(), outbox: deps.outbox(), saga: settings.saga };
    let routes = OpenApiRouter::new()
        .routes(routes!(process_payment))
        .with_state(app.clone())
        .merge(payments::routes(db.clone(), bank.clone()));
    Service::new(routes)
        .publishes::<PaymentInitiated>()
        .publishes::<PaymentCompleted>()
        .publishes::<PaymentFailed>()
        .publishes::<PaymentSucceeded>()
        .consumes(
            Consumers::of(app)
                .with(transaction(&db, PAYMENT_INITIATED_QUEUE, take_payment).delay(bank.payment_delay))
                .with(transaction(&db, PAYMENT_COMPLETED_QUEUE, audit_payment))
                .with(transaction(&db, STOCK_RESERVED_QUEUE, pay_order).delay(bank.saga_delay))
                .with(transaction(&db, PAYMENT_ORDER_CANCELLED_QUEUE, cancel_payment)),
        )
}

/// Accept a payment; it is taken in the background
#[utoipa::path(post, path = "/process_payment", request_body = Option<NewPayment>, params(IdempotencyKey),
    responses((status = 202, description = "Accepted; see `Location`", body = Processing), Problems))]
async fn process_payment(
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalJson(new): OptionalJson<NewPayment>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let guard = match key.claim(&mut tx, "process_payment", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, _) | Claim::New(guard) => guard,
    };
    let payment = payments::insert(&mut tx, &new).await?;
    let location = format!("/payments/{}", payment.payment_id);
    let answer = StoredResponse::new(StatusCode::ACCEPTED, Processing::of(&payment))?.at(location);
    let Payment { payment_id, amount, currency, .. } = payment;
    app.outbox.add(&mut tx, &PaymentInitiated { payment_id, amount, currency })?;
    guard.responded_in(&mut tx, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Keyed by the payment: its state is guarded. Another amount or currency than was accepted is set aside.
async fn take_payment(
    app: App,
    tx: &mut Tx,
    payment: Incoming<PaymentInitiated>,
) -> Result<Outcome, HandlerError> {
    let PaymentInitiated { payment_id, amount, currency } = payment.event;
    let transaction_id = payments::transaction_id();
    if !payments::complete(tx, &payment_id, Some((amount, &currency)), &transaction_id).await? {
        // Unknown payments are rejected here; one that has ended is a repetition.
        payments::find(tx, &payment_id).await?.fits(amount, &currency)?;
        return Ok(Outcome::Duplicate);
    }
    app.outbox.add(tx, &PaymentCompleted { payment_id, transaction_id, status: SUCCESS.into() })?;
    Ok(Outcome::Completed(effects::PAYMENT, SUCCESS))
}

/// Keyed by the payment: one note each. Another transaction or status is set aside.
async fn audit_payment(
    _: App,
    tx: &mut Tx,
    payment: Incoming<PaymentCompleted>,
) -> Result<Outcome, HandlerError> {
    let first = payments::audit(tx, &payment.payment_id, &payment.transaction_id, &payment.status).await?;
    Ok(if first { Outcome::Applied } else { Outcome::Duplicate })
}

/// Keyed by the order: a repeated reservation is answered as the first one was.
async fn pay_order(app: App, tx: &mut Tx, order: Incoming<StockReserved>) -> Result<Outcome, HandlerError> {
    let order_id = order.order_id;
    if app.saga.payment_fails(order_id) {
        let failed = PaymentFailed { order_id, payment_id: None, reason: INSUFFICIENT_FUNDS.into() };
        app.outbox.add(tx, &failed)?;
        return Ok(Outcome::Applied);
    }
    let payment = payments::pay_order(tx, order_id).await?;
    let payment_id = payment.payment_id;
    match payment.transaction_id.filter(|_| payment.status == Status::Success) {
        Some(transaction_id) => {
            app.outbox.add(tx, &PaymentSucceeded { order_id, payment_id, transaction_id })?;
        }
        None => {
            let reason = payment.reason.unwrap_or_else(|| "Order cancelled".into());
            app.outbox.add(tx, &PaymentFailed { order_id, payment_id: Some(payment_id), reason })?;
        }
    }
    Ok(Outcome::Applied)
}

/// Keyed by the order: what was taken is given back once, and the row keeps a late payment away. The first reason stands.
async fn cancel_payment(
    _: App,
    tx: &mut Tx,
    order: Incoming<OrderCancelled>,
) -> Result<Outcome, HandlerError> {
    Ok(match payments::cancel_order(tx, order.order_id, &order.reason).await? {
        Cancelled::Now => Outcome::Applied,
        Cancelled::Before { .. } => Outcome::Duplicate,
    })
}
