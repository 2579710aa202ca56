//! Payments: `processing` until taken, each state guarded by the one before. Nothing here knows the mode.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::error::{OrProblem, Problems};
use common::failpoint::witness;
use common::saga::{INSUFFICIENT_FUNDS, SagaSettings};
use common::web::{OptionalJson, Path, StoredResponse};
use common::{ApiError, Db, rules, telemetry};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How long it takes to take a payment
    #[arg(long, env, default_value_t = 2000)]
    pub payment_delay_ms: u64,
    /// How long the payment step of an order's saga takes, whether it fails or not
    #[arg(long, env, default_value_t = 0)]
    pub saga_payment_delay_ms: u64,
    #[command(flatten)]
    pub saga: SagaSettings,
}

/// What `POST /process_payment` takes; `{}` is valid.
#[derive(Clone, Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPayment {
    #[garde(range(min = rules::MIN_AMOUNT, max = rules::MAX_AMOUNT))]
    #[schema(minimum = 0.01, maximum = 1e9)]
    pub amount: f64,
    /// Three capital letters, ISO 4217
    #[garde(custom(rules::is_currency))]
    #[schema(pattern = "^[A-Z]{3}$")]
    pub currency: String,
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub order_id: Option<i64>,
}

impl Default for NewPayment {
    fn default() -> NewPayment {
        NewPayment { amount: 100.0, currency: "USD".into(), order_id: None }
    }
}

/// The state of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    Processing,
    Success,
    Failed,
    /// It was taken, and its order was given up
    Refunded,
}

