//! S3 in sync mode: productservice calls and waits until the cache has the change.
//! Twin: `messaging.rs` hears of the change from its queue.

use axum::extract::State;
use common::api::{Call, Done, InvalidateCache, ProductChange};
use common::error::Problems;
use common::fanout::{ReceiverSettings, other_contents};
use common::web::Json;
use common::{ApiError, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cache::{self, Applied, Products};

#[derive(Clone)]
struct App {
    products: Products,
    settings: ReceiverSettings,
}

pub fn service(_: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { products: Products::new(), settings: *settings };
    let routes = OpenApiRouter::new().routes(routes!(invalidate_cache)).with_state(app.clone());
    Service::new(routes.merge(cache::routes(app.products)))
}

/// Replace what the cache holds of a product
#[utoipa::path(post, path = InvalidateCache::PATH, request_body = ProductChange,
    responses((status = 200, body = Done), Problems))]
async fn invalidate_cache(
    State(app): State<App>,
    Json(change): Json<ProductChange>,
) -> Result<axum::Json<Done>, ApiError> {
    app.settings.take_time().await;
    match app.products.apply(&change).await {
        Applied::Now => effects::completed(effects::CACHE, "cached"),
        Applied::Outdated => effects::completed(effects::CACHE, "outdated"),
        Applied::Before => {}
        Applied::Other => return Err(other_contents(&change)),
    }
    Ok(axum::Json(Done::ok()))
}
