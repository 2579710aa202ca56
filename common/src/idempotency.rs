//! `Idempotency-Key`: the same key with the same body gives the stored answer again, for at least 24 h.
//!
//! The key is claimed in the transaction of the first effect. In async mode that transaction holds the answer too. In
//! sync mode the answer comes seconds later, so the key is leased meanwhile; a process that dies leaves a lease that runs
//! out, and a retry resumes the work at its subject (the user, the payment, the order) instead of doing it twice.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::db::{self, Db};
use crate::error::ApiError;
use crate::web::Answer;

const HEADER: &str = "Idempotency-Key";
/// For the API document: what [`is_key`] takes. Blanks around a header are no part of it.
const PATTERN: &str = r"^[!-+\--~]([ -+\--~]*[!-+\--~])?$";
/// Longer than a request may take, so that no two are at work on one key.
const LEASE_SECONDS: f64 = 35.0;

/// The header of a request; may be absent.
pub struct IdempotencyKey(Option<String>);

/// What a key means for the request that carries it.
pub enum Claim {
    /// First use: do the work.
    Fresh(Ticket),
    /// An earlier request with it was cut off after it had begun `subject`: go on there.
    Interrupted(Ticket, Subject),
    /// It has been answered: answer the same.
    Answered(Answer),
}

/// What an earlier request had begun: the id that it noted.
pub struct Subject(String);

impl Subject {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// When it is not the number that was noted.
    pub fn id(&self) -> Result<i64, ApiError> {
        self.0.parse().map_err(|error: std::num::ParseIntError| ApiError::Internal(error.into()))
    }
}

/// The right to work under a key, until answered. Without a key it costs nothing.
pub struct Ticket(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(IdempotencyKey(None)) };
        if values.next().is_some() {
            return Err(ApiError::invalid(HEADER, "must be given once"));
        }
        let key = value.to_str().ok().filter(|key| is_key(key));
        key.map(|key| IdempotencyKey(Some(key.to_owned()))).ok_or_else(|| {
            ApiError::invalid(HEADER, "must have 1 to 255 printable ASCII characters and no comma")
        })
    }
}

/// A comma is how a proxy joins two headers of the same name into one (RFC 9110, 5.3).
fn is_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',')
}

impl IdempotencyKey {
    /// Claims the key within the transaction of the first effect. `operation` and `request` are what must be the same.
    ///
    /// # Errors
    /// 422 when the key was used for something else, 409 while the first request with it is at work.
    pub async fn claim(
        &self,
        tx: &mut PgConnection,
        operation: &str,
        request: &impl Serialize,
    ) -> Result<Claim, ApiError> {
        let Some(key) = &self.0 else { return Ok(Claim::Fresh(Ticket(None))) };
        let fingerprint = fingerprint(operation, request)?;
        let ticket = Ticket(Some(key.clone()));
        let inserted = sqlx::query(
            "INSERT INTO idempotency_keys (key, fingerprint, leased_until)
             VALUES ($1, $2, now() + make_interval(secs => $3)) ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(&fingerprint)
        .bind(LEASE_SECONDS)
        .execute(&mut *tx)
        .await
        // Another request has inserted the key and not committed yet.
        .map_err(|error| if db::waited_for_lock(&error) { at_work() } else { error.into() })?;
        if inserted.rows_affected() == 1 {
            return Ok(Claim::Fresh(ticket));
        }
        let (used_for, subject, answer, leased): (Vec<u8>, Option<String>, Option<sqlx::types::Json<Answer>>, bool) =
            sqlx::query_as(
                "SELECT fingerprint, subject, answer, leased_until > now() FROM idempotency_keys WHERE key = $1 FOR UPDATE",
            )
            .bind(key)
            .fetch_one(&mut *tx)
            .await?;
        if used_for != fingerprint {
            return Err(ApiError::invalid(HEADER, "was used for a different request"));
        }
        if let Some(sqlx::types::Json(answer)) = answer {
            return Ok(Claim::Answered(answer.replayed()));
        }
        if leased {
            return Err(ApiError::Conflict(
                "the first request with this Idempotency-Key is still at work".into(),
            ));
        }
        sqlx::query(
            "UPDATE idempotency_keys SET leased_until = now() + make_interval(secs => $2) WHERE key = $1",
        )
        .bind(key)
        .bind(LEASE_SECONDS)
        .execute(&mut *tx)
        .await?;
        Ok(subject.map_or_else(
            || Claim::Fresh(Ticket(Some(key.clone()))),
            |s| Claim::Interrupted(ticket, Subject(s)),
        ))
    }
}

impl Ticket {
    /// Notes what was begun, in the transaction that begins it.
    ///
    /// # Errors
    /// As the database.
    pub async fn begun(&self, tx: &mut PgConnection, subject: impl ToString + Send) -> Result<(), ApiError> {
        let Some(key) = &self.0 else { return Ok(()) };
        sqlx::query("UPDATE idempotency_keys SET subject = $2 WHERE key = $1")
            .bind(key)
            .bind(subject.to_string())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Stores the answer in the transaction of the last effect.
    ///
    /// # Errors
    /// As the database.
    pub async fn answered_in(&self, tx: &mut PgConnection, answer: &Answer) -> Result<(), ApiError> {
        let Some(key) = &self.0 else { return Ok(()) };
        sqlx::query("UPDATE idempotency_keys SET answer = $2 WHERE key = $1")
            .bind(key)
            .bind(sqlx::types::Json(answer))
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Stores the answer after the last effect.
    ///
    /// # Errors
    /// As the database; the effects stand, and a retry finds them.
    pub async fn answered(&self, db: &Db, answer: &Answer) -> Result<(), ApiError> {
        if self.0.is_some() {
            let mut connection = db.acquire().await?;
            self.answered_in(&mut connection, answer).await?;
        }
        Ok(())
    }

    /// Ends the lease without an answer: the work failed half-way and a retry may go on at once.
    ///
    /// # Errors
    /// As the database.
    pub async fn released(&self, db: &Db) -> Result<(), ApiError> {
        let Some(key) = &self.0 else { return Ok(()) };
        sqlx::query("UPDATE idempotency_keys SET leased_until = now() WHERE key = $1")
            .bind(key)
            .execute(&mut *db.acquire().await?)
            .await?;
        Ok(())
    }
}

fn at_work() -> ApiError {
    ApiError::Conflict("the first request with this Idempotency-Key is still at work".into())
}

/// For the API document.
impl utoipa::IntoParams for IdempotencyKey {
    fn into_params(
        _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
    ) -> Vec<utoipa::openapi::path::Parameter> {
        use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
        let schema = schema.pattern(Some(PATTERN));
        let header = ParameterBuilder::new()
            .name(HEADER)
            .parameter_in(ParameterIn::Header)
            .description(Some("The same key with the same body gets the same answer; nothing happens twice. Given at most once"))
            .schema(Some(schema));
        vec![header.build()]
    }
}

/// Forgets keys after 48 h, twice what is promised.
pub(crate) async fn prune(db: &Db) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotency_keys WHERE created_at < now() - interval '48 hours'")
        .execute(&mut *db.background_connection().await?)
        .await?;
    Ok(())
}

/// Of the parsed request, so that blanks and the order of fields do not matter.
fn fingerprint(operation: &str, request: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let mut hash = Sha256::new_with_prefix(operation);
    hash.update([0]);
    hash.update(serde_json::to_vec(request)?);
    Ok(hash.finalize().to_vec())
}
