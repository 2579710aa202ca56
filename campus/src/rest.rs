//! The stack `rest`: campus-order calls inventory, then notification, and answers when the order has ended.
//! Twin: `rabbitmq.rs` answers at once, and events do the rest.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::client::{CallError, Http, Server};
use common::error::{OrProblem, Problems};
use common::rules::no_nul;
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects};
use contract::campus::Stack;
use contract::campus::effects::{NOTIFICATION, ORDER};
use futures_util::future::join_all;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::faults::MAX_DELAY;
use crate::notifications::{self, Notification};
use crate::orders::{self, NewOrder, Order, Status};
use crate::stock::{self, Refusal, Stock};
use crate::{MAX_QUANTITY, MAX_TEXT, Settings};

const TIMEOUT: &str = "Inventory service timeout";
const UNREACHABLE: &str = "Inventory service unreachable";
/// How often the sweeper looks for stock to release. A late reservation is released within 30 s.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A request ends its order this long after the limit of its call, if its process lives.
const MARGIN: Duration = Duration::from_secs(10);

/// Asks inventory to reserve stock.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct Reserve {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub item: String,
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// What inventory answers when the stock is reserved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reserved {
    #[serde(flatten)]
    request: Reserve,
    status: Status,
}

/// Asks inventory to release the stock of an order, also of one that comes later.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct Release {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub order_id: String,
}

/// What inventory answers to [`Release`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Released {
    order_id: String,
    #[schema(example = "released")]
    status: &'static str,
}

/// Asks notification to notify the customer of an order.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct Send {
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub order_id: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub status: String,
    #[garde(length(chars, min = 1, max = MAX_TEXT), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub item: String,
}

/// What is answered about an order that ended without stock: a problem with members of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedOrder {
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: Failure,
}

#[derive(Debug, Serialize, ToSchema)]
struct Failure {
    order: Order,
    /// The answer of inventory, or why there is none
    reason: Value,
}

#[derive(Clone)]
struct App {
    db: Db,
    http: Http,
    inventory: Server,
    notification: Server,
    /// For one call.
    limit: Duration,
}

/// How long a request may take beside what it waits for.
const WORK_LIMIT: Duration = Duration::from_secs(30);

pub fn order(deps: &Deps, settings: &Settings) -> Service {
    let server = |name, url: &str| Server::new(name, url, settings.request_timeout);
    let app = App {
        db: deps.db(),
        http: deps.http.clone(),
        inventory: server("campus-inventory", &settings.inventory_url),
        notification: server("campus-notification", &settings.notification_url),
        limit: settings.request_timeout,
    };
    let routes = OpenApiRouter::new().routes(routes!(place_order)).with_state(app.clone());
    Service::new(routes.merge(orders::routes(deps.db())).merge(orders::reset(deps.db())))
        // An order waits for two calls.
        .request_limit(2 * settings.request_timeout + WORK_LIMIT)
        .every(SWEEP_EVERY, "sweeper", move || sweep(app.clone()))
}

pub fn inventory(deps: &Deps, _: &Settings) -> Service {
    let stock = Stock::new(deps.db(), Stack::Rest);
    let routes = OpenApiRouter::new().routes(routes!(reserve)).routes(routes!(release));
    Service::new(routes.with_state(stock.clone()).merge(stock.routes())).request_limit(MAX_DELAY + WORK_LIMIT)
}

pub fn notification(deps: &Deps, _: &Settings) -> Service {
    let routes = OpenApiRouter::new().routes(routes!(send)).with_state(deps.db());
    Service::new(routes.merge(notifications::routes(deps.db())))
}

/// Order an item; the answer waits for inventory and for notification
#[utoipa::path(post, path = "/order", request_body = NewOrder,
    responses(Problems, (status = 201, description = "Notified, or reserved where no notification was sent", body = Order),
        (status = 422, description = "Inventory refused or failed: `detail` has the order and the reason; or invalid fields",
            body = OrProblem<FailedOrder>, content_type = "application/problem+json"),
        (status = 502, description = "Inventory cannot be reached", body = OrProblem<FailedOrder>,
            content_type = "application/problem+json"),
        (status = 504, description = "Inventory did not answer in time", body = OrProblem<FailedOrder>,
            content_type = "application/problem+json")))]
async fn place_order(State(app): State<App>, Json(new): Json<NewOrder>) -> Result<StoredResponse, ApiError> {
    let order = orders::place(&mut *app.db.acquire().await?, &new.item, new.quantity, None).await?;
    let request = Reserve { order_id: order.order_id.to_string(), item: new.item, quantity: new.quantity };
    match app.http.ask(&app.inventory, "/reserve", &request).await {
        Ok((StatusCode::OK, _)) => reserved(&app, order.order_id, request).await,
        Ok((_, reason)) => {
            end(&app, order.order_id, Status::Failed, StatusCode::UNPROCESSABLE_ENTITY, reason).await
        }
        Err(CallError::Timeout { .. }) => {
            end(&app, order.order_id, Status::Timeout, StatusCode::GATEWAY_TIMEOUT, TIMEOUT.into()).await
        }
        Err(_) => {
            end(&app, order.order_id, Status::Failed, StatusCode::BAD_GATEWAY, UNREACHABLE.into()).await
        }
    }
}

