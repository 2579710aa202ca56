//! Notifications: one per order. Nothing here knows the stack.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::web::Query;
use common::{ApiError, Db};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::orders::key;
use crate::{Newest, Rows};

#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Notification {
    #[sqlx(skip)]
    message: Sent,
    pub order_id: String,
    pub status: String,
    pub item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// When it was sent, seconds since 1970
    #[sqlx(rename = "notified_at")]
    pub timestamp: f64,
}

/// What every notification says.
#[derive(Debug, Default, Serialize, ToSchema)]
enum Sent {
    #[default]
    #[serde(rename = "Notification sent")]
    Sent,
}

/// Notifies the customer of an order; `false` if that was done before.
///
/// # Errors
/// As the database.
pub(crate) async fn send(
    tx: &mut PgConnection,
    order_id: &str,
    status: &str,
    item: &str,
    quantity: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let order_id = &*key(order_id);
    let sent = sqlx::query(
        "INSERT INTO notifications (order_id, status, item, quantity) VALUES ($1, $2, $3, $4)
         ON CONFLICT (order_id) DO NOTHING",
    );
    let sent = sent.bind(order_id).bind(status).bind(item).bind(quantity).execute(&mut *tx).await?;
    let first = sent.rows_affected() == 1;
    if first {
        witness(tx, "notification", order_id).await?;
    }
    Ok(first)
}

/// The notification of an order.
///
/// # Errors
/// As the database; also when there is none.
#[cfg(feature = "sync")]
pub(crate) async fn find(tx: &mut PgConnection, order_id: &str) -> Result<Notification, sqlx::Error> {
    sqlx::query_as("SELECT * FROM notifications WHERE order_id = $1")
        .bind(&*key(order_id))
        .fetch_one(tx)
        .await
}

pub(crate) fn routes(db: Db) -> OpenApiRouter {
    let rows = Rows { db: db.clone(), tables: &["notifications"] };
    let reset = OpenApiRouter::new().routes(routes!(crate::reset)).with_state(rows);
    OpenApiRouter::new().routes(routes!(list)).with_state(db).merge(reset)
}

/// The newest notifications
#[utoipa::path(get, path = "/notifications", params(Newest),
    responses((status = 200, body = [Notification]), Problems))]
async fn list(
    State(db): State<Db>,
    Query(newest): Query<Newest>,
) -> Result<Json<Vec<Notification>>, ApiError> {
    let sent = sqlx::query_as("SELECT * FROM notifications ORDER BY seq DESC LIMIT $1");
    Ok(Json(sent.bind(newest.limit).fetch_all(&mut *db.acquire().await?).await?))
}
