//! S3 in async mode: a change is stored together with one event, which a fanout exchange copies to three queues.
//! Twin: `sync.rs` calls the three services before it answers.

use axum::extract::State;
use axum::http::StatusCode;
use common::error::Problems;
use common::events::ProductUpdated;
use common::outbox::Outbox;
use common::web::{Json, Path, StoredResponse};
use common::{ApiError, Db, Deps, Service, Tx};

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Settings;
use crate::products::{self, NewProduct, Product, ProductUpdate, Stored};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
}

pub fn service(deps: &Deps, _: &Settings) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox() };
    let routes = OpenApiRouter::new().routes(routes!(create)).routes(routes!(update)).with_state(app);
    Service::new(routes.merge(products::routes(deps.db()))).publishes::<ProductUpdated>()
}

/// Change a product; search, cache and analytics follow
#[utoipa::path(put, path = "/products/{id}", params(("id" = i64, Path)), request_body = ProductUpdate,
    responses((status = 200, description = "Stored; the event is durably on its way", body = Stored), Problems))]
async fn update(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<ProductUpdate>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let product = products::update(&mut tx, id, &change).await?;
    let body = notify(&app.outbox, &mut tx, product)?;
    tx.commit().await?;
    StoredResponse::new(StatusCode::OK, body)
}

/// Store a product; search, cache and analytics follow
#[utoipa::path(post, path = "/products", request_body = NewProduct,
    responses((status = 201, description = "Stored; the event is durably on its way", body = Stored), Problems))]
async fn create(State(app): State<App>, Json(new): Json<NewProduct>) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let product = products::insert(&mut tx, &new).await?;
    let location = format!("/products/{}", product.id);
    let body = notify(&app.outbox, &mut tx, product)?;
    tx.commit().await?;
    Ok(StoredResponse::new(StatusCode::CREATED, body)?.at(location))
}

/// Publishes the event for the three receivers, and returns the body of the answer.
fn notify(outbox: &Outbox, tx: &mut Tx, product: Product) -> Result<Stored, ApiError> {
    let Product { id: product_id, name, stock, version, .. } = product.clone();
    outbox.add(tx, &ProductUpdated { product_id, name, stock, version })?;
    Ok(Stored { event_published: Some(true), ..product.into() })
}
