//! S5 in sync mode: orderservice makes each step of the saga by a call, and answers when the saga has ended. The order's row
//! is the log of the saga: the sweeper gives up an order that a crash left pending. Twin: `messaging.rs` publishes the order,
//! and reacts to events.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::api::{
    CancelPayment, CommitStock, CompensateStock, PayOrder, RefusePayment, ReserveStock, StockRequest,
};
use common::client::{CallError, Http};
use common::error::{OrProblem, Problem, Problems};
use common::idempotency::{Claim, IdempotencyKey};
use common::saga::StockRefusal;
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::orders::{self, Cause, End, FailedOrder, NewOrder, OVERDUE, Order, Settings, Status};

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
            body = OrProblem<FailedOrder>, content_type = "application/problem+json"),
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

    let made = if order.status == Status::Pending { make_steps(&app, &order).await } else { Ok(()) };
    let mut order = orders::find(&mut *app.db.acquire().await?, order.id).await?;
    if order.status == Status::Pending {
        // The sweeper goes on; so may a retry with the same key.
        guard.released(&app.db).await?;
        match made {
            Err(StepError::NotCompensated(reason)) => {
                (order.cause, order.reason) = (Some(Cause::Payment), Some(reason));
            }
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
async fn make_steps(app: &App, order: &Order) -> Result<(), StepError> {
    if let Err(error) = app.http.call(&ReserveStock(stock_of(order))).await {
        match StockRefusal::of(&error) {
            // An earlier attempt reached the compensation and crashed before it stored the end: continue from there.
            None | Some(StockRefusal::ReservationEnded) => give_up(app, order, GiveUp::Call(error)).await?,
            Some(refusal) => {
                let reason = refusal.as_str();
                end(app, order, End::Failed { cause: Cause::Stock, reason, compensated: false }).await?;
            }
        }
        return Ok(());
    }
    let paid = if app.settings.saga.payment_fails(order.id) {
        app.http.call(&RefusePayment { order_id: order.id }).await.map(|_| ())
    } else {
        app.http.call(&PayOrder { order_id: order.id }).await.map(|_| ())
    };
    match paid {
        Ok(()) => match app.http.call(&CommitStock(stock_of(order))).await {
            Ok(_) => Ok(end(app, order, End::Completed).await?),
            // It is unknown whether the stock was sold: the payment of an order that does not complete must be refunded.
            Err(error) => Ok(give_up(app, order, GiveUp::Call(error)).await?),
        },
        Err(CallError::Refused { body, .. }) => {
            let reason = body["reason"].as_str().unwrap_or("Payment refused");
            if let Err(error) = app.http.call(&CompensateStock(stock_of(order))).await {
                tracing::warn!(%error, order_id = order.id, "stock stays reserved until the sweeper releases it");
                return Err(StepError::NotCompensated(reason.into()));
            }
            Ok(end(app, order, End::Failed { cause: Cause::Payment, reason, compensated: true }).await?)
        }
        Err(error) => Ok(give_up(app, order, GiveUp::Call(error)).await?),
    }
}

/// Why a saga is undone before its end.
enum GiveUp {
    /// It is unknown whether this step took effect.
    Call(CallError),
    Overdue,
}

/// Undoes all steps, which is safe for a step that had no effect, and ends the order.
async fn give_up(app: &App, order: &Order, why: GiveUp) -> Result<(), ApiError> {
    let (cause, reason) = match &why {
        GiveUp::Call(error) => {
            tracing::warn!(%error, order_id = order.id, "saga is interrupted and undone");
            (Cause::Interrupted, "Interrupted")
        }
        GiveUp::Overdue => {
            tracing::warn!(order_id = order.id, "saga is overdue and undone");
            (Cause::Overdue, OVERDUE)
        }
    };
    let undone = async {
        let reason = "Order given up".to_owned();
        app.http.call(&CancelPayment { order_id: order.id, reason }).await?;
        app.http.call(&CompensateStock(stock_of(order))).await
    };
    let compensated = match undone.await {
        Ok(_) => true,
        // No stock is reserved for this order, so there is none to release.
        Err(error) if StockRefusal::of(&error) == Some(StockRefusal::OtherReservation) => false,
        Err(error) => {
            return Err(match why {
                GiveUp::Call(first) => first.into(),
                GiveUp::Overdue => error.into(),
            });
        }
    };
    end(app, order, End::Failed { cause, reason, compensated }).await
}

async fn end(app: &App, order: &Order, end: End<'_>) -> Result<(), ApiError> {
    let mut tx = app.db.begin().await?;
    let first = orders::end(&mut tx, order.id, end).await?;
    tx.commit().await?;
    if first {
        effects::completed(effects::ORDER, end.outcome());
    }
    Ok(())
}

fn stock_of(order: &Order) -> StockRequest {
    StockRequest { order_id: Some(order.id), product_id: order.product_id, quantity: order.quantity }
}

/// 201, or the 400 of a failed order.
fn answer(order: Order) -> Result<StoredResponse, ApiError> {
    let location = format!("/orders/{}", order.id);
    let answer = match order.status {
        Status::Completed => StoredResponse::new(StatusCode::CREATED, order),
        Status::Pending | Status::Failed => {
            StoredResponse::new(StatusCode::BAD_REQUEST, FailedOrder::of(order))
        }
    };
    Ok(answer?.at(location))
}

/// Gives up overdue orders: no request works that long, so a crash left them pending.
async fn sweep(app: App) -> Result<(), ApiError> {
    app.db.wait_ready().await;
    let mut tx = app.db.begin().await?;
    let overdue = orders::take_overdue(&mut tx, &app.settings).await?;
    tx.commit().await?;
    for order in overdue {
        let given_up = give_up(&app, &order, GiveUp::Overdue);
        if let Err(error) = Box::pin(order.context.clone().scope(given_up)).await {
            tracing::warn!(%error, order_id = order.id, "order stays pending");
        }
    }
    Ok(())
}