/// The `status` in `PaymentCompleted`, in the audit, and the outcome of the final effect.
pub const SUCCESS: &str = "success";

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Payment {
    pub payment_id: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub amount: f64,
    pub currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What `POST /cancel_payment` answers.
#[derive(Serialize, ToSchema)]
pub struct CancelledOrder {
    #[schema(example = "ok")]
    pub status: String,
    /// Of the first cancellation
    pub reason: String,
}

/// What sync mode answers when a payment is taken.
#[derive(Serialize, ToSchema)]
pub struct Taken {
    payment_id: String,
    status: Status,
    transaction_id: Option<String>,
    amount: f64,
    currency: String,
}

impl From<Payment> for Taken {
    fn from(payment: Payment) -> Taken {
        let Payment { payment_id, status, transaction_id, amount, currency, .. } = payment;
        Taken { payment_id, status, transaction_id, amount, currency }
    }
}

/// What async mode answers at once.
#[derive(Serialize, ToSchema)]
pub struct Processing {
    payment_id: String,
    status: Status,
    message: &'static str,
}

impl Processing {
    pub fn of(payment: &Payment) -> Processing {
        let message = "Payment is being processed";
        Processing { payment_id: payment.payment_id.clone(), status: payment.status, message }
    }
}

/// The 400 of a payment that is refused.
#[derive(Serialize, ToSchema)]
pub struct Refused {
    #[serde(flatten)]
    refusal: Refusal,
    /// The same once more
    detail: Refusal,
}

#[derive(Clone, Serialize, ToSchema)]
struct Refusal {
    status: Status,
    reason: String,
}

impl Refused {
    pub fn because(reason: impl Into<String>) -> Refused {
        let refusal = Refusal { status: Status::Failed, reason: reason.into() };
        Refused { refusal: refusal.clone(), detail: refusal }
    }
}

/// Relative difference of two amounts that are the same: JSON may change the last bits of a number.
const ROUNDING: f64 = 1e-12;

impl Payment {
    /// # Errors
    /// 409 when it has another amount or currency.
    pub fn fits(&self, amount: f64, currency: &str) -> Result<(), ApiError> {
        if (self.amount - amount).abs() <= ROUNDING * self.amount && self.currency == currency {
            return Ok(());
        }
        let text = format!("payment {} has another amount or currency", self.payment_id);
        Err(ApiError::Conflict(text.into()))
    }
}

/// The bank of the study: it takes a while.
#[derive(Clone)]
pub struct Bank {
    pub payment_delay: Duration,
    /// Of the saga's request for a payment.
    pub saga_delay: Duration,
}

impl Bank {
    pub fn new(settings: &Settings) -> Bank {
        Bank {
            payment_delay: Duration::from_millis(settings.payment_delay_ms),
            saga_delay: Duration::from_millis(settings.saga_payment_delay_ms),
        }
    }

    /// Takes a payment: the id of the transaction.
    pub async fn charge(&self) -> String {
        tokio::time::sleep(self.payment_delay).await;
        transaction_id()
    }

    /// Answers the saga's request for a payment.
    pub async fn decide(&self) {
        tokio::time::sleep(self.saga_delay).await;
    }
}

pub fn transaction_id() -> String {
    format!("txn_{}", Uuid::new_v4().simple())
}

/// A payment that is to be taken.
///
/// # Errors
/// As the database.
pub async fn insert(tx: &mut PgConnection, new: &NewPayment) -> Result<Payment, sqlx::Error> {
    let payment_id = format!("pay_{}", Uuid::now_v7().simple());
    telemetry::subject("payment", &payment_id);
    sqlx::query_as(
        "INSERT INTO payments (payment_id, status, amount, currency, order_id)
         VALUES ($1, 'processing', $2, $3, $4) RETURNING *",
    )
    .bind(payment_id)
    .bind(new.amount)
    .bind(&new.currency)
    .bind(new.order_id)
    .fetch_one(tx)
    .await
}

/// # Errors
/// 404 when there is none.
pub async fn find(tx: &mut PgConnection, payment_id: &str) -> Result<Payment, ApiError> {
    let found =
        sqlx::query_as("SELECT * FROM payments WHERE payment_id = $1").bind(payment_id).fetch_optional(tx);
    found.await?.ok_or_else(|| ApiError::not_found("payment", payment_id))
}

/// Ends a payment that was processing; `false` if it had ended before. `asked` is its amount and currency, where the caller
/// says them: nothing changes unless they fit.
///
/// # Errors
/// As the database.
pub async fn complete(
    tx: &mut PgConnection,
    payment_id: &str,
    asked: Option<(f64, &str)>,
    transaction_id: &str,
) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE payments SET status = 'success', transaction_id = $2, updated_at = now()
         WHERE payment_id = $1 AND status = 'processing' AND currency = coalesce($4, currency)
           AND abs(amount - coalesce($3, amount)) <= $5 * amount",
    )
    .bind(payment_id)
    .bind(transaction_id)
    .bind(asked.map(|(amount, _)| amount))
    .bind(asked.map(|(_, currency)| currency))
    .bind(ROUNDING)
    .execute(&mut *tx)
    .await?;
    let first = ended.rows_affected() == 1;
    if first {
        witness(tx, "payment", payment_id).await?;
    }
    Ok(first)
}

