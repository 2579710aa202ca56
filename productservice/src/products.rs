//! Products: a name, a stock, and a version that grows with every change. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::rules::{self, no_nul, no_nul_opt};
use common::web::{Page, Path, Query};
use common::{ApiError, Db};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What `POST /products` takes.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    #[garde(length(chars, min = 1, max = rules::MAX_NAME), custom(no_nul))]
    #[schema(min_length = 1, max_length = 4096)]
    pub name: String,
    #[garde(range(min = 0, max = rules::MAX_STOCK))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub stock: i64,
}

/// What `PUT /products/{id}` takes: what is missing stays as it is.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductUpdate {
    #[garde(length(chars, min = 1, max = rules::MAX_NAME), custom(no_nul_opt))]
    #[schema(min_length = 1, max_length = 4096)]
    pub name: Option<String>,
    #[garde(range(min = 0, max = rules::MAX_STOCK))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub stock: Option<i64>,
}

/// What a change is answered with.
#[derive(Serialize, ToSchema)]
pub struct Stored {
    pub id: i64,
    pub name: String,
    pub stock: i64,
    pub version: i64,
    /// Sync mode: receivers that failed
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
    /// Async mode: the event is durable
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub event_published: Option<bool>,
}

impl From<Product> for Stored {
    fn from(product: Product) -> Stored {
        let Product { id, name, stock, version, .. } = product;
        Stored { id, name, stock, version, warnings: Vec::new(), event_published: None }
    }
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Product {
    pub id: i64,
    pub name: String,
    pub stock: i64,
    pub version: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Stores a product, in its first version.
///
/// # Errors
/// As the database.
pub async fn insert(tx: &mut PgConnection, new: &NewProduct) -> Result<Product, ApiError> {
    let inserted = sqlx::query_as("INSERT INTO products (name, stock) VALUES ($1, $2) RETURNING *");
    Ok(inserted.bind(&new.name).bind(new.stock).fetch_one(tx).await?)
}

/// Stores a change as the next version.
///
/// # Errors
/// 404 when there is no such product.
pub async fn update(tx: &mut PgConnection, id: i64, change: &ProductUpdate) -> Result<Product, ApiError> {
    let updated = sqlx::query_as(
        "UPDATE products SET name = coalesce($2, name), stock = coalesce($3, stock), version = version + 1,
         updated_at = now() WHERE id = $1 RETURNING *",
    )
    .bind(id)
    .bind(&change.name)
    .bind(change.stock)
    .fetch_optional(tx)
    .await?;
    updated.ok_or_else(|| ApiError::not_found("product", id))
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).with_state(db)
}

/// The newest products
#[utoipa::path(get, path = "/products", params(Page), responses((status = 200, body = [Product]), Problems))]
async fn list(State(db): State<Db>, Query(page): Query<Page>) -> Result<Json<Vec<Product>>, ApiError> {
    let products = sqlx::query_as("SELECT * FROM products ORDER BY id DESC LIMIT $1").bind(page.limit);
    Ok(Json(products.fetch_all(&mut *db.acquire().await?).await?))
}

/// One product
#[utoipa::path(get, path = "/products/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = Product), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<i64>) -> Result<Json<Product>, ApiError> {
    let product = sqlx::query_as("SELECT * FROM products WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut *db.acquire().await?)
        .await?;
    Ok(Json(product.ok_or_else(|| ApiError::not_found("product", id))?))
}
