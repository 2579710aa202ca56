//! S3 in sync mode: a change is stored, then three services are called, one after the other or at once, then the answer.
//! Twin: `messaging.rs` publishes one event and answers at once.

use axum::extract::State;
use axum::http::StatusCode;
use common::api::{InvalidateCache, LogUpdate, ProductChange, Reindex};
use common::client::{CallError, Http};
use common::error::Problems;
use common::web::{Json, Path, StoredResponse};
use common::{ApiError, Db, Deps, Service};
use futures_util::future::{FutureExt, join_all};
use futures_util::stream::{self, StreamExt};

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::products::{self, NewProduct, Product, ProductUpdate, Stored};
use crate::{Calls, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    http: Http,
    settings: Settings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), http: deps.http.clone(), settings: *settings };
    let routes = OpenApiRouter::new().routes(routes!(create)).routes(routes!(update)).with_state(app);
    Service::new(routes.merge(products::routes(deps.db())))
}

/// Change a product; the answer waits for search, cache and analytics
#[utoipa::path(put, path = "/products/{id}", params(("id" = i64, Path)), request_body = ProductUpdate,
    responses((status = 200, description = "Stored; `warnings` if a receiver failed", body = Stored), Problems))]
async fn update(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<ProductUpdate>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let product = products::update(&mut tx, id, &change).await?;
    tx.commit().await?;
    StoredResponse::new(StatusCode::OK, notify(&app, product).await)
}

/// Store a product; the answer waits for search, cache and analytics
#[utoipa::path(post, path = "/products", request_body = NewProduct,
    responses((status = 201, description = "Stored; `warnings` if a receiver failed", body = Stored), Problems))]
async fn create(State(app): State<App>, Json(new): Json<NewProduct>) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let product = products::insert(&mut tx, &new).await?;
    tx.commit().await?;
    let location = format!("/products/{}", product.id);
    Ok(StoredResponse::new(StatusCode::CREATED, notify(&app, product).await)?.at(location))
}

/// Calls the receivers, and returns the body of the answer.
async fn notify(app: &App, product: Product) -> Stored {
    let change = ProductChange {
        product_id: product.id,
        name: Some(product.name.clone()),
        stock: Some(product.stock),
        version: Some(product.version),
    };
    let (search, cache, analytics) =
        (Reindex(change.clone()), InvalidateCache(change.clone()), LogUpdate(change));
    // A call begins when it is awaited.
    let calls =
        [app.http.call(&search).boxed(), app.http.call(&cache).boxed(), app.http.call(&analytics).boxed()];
    let calls = calls.into_iter().take(app.settings.fanout_width.into());
    let replies: Vec<_> = match app.settings.fanout_calls {
        Calls::Sequential => stream::iter(calls).then(|call| call).collect().await,
        Calls::Concurrent => join_all(calls).await,
    };
    let warnings: Vec<String> = replies.into_iter().filter_map(|reply| reply.err().map(warning)).collect();
    Stored { warnings, ..product.into() }
}

fn warning(error: CallError) -> String {
    tracing::warn!(%error, "a receiver does not know of the change");
    match error {
        CallError::Refused { peer, .. } | CallError::Timeout { peer } | CallError::Failed { peer, .. } => {
            format!("{peer} was not notified")
        }
    }
}
