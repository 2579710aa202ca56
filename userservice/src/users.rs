//! Users: one address each, unique without regard to case. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::rules::is_email;
use common::web::{Page, Path, Query};
use common::{ApiError, Db, db, email};
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
    /// `local@domain` (RFC 5321), in letters of any script (RFC 6531), composed or decomposed; at most 254 bytes in UTF-8, 64 of
    /// them before the `@`. The domain has labels of 1 to 63 letters, digits and hyphens, without a hyphen at either end; no
    /// display name, no IP address. Two addresses are the same if they differ in case only, or in how accents are composed.
    #[garde(custom(is_email))]
    #[schema(format = Email, max_length = 254, example = "ada.l33t@example.org")]
    pub email: String,
}

/// What `POST /register` answers.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    pub id: i64,
    pub email: String,
    pub message: &'static str,
    /// Sync mode: steps that failed and are not repeated
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<&'static str>,
    /// Async mode: the event is durable
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub event_published: Option<bool>,
}

impl Registered {
    pub fn of(user: User, message: &'static str) -> Registered {
        Registered { id: user.id, email: user.email, message, warnings: Vec::new(), event_published: None }
    }
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
/// 422 when it is no address, 409 when it is taken; case does not count.
pub async fn insert(tx: &mut PgConnection, email: &str) -> Result<User, ApiError> {
    let identity = email::identity(email).map_err(|defect| ApiError::invalid("email", defect))?;
    sqlx::query_as("INSERT INTO users (email, identity) VALUES ($1, $2) RETURNING id, email, created_at")
        .bind(email)
        .bind(identity)
        .fetch_one(tx)
        .await
        .map_err(|error| match db::violates(&error, "users_identity_key") {
            true => ApiError::Conflict("this e-mail address is registered already".into()),
            false => error.into(),
        })
}

/// A user by id, as text or number.
///
/// # Errors
/// 404 when there is none.
pub async fn find(tx: &mut PgConnection, id: i64) -> Result<User, ApiError> {
    let found = sqlx::query_as("SELECT id, email, created_at FROM users WHERE id = $1");
    let found = found.bind(id).fetch_optional(tx).await?;
    found.ok_or_else(|| ApiError::not_found("user", id))
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).with_state(db)
}

/// The newest users
#[utoipa::path(get, path = "/users", params(Page), responses((status = 200, body = [User]), Problems))]
async fn list(State(db): State<Db>, Query(page): Query<Page>) -> Result<Json<Vec<User>>, ApiError> {
    let users = sqlx::query_as("SELECT id, email, created_at FROM users ORDER BY id DESC LIMIT $1");
    let users = users.bind(page.limit);
    Ok(Json(users.fetch_all(&mut *db.acquire().await?).await?))
}

/// One user
#[utoipa::path(get, path = "/users/{id}", params(("id" = i64, Path)), responses((status = 200, body = User), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<i64>) -> Result<Json<User>, ApiError> {
    let mut connection = db.acquire().await?;
    Ok(Json(find(&mut connection, id).await?))
}
