//! Clicks, stored once by the id of their event, and the history of product updates. Nothing here knows the mode.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use common::api::ProductChange;
use common::error::Problems;
use common::events::ClickTracked;
use common::failpoint::witness;
use common::fanout::other_contents;
use common::rules::{self, no_nul, no_nul_opt};
use common::web::{Page, Query};
use common::{ApiError, Db};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// What `POST /track_click` takes.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClick {
    /// The id that the sender of the click gives its user; 0 is valid
    #[garde(range(min = 0))]
    #[schema(minimum = 0)]
    pub user_id: i64,
    #[garde(length(chars, min = 1, max = rules::MAX_PAGE), custom(no_nul))]
    #[schema(min_length = 1, max_length = 2048, example = "/products/1")]
    pub page: String,
    #[garde(length(chars, min = 1, max = rules::MAX_SESSION_ID), custom(no_nul_opt))]
    #[schema(min_length = 1, max_length = 255)]
    pub session_id: Option<String>,
}

impl NewClick {
    /// The click as it is stored, with an id of its own.
    pub fn tracked(self) -> ClickTracked {
        ClickTracked {
            event_id: Uuid::now_v7(),
            user_id: self.user_id,
            page: self.page,
            session_id: self.session_id,
        }
    }
}

/// Stores clicks in one statement: the ids of those that were not there.
///
/// # Errors
/// As the database.
pub async fn store(tx: &mut PgConnection, clicks: &[&ClickTracked]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let stored: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO clicks (event_id, user_id, page, session_id)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[])
         ON CONFLICT (event_id) DO NOTHING RETURNING event_id",
    )
    .bind(clicks.iter().map(|c| c.event_id).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.user_id).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.page.as_str()).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.session_id.as_deref()).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Ok(stored.into_iter().collect())
}

/// Whether one of these clicks, which are all stored, is stored with other contents.
///
/// # Errors
/// As the database.
pub async fn differ(tx: &mut PgConnection, clicks: &[&ClickTracked]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS again (event_id, user_id, page, session_id)
             JOIN clicks USING (event_id)
             WHERE (again.user_id, again.page, again.session_id)
                 IS DISTINCT FROM (clicks.user_id, clicks.page, clicks.session_id))",
    )
    .bind(clicks.iter().map(|c| c.event_id).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.user_id).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.page.as_str()).collect::<Vec<_>>())
    .bind(clicks.iter().map(|c| c.session_id.as_deref()).collect::<Vec<_>>())
    .fetch_one(tx)
    .await
}

/// [`store`] for one click alone: a set of one costs the database a fifth more.
///
/// # Errors
/// As the database.
pub async fn store_one(tx: &mut PgConnection, click: &ClickTracked) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO clicks (event_id, user_id, page, session_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(click.event_id)
    .bind(click.user_id)
    .bind(&click.page)
    .bind(&click.session_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Records a change of a product; `false` if this version was recorded before. A change without a version is another one
/// every time.
///
/// # Errors
/// 409 when this version was recorded with other contents.
pub async fn record(tx: &mut PgConnection, change: &ProductChange) -> Result<bool, ApiError> {
    let recorded = sqlx::query(
        "INSERT INTO product_updates (product_id, version, name, stock) VALUES ($1, $2, $3, $4)
         ON CONFLICT ON CONSTRAINT product_updates_version_key DO NOTHING",
    )
    .bind(change.product_id)
    .bind(change.version)
    .bind(&change.name)
    .bind(change.stock)
    .execute(&mut *tx)
    .await?;
    let first = recorded.rows_affected() == 1;
    if !first {
        let before: (Option<String>, Option<i64>) =
            sqlx::query_as("SELECT name, stock FROM product_updates WHERE product_id = $1 AND version = $2")
                .bind(change.product_id)
                .bind(change.version)
                .fetch_one(&mut *tx)
                .await?;
        if before != (change.name.clone(), change.stock) {
            return Err(other_contents(change));
        }
    }
    if let (true, Some(version)) = (first, change.version) {
        witness(tx, "analytics", format!("{}:{version}", change.product_id)).await?;
    }
    Ok(first)
}

#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct ProductUpdate {
    pub product_id: i64,
    /// Absent if the click had none
    pub version: Option<i64>,
    pub name: Option<String>,
    pub stock: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
}

#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only the updates of this product
    #[garde(skip)]
    product_id: Option<i64>,
    /// 1 to 1000
    #[serde(default = "Page::default_limit")]
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: i64,
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(count)).routes(routes!(updates)).with_state(db)
}

#[derive(Serialize, ToSchema)]
struct Clicks {
    count: i64,
}

/// Clicks that are stored
#[utoipa::path(get, path = "/clicks/count", responses((status = 200, body = Clicks), Problems))]
async fn count(State(db): State<Db>) -> Result<Json<Clicks>, ApiError> {
    let count =
        sqlx::query_scalar("SELECT count(*) FROM clicks").fetch_one(&mut *db.acquire().await?).await?;
    Ok(Json(Clicks { count }))
}

/// The newest updates of products
#[utoipa::path(get, path = "/product_updates", params(Filter), responses((status = 200, body = [ProductUpdate]), Problems))]
async fn updates(
    State(db): State<Db>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<ProductUpdate>>, ApiError> {
    let mut connection = db.acquire().await?;
    Ok(Json(newest(&mut connection, filter.product_id, filter.limit).await?))
}

/// The newest updates, of this product if one is given. Two statements: a generic plan for both would read all updates.
///
/// # Errors
/// As the database.
pub async fn newest(
    tx: &mut PgConnection,
    product_id: Option<i64>,
    limit: i64,
) -> Result<Vec<ProductUpdate>, sqlx::Error> {
    let newest = match product_id {
        Some(id) => sqlx::query_as(
            "SELECT product_id, version, name, stock, recorded_at FROM product_updates
             WHERE product_id = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(id),
        None => sqlx::query_as(
            "SELECT product_id, version, name, stock, recorded_at FROM product_updates ORDER BY id DESC LIMIT $1",
        ),
    };
    newest.bind(limit).fetch_all(tx).await
}
