//! S5 in sync mode: orderservice takes the saga's steps itself, by calls, and answers when it has ended. The order's row is
//! the saga's log: what a crash left pending is given up by the sweeper. Twin: `messaging.rs` announces the order, and
//! reacts.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::api::{
    CancelPayment, CommitStock, CompensateStock, PayOrder, RefusePayment, ReserveStock, StockRequest,
};
use common::client::{CallError, Http};
use common::error::{Problem, Problems};
use common::idempotency::{Claim, IdempotencyKey};
use common::saga::{INSUFFICIENT_STOCK, OTHER_RESERVATION, RESERVATION_ENDED, UNKNOWN_PRODUCT};
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::orders::{self, End, NewOrder, Order, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    http: Http,
    settings: Settings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), http: deps.http.clone(), settings: settings.clone() };
    let routes = OpenApiRouter::new().routes(routes!(create_order)).with_state(app.clone());
    Service::new(routes.merge(orders::routes(deps.db()))).every(
        Duration::from_secs(5),
        "sweeper",
        move || sweep(app.clone()),
    )
}

/// Order a product; the answer waits for the end of the saga
#[utoipa::path(post, path = "/create_order", request_body = NewOrder, params(IdempotencyKey),
    responses(Problems, (status = 201, description = "Completed", body = Order),
        (status = 400, description = "Failed: `detail` says why and whether stock was released; or malformed JSON",
            body = Refusal, content_type = "application/problem+json"),
        (status = 502, description = "Another service failed; the order ends later", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "Another service did not answer in time; the order ends later", body = Problem,
            content_type = "application/problem+json")))]
async fn create_order(
    State(app): State<App>,
    key: IdempotencyKey,
    Json(new): Json<NewOrder>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let (order, guard) = match key.claim(&mut tx, "create_order", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, subject) => (orders::find(&mut tx, subject.id()?).await?, guard),
        Claim::New(guard) => {
            let order = orders::insert(&mut tx, &new).await?;
            guard.begun(&mut tx, order.id).await?;
            (order, guard)
        }
    };
    tx.commit().await?;

    let taken = if order.status == "pending" { take_steps(&app, &order).await } else { Ok(()) };
    let mut order = orders::find(&mut *app.db.acquire().await?, order.id).await?;
    if order.status == "pending" {
        // The sweeper goes on; so may a retry with the same key.
        guard.released(&app.db).await?;
        match taken {
            Err(StepError::NotCompensated(reason)) => order.reason = Some(reason),
            Err(StepError::Failed(error)) => return Err(error),
            Ok(()) => {
                return Err(ApiError::Internal(anyhow::anyhow!("the saga of order {} has no end", order.id)));
            }
        }
        return answer(order);
    }
    let answer = answer(order)?;
    guard.responded(&app.db, &answer).await?;
    Ok(answer)
}

