//! Users: an address each, unique without regard to case. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::web::{Page, Path, Query, is_email};
use common::{ApiError, Db, db};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What `POST /register` takes.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// At most 254 characters (RFC 5321), no display name
    #[garde(custom(is_email))]
    #[schema(format = Email, max_length = 254, example = "ada.l33t@example.org")]
    pub email: String,
}

/// What `POST /register` answers, for the API document.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct Registered {
    id: i64,
    email: String,
    message: String,
    /// Sync mode: what did not work
    #[schema(required = false, nullable = false)]
    warnings: Option<Vec<String>>,
    /// Async mode: the event is durably on its way
    #[schema(required = false, nullable = false)]
    event_published: Option<bool>,
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct User {
    pub id: i64,
    pub email: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Stores a user.
///
/// # Errors
/// 409 when the address is taken, in whatever case.
pub async fn insert(tx: &mut PgConnection, email: &str) -> Result<User, ApiError> {
    sqlx::query_as("INSERT INTO users (email) VALUES ($1) RETURNING *")
        .bind(email)
        .fetch_one(tx)
        .await
        .map_err(|error| match db::violates(&error, "users_email_key") {
            true => ApiError::Conflict("this e-mail address is registered already".into()),
            false => error.into(),
        })
}

/// A user by id, as text or number.
///
/// # Errors
/// 404 when there is none.
pub async fn find(tx: &mut PgConnection, id: i64) -> Result<User, ApiError> {
    let found = sqlx::query_as("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(tx).await?;
    found.ok_or_else(|| ApiError::not_found("user", id))
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).with_state(db)
}

/// The newest users
#[utoipa::path(get, path = "/users", params(Page), responses((status = 200, body = [User]), Problems))]
async fn list(State(db): State<Db>, Query(page): Query<Page>) -> Result<Json<Vec<User>>, ApiError> {
    let users = sqlx::query_as("SELECT * FROM users ORDER BY id DESC LIMIT $1").bind(page.limit);
    Ok(Json(users.fetch_all(&mut *db.acquire().await?).await?))
}

/// One user
#[utoipa::path(get, path = "/users/{id}", params(("id" = i64, Path)), responses((status = 200, body = User), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<i64>) -> Result<Json<User>, ApiError> {
    let mut connection = db.acquire().await?;
    Ok(Json(find(&mut connection, id).await?))
}