/// The stock is reserved. Sends the notification, which may fail.
async fn reserved(app: &App, order_id: Uuid, request: Reserve) -> Result<StoredResponse, ApiError> {
    let advance = async |from, to| {
        let mut tx = app.db.begin().await?;
        let order = orders::advance(&mut tx, order_id, from, to).await?;
        tx.commit().await.map(|()| order)
    };
    let Some(reserved) = advance(Status::Placed, Status::Reserved).await? else {
        // The sweeper has ended the order.
        return end(app, order_id, Status::Timeout, StatusCode::GATEWAY_TIMEOUT, TIMEOUT.into()).await;
    };
    let send = Send { order_id: request.order_id, status: "reserved".into(), item: request.item };
    let notified = match app.http.ask(&app.notification, "/send", &send).await {
        Ok((StatusCode::OK, _)) => advance(Status::Reserved, Status::Notified).await?,
        _ => None,
    };
    let order = notified.unwrap_or(reserved);
    effects::completed(ORDER, order.status.as_str());
    StoredResponse::new(StatusCode::CREATED, order)
}

/// Ends an order without stock. What inventory may reserve for it all the same is released by the sweeper.
async fn end(
    app: &App,
    order_id: Uuid,
    to: Status,
    answer: StatusCode,
    reason: Value,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let ended = orders::give_up(&mut tx, order_id, to).await?;
    let first = ended.is_some();
    let order = match ended {
        Some(order) => order,
        None => orders::find(&mut tx, &order_id.to_string()).await?,
    };
    tx.commit().await?;
    if first {
        effects::completed(ORDER, to.as_str());
    }
    let detail = Failure { order, reason };
    let failed = FailedOrder { kind: "about:blank", title: "Order failed", status: answer.as_u16(), detail };
    StoredResponse::new(answer, failed)
}

/// Ends orders that a crash left, and releases the stock of orders that ended without it.
async fn sweep(app: App) -> Result<(), ApiError> {
    app.db.wait_ready().await;
    let mut tx = app.db.begin().await?;
    let overdue = orders::overdue(&mut tx, app.limit + MARGIN).await?;
    for order in &overdue {
        orders::give_up(&mut tx, order.order_id, Status::Timeout).await?;
    }
    let due = orders::to_release(&mut tx).await?;
    tx.commit().await?;
    for order in overdue {
        effects::completed_in(ORDER, &order.context, Status::Timeout.as_str());
    }
    if due.is_empty() {
        return Ok(());
    }
    let released = join_all(due.into_iter().map(|order| {
        let (app, order_id) = (&app, order.order_id);
        order.context.scope(async move {
            let request = Release { order_id: order_id.to_string() };
            let answer = app.http.ask(&app.inventory, "/release", &request).await;
            matches!(answer, Ok((StatusCode::OK, _))).then_some(order_id)
        })
    }));
    let released: Vec<Uuid> = Box::pin(released).await.into_iter().flatten().collect();
    Ok(orders::released(&mut *app.db.acquire().await?, &released).await?)
}

/// Reserve stock for an order
#[utoipa::path(post, path = "/reserve", request_body = Reserve,
    responses((status = 200, body = Reserved), Problems))]
async fn reserve(
    State(stock): State<Stock>,
    Json(request): Json<Reserve>,
) -> Result<axum::Json<Reserved>, ApiError> {
    stock.faults.pass().await?;
    let Reserve { order_id, item, quantity } = &request;
    let mut tx = stock.db.begin().await?;
    let reservation = stock.reserve(&mut tx, order_id, item, *quantity).await?;
    tx.commit().await?;
    let conflict = |text: String| Err(ApiError::Conflict(text.into()));
    match reservation.refusal {
        None => Ok(axum::Json(Reserved { request, status: Status::Reserved })),
        Some(Refusal::UnknownItem) => Err(ApiError::NotFound(format!("Unknown item: {item}").into())),
        Some(Refusal::InsufficientStock) => conflict(format!("Insufficient stock for {item}")),
        Some(Refusal::Released) => conflict(format!("The stock of order {order_id} was released")),
        Some(Refusal::Other) => conflict(format!("Order {order_id} has another item or quantity")),
    }
}

/// Release the stock of an order, also before it is reserved
#[utoipa::path(post, path = "/release", request_body = Release,
    responses((status = 200, body = Released), Problems))]
async fn release(
    State(stock): State<Stock>,
    Json(Release { order_id }): Json<Release>,
) -> Result<axum::Json<Released>, ApiError> {
    let mut tx = stock.db.begin().await?;
    stock::release(&mut tx, &order_id).await?;
    tx.commit().await?;
    Ok(axum::Json(Released { order_id, status: "released" }))
}

/// Notify the customer of an order; a repetition is answered as the first time
#[utoipa::path(post, path = "/send", request_body = Send,
    responses((status = 200, body = Notification), Problems))]
async fn send(State(db): State<Db>, Json(request): Json<Send>) -> Result<axum::Json<Notification>, ApiError> {
    let Send { order_id, status, item } = &request;
    let mut tx = db.begin().await?;
    let first = notifications::send(&mut tx, order_id, status, item, None).await?;
    let notification = notifications::find(&mut tx, order_id).await?;
    tx.commit().await?;
    if first {
        effects::completed(NOTIFICATION, "sent");
    }
    Ok(axum::Json(notification))
}
