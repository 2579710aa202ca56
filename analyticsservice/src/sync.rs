//! S6 in sync mode: a click is answered when PostgreSQL has it. S3: productservice calls and waits.
//! Twin: `messaging.rs` answers when the broker has the click, and stores in batches.

use axum::extract::State;
use common::api::{Call, Done, LogUpdate, ProductChange};
use common::error::Problems;
use common::fanout::ReceiverSettings;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::analytics::{self, NewClick};

#[derive(Clone)]
struct App {
    db: Db,
    settings: ReceiverSettings,
}

pub fn service(deps: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { db: deps.db(), settings: *settings };
    let routes =
        OpenApiRouter::new().routes(routes!(track_click)).routes(routes!(log_update)).with_state(app);
    Service::new(routes.merge(analytics::routes(deps.db())))
}

/// Track a click; the answer means that it is stored
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(app): State<App>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Value>, ApiError> {
    let click = click.tracked();
    let mut connection = app.db.acquire().await?;
    analytics::store(&mut connection, &[&click]).await?;
    effects::CLICK.completed("stored");
    Ok(axum::Json(json!({"status": "tracked"})))
}

/// Record a change of a product
#[utoipa::path(post, path = LogUpdate::PATH, request_body = ProductChange, responses((status = 200, body = Done), Problems))]
async fn log_update(
    State(app): State<App>,
    Json(change): Json<ProductChange>,
) -> Result<axum::Json<Done>, ApiError> {
    app.settings.take_time().await;
    let mut tx = app.db.begin().await?;
    let first = analytics::record(&mut tx, &change).await?;
    tx.commit().await?;
    if first {
        effects::ANALYTICS.completed("recorded");
    }
    Ok(axum::Json(Done::ok()))
}
