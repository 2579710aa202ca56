//! S3 in sync mode: productservice calls and waits until the index has the change.
//! Twin: `messaging.rs` hears of the change from its queue.

use axum::extract::State;
use common::api::{Call, Done, ProductChange, Reindex};
use common::error::Problems;
use common::fanout::ReceiverSettings;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::index;

#[derive(Clone)]
struct App {
    db: Db,
    settings: ReceiverSettings,
}

pub fn service(deps: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { db: deps.db(), settings: *settings };
    let routes = OpenApiRouter::new().routes(routes!(reindex)).with_state(app);
    Service::new(routes.merge(index::routes(deps.db())))
}

/// Index a change of a product
#[utoipa::path(post, path = Reindex::PATH, request_body = ProductChange, responses((status = 200, body = Done), Problems))]
async fn reindex(
    State(app): State<App>,
    Json(change): Json<ProductChange>,
) -> Result<axum::Json<Done>, ApiError> {
    app.settings.take_time().await;
    let mut tx = app.db.begin().await?;
    let applied = index::reindex(&mut tx, &change).await?;
    tx.commit().await?;
    effects::completed(effects::SEARCH, if applied { "indexed" } else { "outdated" });
    Ok(axum::Json(Done::ok()))
}
