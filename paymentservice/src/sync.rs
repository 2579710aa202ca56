//! S2 in sync mode: `POST /process_payment` answers 200 when the payment was taken, 2 s later. In S5 orderservice calls.
//! Twin: `messaging.rs` answers 202 at once and takes the payment from a queue.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::api::{Call, CancelPayment, OrderPaid, PayOrder};
use common::error::{OrProblem, Problems};
use common::idempotency::{Claim, IdempotencyKey};
use common::web::{Json, OptionalJson, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::payments::{
    self, Bank, Cancelled, CancelledOrder, NewPayment, Refused, SUCCESS, Settings, Status, Taken,
};

#[derive(Clone)]
struct App {
    db: Db,
    bank: Bank,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), bank: Bank::new(settings) };
    let routes = OpenApiRouter::new()
        .routes(routes!(process_payment))
        .routes(routes!(pay_order))
        .routes(routes!(cancel_payment))
        .with_state(app.clone())
        .merge(payments::routes(deps.db(), app.bank.clone()));
    Service::new(routes)
        .every(Duration::from_secs(10), "interrupted payments", move || end_interrupted(app.db.clone()))
}

/// Take a payment; the answer waits for it
#[utoipa::path(post, path = "/process_payment", request_body = Option<NewPayment>, params(IdempotencyKey),
    responses(Problems, (status = 200, description = "Taken", body = Taken),
        (status = 400, description = "Refused, or malformed JSON", body = OrProblem<Refused>, content_type = "application/problem+json")))]
async fn process_payment(
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalJson(new): OptionalJson<NewPayment>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let (payment, guard) = match key.claim(&mut tx, "process_payment", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, subject) => (payments::find(&mut tx, subject.as_str()).await?, guard),
        Claim::New(guard) => {
            let payment = payments::insert(&mut tx, &new).await?;
            guard.begun(&mut tx, &payment.payment_id).await?;
            (payment, guard)
        }
    };
    tx.commit().await?;

    let transaction_id = app.bank.charge().await;
    let mut tx = app.db.begin().await?;
    let taken = payments::complete(&mut tx, &payment.payment_id, None, &transaction_id).await?;
    if taken {
        payments::audit(&mut tx, &payment.payment_id, &transaction_id, SUCCESS).await?;
    }
    let payment = payments::find(&mut tx, &payment.payment_id).await?;
    let answer = match payment.status {
        Status::Success => StoredResponse::new(StatusCode::OK, Taken::from(payment))?,
        _ => StoredResponse::new(
            StatusCode::BAD_REQUEST,
            Refused::because(payment.reason.unwrap_or_default()),
        )?,
    };
    guard.responded_in(&mut tx, &answer).await?;
    tx.commit().await?;
    if taken {
        effects::completed(effects::PAYMENT, SUCCESS);
    }
    Ok(answer)
}

/// The payment of an order, once
#[utoipa::path(post, path = PayOrder::PATH, request_body = PayOrder,
    responses((status = 200, body = OrderPaid), Problems))]
async fn pay_order(
    State(app): State<App>,
    Json(order): Json<PayOrder>,
) -> Result<axum::Json<OrderPaid>, ApiError> {
    app.bank.decide().await;
    let mut tx = app.db.begin().await?;
    let payment = payments::pay_order(&mut tx, order.order_id).await?;
    tx.commit().await?;
    let payment_id = payment.payment_id;
    match payment.transaction_id.filter(|_| payment.status == Status::Success) {
        Some(transaction_id) => Ok(axum::Json(OrderPaid { payment_id, transaction_id })),
        None => Err(ApiError::Conflict("the order was given up".into())),
    }
}

/// No payment for an order any more; one that was taken is given back
#[utoipa::path(post, path = CancelPayment::PATH, request_body = CancelPayment,
    responses((status = 200, body = CancelledOrder), Problems))]
async fn cancel_payment(
    State(app): State<App>,
    Json(order): Json<CancelPayment>,
) -> Result<axum::Json<CancelledOrder>, ApiError> {
    let mut tx = app.db.begin().await?;
    let cancelled = payments::cancel_order(&mut tx, order.order_id, &order.reason).await?;
    tx.commit().await?;
    let reason = match cancelled {
        Cancelled::Now => order.reason,
        Cancelled::Before { reason } => reason,
    };
    Ok(axum::Json(CancelledOrder { status: "ok".into(), reason }))
}

async fn end_interrupted(db: Db) -> Result<(), sqlx::Error> {
    db.wait_ready().await;
    payments::end_interrupted(&mut *db.acquire().await?).await
}
