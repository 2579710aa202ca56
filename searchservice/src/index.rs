//! The index: one row a product, full-text search over its name. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::api::ProductChange;
use common::error::Problems;
use common::failpoint::witness;
use common::fanout::other_contents;
use common::rules::no_nul;
use common::web::{Page, Query};
use common::{ApiError, Db};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Hit {
    pub product_id: i64,
    pub name: String,
    pub stock: i64,
    pub version: i64,
}

/// Indexes a change unless a newer one is there: whether it was applied.
///
/// # Errors
/// 409 when this very version is there with other contents.
pub async fn reindex(tx: &mut PgConnection, change: &ProductChange) -> Result<bool, ApiError> {
    let written = sqlx::query(
        "INSERT INTO product_index AS i (product_id, name, stock, version)
         VALUES ($1, coalesce($2, ''), coalesce($3, 0), coalesce($4, 0))
         ON CONFLICT (product_id) DO UPDATE
         SET name = coalesce($2, i.name), stock = coalesce($3, i.stock), version = coalesce($4, i.version),
             indexed_at = now()
         WHERE $4 IS NULL OR $4 > i.version",
    )
    .bind(change.product_id)
    .bind(&change.name)
    .bind(change.stock)
    .bind(change.version)
    .execute(&mut *tx)
    .await?;
    let applied = written.rows_affected() == 1;
    if !applied && !fits(tx, change).await? {
        return Err(other_contents(change));
    }
    if let (true, Some(version)) = (applied, change.version) {
        witness(tx, "search", format!("{}:{version}", change.product_id)).await?;
    }
    Ok(applied)
}

/// Whether a change that was not applied is outdated, or says the same as its version in the index.
async fn fits(tx: &mut PgConnection, change: &ProductChange) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT version <> $2 OR (name = coalesce($3, name) AND stock = coalesce($4, stock))
         FROM product_index WHERE product_id = $1",
    )
    .bind(change.product_id)
    .bind(change.version)
    .bind(&change.name)
    .bind(change.stock)
    .fetch_one(tx)
    .await
}

#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// Words as in a web search; the last one may be unfinished
    #[garde(length(chars, min = 1, max = 200), custom(no_nul))]
    #[param(min_length = 1, max_length = 200)]
    q: String,
    /// 1 to 1000
    #[serde(default = "Page::default_limit")]
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: i64,
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(search)).with_state(db)
}

/// Products by words of their name, the newest first
#[utoipa::path(get, path = "/search", params(Search), responses((status = 200, body = [Hit]), Problems))]
async fn search(State(db): State<Db>, Query(search): Query<Search>) -> Result<Json<Vec<Hit>>, ApiError> {
    // A query ends with a quoted word, unless its last term is an excluded phrase: that word may be a beginning.
    let hits = sqlx::query_as(
        "SELECT product_id, name, stock, version FROM product_index
         WHERE words @@ regexp_replace(websearch_to_tsquery('simple', $1)::text, '''$', ''':*')::tsquery
         ORDER BY product_id DESC LIMIT $2",
    )
    .bind(&search.q)
    .bind(search.limit);
    Ok(Json(hits.fetch_all(&mut *db.acquire().await?).await?))
}
