//! S5 in sync mode: orderservice calls for each step of the saga and waits.
//! Twin: `messaging.rs` reacts to what happened to the order.

use axum::extract::State;
use common::api::{Call, CommitStock, CompensateStock, ReserveStock, StockReply, StockRequest};
use common::error::Problems;
use common::saga::StockRefusal;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::stock::{self, End, Ending, Reservation};

#[derive(Clone)]
struct App {
    db: Db,
}

pub fn service(deps: &Deps) -> Service {
    let app = App { db: deps.db() };
    let routes = OpenApiRouter::new()
        .routes(routes!(reserve_stock))
        .routes(routes!(compensate_stock))
        .routes(routes!(commit_stock))
        .with_state(app);
    let db = deps.db();
    Service::new(routes.merge(stock::routes(deps.db()))).every(
        stock::MEASURE_EVERY,
        "stock gauge",
        move || stock::measure(db.clone()),
    )
}

/// Hold stock for an order
#[utoipa::path(post, path = ReserveStock::PATH, request_body = StockRequest,
    responses((status = 200, body = StockReply), Problems))]
async fn reserve_stock(
    State(app): State<App>,
    Json(request): Json<StockRequest>,
) -> Result<axum::Json<StockReply>, ApiError> {
    let StockRequest { order_id, product_id, quantity } = request;
    let mut tx = app.db.begin().await?;
    let reservation = stock::reserve(&mut tx, order_id, product_id, quantity).await?;
    match reservation {
        Reservation::Held => {
            let reply = reply(&mut tx, product_id, quantity).await?;
            tx.commit().await?;
            Ok(reply)
        }
        // Without a commit: a refusal must not decide the answer to the next request of the order.
        Reservation::Refused { refusal, first } => {
            if first && order_id.is_some() {
                effects::completed(effects::STOCK, "refused");
            }
            Err(refusal.into())
        }
    }
}

/// Give held stock back: the compensation
#[utoipa::path(post, path = CompensateStock::PATH, request_body = StockRequest,
    responses((status = 200, body = StockReply), Problems))]
async fn compensate_stock(
    State(app): State<App>,
    Json(request): Json<StockRequest>,
) -> Result<axum::Json<StockReply>, ApiError> {
    let StockRequest { order_id, product_id, quantity } = request;
    let mut tx = app.db.begin().await?;
    let contents = Some((product_id, quantity));
    let released = match order_id {
        Some(order_id) => stock::end(&mut tx, order_id, contents, End::Cancelled).await? == Ending::Now,
        None if stock::release_anonymous(&mut tx, product_id, quantity).await? => false,
        None => return Err(ApiError::Conflict("nothing like it is reserved without an order".into())),
    };
    let reply = reply(&mut tx, product_id, quantity).await?;
    tx.commit().await?;
    if released {
        effects::completed(effects::STOCK, "released");
    }
    Ok(reply)
}

/// Held stock was sold
#[utoipa::path(post, path = CommitStock::PATH, request_body = StockRequest,
    responses((status = 200, body = StockReply), Problems))]
async fn commit_stock(
    State(app): State<App>,
    Json(request): Json<StockRequest>,
) -> Result<axum::Json<StockReply>, ApiError> {
    let StockRequest { order_id, product_id, quantity } = request;
    let order_id = order_id.ok_or_else(|| ApiError::invalid("order_id", "is needed to sell what is held"))?;
    let mut tx = app.db.begin().await?;
    let ending = stock::end(&mut tx, order_id, Some((product_id, quantity)), End::Committed).await?;
    if ending == Ending::NotHeld {
        return Err(StockRefusal::ReservationEnded.into());
    }
    let reply = reply(&mut tx, product_id, quantity).await?;
    tx.commit().await?;
    if ending == Ending::Now {
        effects::completed(effects::STOCK, "sold");
    }
    Ok(reply)
}

async fn reply(
    tx: &mut PgConnection,
    product_id: i64,
    quantity: i64,
) -> Result<axum::Json<StockReply>, ApiError> {
    let stock = stock::find(tx, product_id).await?;
    let total_reserved = stock.map_or(0, |stock| stock.reserved);
    Ok(axum::Json(StockReply { status: "ok".into(), product_id, quantity, total_reserved }))
}
