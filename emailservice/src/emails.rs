//! Welcome e-mails: the sending, which takes its time, and the record of what was sent. Nothing here knows the mode.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::web::{Page, Query};
use common::{ApiError, Db};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How long the sending of one e-mail takes
    #[arg(long, env, default_value_t = 500)]
    pub email_delay_ms: u64,
}

#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Email {
    pub id: i64,
    pub user_id: i64,
    pub email: String,
    #[serde(with = "time::serde::rfc3339")]
    pub sent_at: OffsetDateTime,
}

/// The mail server of the study: it takes a while.
#[derive(Clone)]
pub struct MailServer {
    delay: Duration,
}

impl MailServer {
    pub fn new(settings: &Settings) -> MailServer {
        MailServer { delay: Duration::from_millis(settings.email_delay_ms) }
    }

    pub async fn send(&self) {
        tokio::time::sleep(self.delay).await;
    }
}

/// Whether the user's welcome e-mail was sent to this address before.
///
/// # Errors
/// 409 when it was sent to another one.
pub async fn was_sent(db: &Db, user_id: i64, email: &str) -> Result<bool, ApiError> {
    let mut connection = db.acquire().await?;
    find(&mut connection, user_id, email).await
}

async fn find(tx: &mut PgConnection, user_id: i64, email: &str) -> Result<bool, ApiError> {
    let find = sqlx::query_scalar("SELECT email FROM emails WHERE user_id = $1").bind(user_id);
    let sent_to: Option<String> = find.fetch_optional(tx).await?;
    if sent_to.as_ref().is_some_and(|sent_to| sent_to != email) {
        let text = format!("the welcome e-mail of user {user_id} went to another address");
        return Err(ApiError::Conflict(text.into()));
    }
    Ok(sent_to.is_some())
}

/// Records that an e-mail was sent; `false` if one was recorded for this user and address before.
///
/// # Errors
/// 409 when one was recorded for another address.
pub async fn record(tx: &mut PgConnection, user_id: i64, email: &str) -> Result<bool, ApiError> {
    let inserted =
        sqlx::query("INSERT INTO emails (user_id, email) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING")
            .bind(user_id)
            .bind(email)
            .execute(&mut *tx)
            .await?;
    let first = inserted.rows_affected() == 1;
    if first {
        witness(tx, "email", user_id).await?;
    } else {
        find(tx, user_id, email).await?;
    }
    Ok(first)
}

#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only the e-mails of this user
    #[garde(skip)]
    user_id: Option<i64>,
    /// 1 to 1000
    #[serde(default = "Page::default_limit")]
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: i64,
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).with_state(db)
}

/// The newest e-mails
#[utoipa::path(get, path = "/emails", params(Filter), responses((status = 200, body = [Email]), Problems))]
async fn list(State(db): State<Db>, Query(filter): Query<Filter>) -> Result<Json<Vec<Email>>, ApiError> {
    let mut connection = db.acquire().await?;
    Ok(Json(newest(&mut connection, filter.user_id, filter.limit).await?))
}

/// The newest e-mails, of this user if one is given. Two statements: a generic plan for both would read all e-mails.
///
/// # Errors
/// As the database.
pub async fn newest(
    tx: &mut PgConnection,
    user_id: Option<i64>,
    limit: i64,
) -> Result<Vec<Email>, sqlx::Error> {
    let newest = match user_id {
        Some(id) => sqlx::query_as("SELECT * FROM emails WHERE user_id = $1 LIMIT $2").bind(id),
        None => sqlx::query_as("SELECT * FROM emails ORDER BY id DESC LIMIT $1"),
    };
    newest.bind(limit).fetch_all(tx).await
}
