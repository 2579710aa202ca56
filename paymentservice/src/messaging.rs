//! S2 in async mode: `POST /process_payment` answers 202 at once; the payment is taken from a queue. In S5 the service
//! reacts to reserved stock. Twin: `sync.rs` answers when the payment was taken.

use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::error::Problems;
use common::events::{
    OrderCancelled, PAYMENT_COMPLETED_QUEUE, PAYMENT_INITIATED_QUEUE, PAYMENT_ORDER_CANCELLED_QUEUE,
    PaymentCompleted, PaymentFailed, PaymentInitiated, PaymentSucceeded, STOCK_RESERVED_QUEUE, StockReserved,
};
use common::idempotency::{Claim, IdempotencyKey};
use common::outbox::Outbox;
use common::saga::{INSUFFICIENT_FUNDS, SagaSettings};
use common::web::{Answer, OptionalJson};
use common::{ApiError, Db, Deps, Service, effects, inbox};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::payments::{self, Bank, NewPayment, Processing, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
    bank: Bank,
    saga: SagaSettings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox(), bank: Bank::new(settings), saga: settings.saga };
    let routes = OpenApiRouter::new()
        .routes(routes!(process_payment))
        .with_state(app.clone())
        .merge(payments::routes(deps.db(), app.bank.clone()));
    Service::new(routes)
        .publishes::<PaymentInitiated>()
        .publishes::<PaymentCompleted>()
        .publishes::<PaymentFailed>()
        .publishes::<PaymentSucceeded>()
        .consumes(
            Consumers::of(app)
                .on(PAYMENT_INITIATED_QUEUE, take_payment)
                .on(PAYMENT_COMPLETED_QUEUE, audit_payment)
                .on(STOCK_RESERVED_QUEUE, pay_order)
                .on(PAYMENT_ORDER_CANCELLED_QUEUE, cancel_payment),
        )
}

/// Accept a payment; it is taken in the background
#[utoipa::path(post, path = "/process_payment", request_body = Option<NewPayment>, params(IdempotencyKey),
    responses((status = 202, description = "Accepted; see `Location`", body = Processing), Problems))]
async fn process_payment(
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalJson(new): OptionalJson<NewPayment>,
) -> Result<Answer, ApiError> {
    let mut tx = app.db.begin().await?;
    let ticket = match key.claim(&mut tx, "process_payment", &new).await? {
        Claim::Answered(answer) => return Ok(answer),
        Claim::Interrupted(ticket, _) | Claim::Fresh(ticket) => ticket,
    };
    let payment = payments::insert(&mut tx, &new).await?;
    let payment_id = payment.payment_id.clone();
    let initiated = PaymentInitiated { payment_id, amount: payment.amount, currency: payment.currency };
    app.outbox.add(&mut tx, &initiated)?;

    let body = json!({"payment_id": payment.payment_id, "status": "processing", "message": "Payment is being processed"});
    let answer = Answer::new(StatusCode::ACCEPTED, body)?.at(format!("/payments/{}", payment.payment_id));
    ticket.answered_in(&mut tx, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Keyed by the payment: its state is guarded.
async fn take_payment(app: App, payment: Incoming<PaymentInitiated>) -> Result<Handled, HandlerError> {
    let transaction_id = app.bank.charge().await;
    let Some(mut tx) = inbox::begin(&app.db, &payment).await? else { return Ok(Handled::Duplicate) };
    let taken = payments::complete(&mut tx, &payment.payment_id, &transaction_id).await?;
    if !taken {
        // Unknown payments are rejected here; one that has ended is a repetition.
        payments::find(&mut tx, &payment.payment_id).await?;
        return Ok(Handled::Duplicate);
    }
    let payment_id = payment.payment_id.clone();
    let completed = PaymentCompleted { payment_id, transaction_id, status: "success".into() };
    app.outbox.add(&mut tx, &completed)?;
    tx.commit().await?;
    effects::PAYMENT.completed("success");
    Ok(Handled::Applied)
}

/// Keyed by the payment: one note each.
async fn audit_payment(app: App, payment: Incoming<PaymentCompleted>) -> Result<Handled, HandlerError> {
    let Some(mut tx) = inbox::begin(&app.db, &payment).await? else { return Ok(Handled::Duplicate) };
    let first =
        payments::audit(&mut tx, &payment.payment_id, &payment.transaction_id, &payment.status).await?;
    tx.commit().await?;
    Ok(if first { Handled::Applied } else { Handled::Duplicate })
}

/// Keyed by the order: a repeated reservation is answered as the first one was.
async fn pay_order(app: App, order: Incoming<StockReserved>) -> Result<Handled, HandlerError> {
    app.bank.decide().await;
    let Some(mut tx) = inbox::begin(&app.db, &order).await? else { return Ok(Handled::Duplicate) };
    let order_id = order.order_id;
    if app.saga.payment_fails(order_id) {
        let failed = PaymentFailed { order_id, payment_id: None, reason: INSUFFICIENT_FUNDS.into() };
        app.outbox.add(&mut tx, &failed)?;
    } else {
        let payment = payments::pay_order(&mut tx, order_id).await?;
        let payment_id = payment.payment_id;
        match payment.transaction_id.filter(|_| payment.status == "success") {
            Some(transaction_id) => {
                let succeeded = PaymentSucceeded { order_id, payment_id, transaction_id };
                app.outbox.add(&mut tx, &succeeded)?;
            }
            None => {
                let reason = payment.reason.unwrap_or_else(|| "Order cancelled".into());
                let failed = PaymentFailed { order_id, payment_id: Some(payment_id), reason };
                app.outbox.add(&mut tx, &failed)?;
            }
        }
    }
    tx.commit().await?;
    Ok(Handled::Applied)
}

/// Keyed by the order: what was taken is given back once, and the row keeps a late payment away.
async fn cancel_payment(app: App, order: Incoming<OrderCancelled>) -> Result<Handled, HandlerError> {
    let Some(mut tx) = inbox::begin(&app.db, &order).await? else { return Ok(Handled::Duplicate) };
    payments::cancel_order(&mut tx, order.order_id, &order.reason).await?;
    tx.commit().await?;
    Ok(Handled::Applied)
}