/// Why the order is still pending.
enum StepError {
    /// Its payment was refused for this reason, but the stock could not be released yet.
    NotCompensated(String),
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for StepError {
    fn from(error: E) -> StepError {
        StepError::Failed(error.into())
    }
}

/// The saga: reserve, pay, and compensate when the payment fails.
async fn take_steps(app: &App, order: &Order) -> Result<(), StepError> {
    match app.http.call(&ReserveStock(stock_of(order))).await {
        Ok(_) => {}
        // An earlier try got as far as the compensation and did not hear of it: go on from there.
        Err(error @ CallError::Refused { .. }) if error.says(RESERVATION_ENDED) => {
            return Ok(give_up(app, order, error).await?);
        }
        Err(error @ CallError::Refused { .. }) => {
            let unknown = matches!(error, CallError::Refused { status: StatusCode::NOT_FOUND, .. });
            let reason = match unknown {
                true => UNKNOWN_PRODUCT,
                false if error.says(OTHER_RESERVATION) => OTHER_RESERVATION,
                false => INSUFFICIENT_STOCK,
            };
            return Ok(end(app, order, End::Failed { reason, compensated: false }).await?);
        }
        Err(error) => return Ok(give_up(app, order, error).await?),
    }
    let paid = if app.settings.saga.payment_fails(order.id) {
        app.http.call(&RefusePayment { order_id: order.id }).await.map(|_| ())
    } else {
        app.http.call(&PayOrder { order_id: order.id }).await.map(|_| ())
    };
    match paid {
        Ok(()) => match app.http.call(&CommitStock(stock_of(order))).await {
            Ok(_) => Ok(end(app, order, End::Completed).await?),
            // The stock is not sold, or perhaps it is: the payment must not stay taken for an order that does not complete.
            Err(error) => Ok(give_up(app, order, error).await?),
        },
        Err(CallError::Refused { body, .. }) => {
            let reason = body["reason"].as_str().unwrap_or("Payment refused");
            if let Err(error) = app.http.call(&CompensateStock(stock_of(order))).await {
                tracing::warn!(%error, order_id = order.id, "stock stays reserved until the sweeper releases it");
                return Err(StepError::NotCompensated(reason.into()));
            }
            Ok(end(app, order, End::Failed { reason, compensated: true }).await?)
        }
        Err(error) => Ok(give_up(app, order, error).await?),
    }
}

/// It is not known whether a step took effect: undo all of them, which is safe where there is nothing to undo.
async fn give_up(app: &App, order: &Order, cause: CallError) -> Result<(), ApiError> {
    let reason = cause.to_string();
    tracing::warn!(order_id = order.id, reason, "saga is given up");
    let cancelled = async {
        let reason = "Order given up".to_owned();
        app.http.call(&CancelPayment { order_id: order.id, reason }).await?;
        app.http.call(&CompensateStock(stock_of(order))).await
    };
    match cancelled.await {
        Ok(_) => end(app, order, End::Failed { reason: "Interrupted", compensated: true }).await,
        // Nothing is held for this order, so there is nothing to release.
        Err(error) if error.says(OTHER_RESERVATION) => {
            end(app, order, End::Failed { reason: "Interrupted", compensated: false }).await
        }
        Err(_) => Err(cause.into()),
    }
}

async fn end(app: &App, order: &Order, end: End<'_>) -> Result<(), ApiError> {
    let mut tx = app.db.begin().await?;
    let first = orders::end(&mut tx, order.id, end).await?;
    tx.commit().await?;
    if first {
        effects::completed(
            effects::ORDER,
            if matches!(end, End::Completed) { "completed" } else { "failed" },
        );
    }
    Ok(())
}

fn stock_of(order: &Order) -> StockRequest {
    StockRequest { order_id: Some(order.id), product_id: order.product_id, quantity: order.quantity }
}

/// 201, or the 400 that a failed order is.
fn answer(order: Order) -> Result<StoredResponse, ApiError> {
    let location = format!("/orders/{}", order.id);
    if order.status == "completed" {
        return Ok(StoredResponse::new(StatusCode::CREATED, order)?.at(location));
    }
    let reason = order.reason.unwrap_or_default();
    let no_stock = [UNKNOWN_PRODUCT, INSUFFICIENT_STOCK, OTHER_RESERVATION].contains(&reason.as_str());
    let message =
        if no_stock { "Order failed due to stock issue" } else { "Order failed due to payment issue" };
    let body = json!({
        "type": "about:blank", "title": "Order failed", "status": 400, "message": message,
        "detail": {
            "message": message, "order_id": order.id, "product_id": order.product_id, "quantity": order.quantity,
            "reason": reason, "compensation_executed": order.compensated,
        },
    });
    Ok(StoredResponse::new(StatusCode::BAD_REQUEST, body)?.at(location))
}

/// Gives up what has been pending for too long: no request works that long, so a crash left it behind.
async fn sweep(app: App) -> Result<(), ApiError> {
    app.db.wait_ready().await;
    let mut tx = app.db.begin().await?;
    let overdue = orders::take_overdue(&mut tx, &app.settings).await?;
    tx.commit().await?;
    for order in overdue {
        let cause = CallError::Timeout { peer: "orderservice" };
        if let Err(error) = Box::pin(order.context.clone().scope(give_up(&app, &order, cause))).await {
            tracing::warn!(%error, order_id = order.id, "order stays pending");
        }
    }
    Ok(())
}

/// An order that failed, or a request that is malformed: for the API document.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Refusal {
    Failed(Failed),
    Malformed(Problem),
}

#[derive(ToSchema)]
#[allow(dead_code)]
struct Failed {
    r#type: String,
    title: String,
    status: u16,
    message: String,
    detail: Outcome,
}

#[derive(ToSchema)]
#[allow(dead_code)]
struct Outcome {
    message: String,
    order_id: i64,
    product_id: i64,
    quantity: i64,
    reason: String,
    /// Whether stock had been reserved and was given back
    compensation_executed: bool,
}