/// Adds a payment to the audit; `false` if it was there before.
///
/// # Errors
/// 409 when it is there with another transaction or status.
pub async fn audit(
    tx: &mut PgConnection,
    payment_id: &str,
    transaction_id: &str,
    status: &str,
) -> Result<bool, ApiError> {
    let noted = sqlx::query(
        "INSERT INTO payment_audit (payment_id, transaction_id, status) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(payment_id)
    .bind(transaction_id)
    .bind(status)
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() == 1 {
        return Ok(true);
    }
    let before: (String, String) =
        sqlx::query_as("SELECT transaction_id, status FROM payment_audit WHERE payment_id = $1")
            .bind(payment_id)
            .fetch_one(tx)
            .await?;
    if (before.0.as_str(), before.1.as_str()) != (transaction_id, status) {
        let text = format!("payment {payment_id} is noted with another transaction or status");
        return Err(ApiError::Conflict(text.into()));
    }
    Ok(false)
}

/// The payment of an order: taken now, or what became of it before. Keyed by the order.
///
/// # Errors
/// As the database.
pub async fn pay_order(tx: &mut PgConnection, order_id: i64) -> Result<Payment, sqlx::Error> {
    let new = NewPayment::default();
    let taken = sqlx::query(
        "INSERT INTO payments (payment_id, status, amount, currency, order_id, saga, transaction_id)
         VALUES ($1, 'success', $2, $3, $4, true, $5) ON CONFLICT (order_id) WHERE saga DO NOTHING",
    )
    .bind(format!("pay_{}", Uuid::now_v7().simple()))
    .bind(new.amount)
    .bind(new.currency)
    .bind(order_id)
    .bind(transaction_id())
    .execute(&mut *tx)
    .await?;
    if taken.rows_affected() == 1 {
        witness(tx, "saga_payment", order_id).await?;
    }
    sqlx::query_as("SELECT * FROM payments WHERE saga AND order_id = $1").bind(order_id).fetch_one(tx).await
}

/// The order was given up: a payment that was taken is given back, and one that comes later finds this row.
///
/// # Errors
/// As the database.
pub async fn cancel_order(
    tx: &mut PgConnection,
    order_id: i64,
    reason: &str,
) -> Result<Cancelled, sqlx::Error> {
    let new = NewPayment::default();
    let cancelled = sqlx::query(
        "INSERT INTO payments (payment_id, status, amount, currency, order_id, saga, reason)
         VALUES ($1, 'failed', $2, $3, $4, true, $5)
         ON CONFLICT (order_id) WHERE saga DO UPDATE
         SET status = 'refunded', reason = $5, updated_at = now() WHERE payments.status = 'success'",
    )
    .bind(format!("pay_{}", Uuid::now_v7().simple()))
    .bind(new.amount)
    .bind(new.currency)
    .bind(order_id)
    .bind(reason)
    .execute(&mut *tx)
    .await?;
    if cancelled.rows_affected() == 1 {
        return Ok(Cancelled::Now);
    }
    let select = sqlx::query_scalar("SELECT reason FROM payments WHERE saga AND order_id = $1");
    let reason: Option<String> = select.bind(order_id).fetch_one(tx).await?;
    Ok(Cancelled::Before { reason: reason.unwrap_or_default() })
}

/// What became of a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Now,
    /// The first one stands, with its reason.
    Before {
        reason: String,
    },
}

/// Ends what has been processing for 60 s (sync mode): no request lasts longer than 30 s, so a crash cut it off.
///
/// # Errors
/// As the database.
pub async fn end_interrupted(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE payments SET status = 'failed', reason = 'Interrupted', updated_at = now()
         WHERE (status || '') = 'processing' AND created_at < now() - interval '60 seconds'",
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The paths that are the same in both modes.
pub fn routes(db: Db, bank: Bank) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(get))
        .with_state(db)
        .merge(OpenApiRouter::new().routes(routes!(process_payment_fail)).with_state(bank))
}

/// One payment
#[utoipa::path(get, path = "/payments/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Payment), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<String>) -> Result<Json<Payment>, ApiError> {
    if !id.starts_with("pay_") || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ApiError::not_found("payment", id.escape_default()));
    }
    let mut connection = db.acquire().await?;
    Ok(Json(find(&mut connection, &id).await?))
}

/// A payment that is refused: always 400, and nothing is stored
#[utoipa::path(post, path = "/process_payment_fail", request_body = Option<NewPayment>,
    responses(Problems, (status = 400, description = "Refused, or malformed JSON", body = OrProblem<Refused>, content_type = "application/problem+json")))]
async fn process_payment_fail(
    State(bank): State<Bank>,
    OptionalJson(payment): OptionalJson<NewPayment>,
) -> Result<StoredResponse, ApiError> {
    if payment.order_id.is_some() {
        bank.decide().await;
    }
    StoredResponse::new(StatusCode::BAD_REQUEST, Refused::because(INSUFFICIENT_FUNDS))
}
