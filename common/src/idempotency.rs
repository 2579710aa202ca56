//! `Idempotency-Key`: the same key with the same body gets the stored response again, for at least 24 h.
//!
//! The key is claimed in the transaction of the first effect. In async mode that transaction stores the response too. In sync
//! mode the response comes seconds later, so the key is leased meanwhile. The lease of a process that dies expires, and a retry
//! resumes the work at its subject (the user, the payment, the order) instead of doing it twice.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::db::{self, Db};
use crate::error::ApiError;
use crate::web::StoredResponse;

const HEADER: &str = "Idempotency-Key";
/// The pattern of [`is_key`] for the API document. Blanks around a header's value are not part of it.
const PATTERN: &str = r"^[!-+\--~]([ -+\--~]*[!-+\--~])?$";
/// Longer than the time limit of a request, so that two requests never work under one key.
const LEASE_SECONDS: f64 = 35.0;

/// The header of a request, if it has one.
pub struct IdempotencyKey(Option<String>);

/// The state of the key for the request that carries it.
pub enum Claim {
    /// The key is new: do the work.
    New(IdempotencyGuard),
    /// An earlier request was interrupted after it had begun the subject: continue there.
    Resumed(IdempotencyGuard, Subject),
    /// The request was answered before: return the same response.
    Replayed(StoredResponse),
}

/// The id of what an earlier request had begun.
pub struct Subject(String);

impl Subject {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// When the stored id is not a number.
    pub fn id(&self) -> Result<i64, ApiError> {
        self.0.parse().map_err(|error: std::num::ParseIntError| ApiError::Internal(error.into()))
    }
}

/// The right to work under a key until the response is stored. Without a key its methods do nothing.
pub struct IdempotencyGuard(Option<String>);

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

/// No comma: a proxy joins two headers of the same name with it (RFC 9110, 5.3).
fn is_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',')
}

impl IdempotencyKey {
    /// Claims the key in the transaction of the first effect. A repetition must have the same `operation` and `request`.
    ///
    /// # Errors
    /// 422 when the key was used for another request, 409 while the first request with it is in progress.
    pub async fn claim(
        &self,
        tx: &mut PgConnection,
        operation: &str,
        request: &impl Serialize,
    ) -> Result<Claim, ApiError> {
        let Some(key) = &self.0 else { return Ok(Claim::New(IdempotencyGuard(None))) };
        let fingerprint = fingerprint(operation, request)?;
        let guard = IdempotencyGuard(Some(key.clone()));
        let inserted = sqlx::query(
            "INSERT INTO idempotency_keys (key, fingerprint, leased_until)
             VALUES ($1, $2, now() + make_interval(secs => $3)) ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(&fingerprint)
        .bind(LEASE_SECONDS)
        .execute(&mut *tx)
        .await
        // Another request has inserted the key and not committed it yet.
        .map_err(|error| if db::waited_for_lock(&error) { at_work() } else { error.into() })?;
        if inserted.rows_affected() == 1 {
            return Ok(Claim::New(guard));
        }
        let (used_for, subject, answer, leased): (Vec<u8>, Option<String>, Option<sqlx::types::Json<StoredResponse>>, bool) =
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
            return Ok(Claim::Replayed(answer.replayed()));
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
            || Claim::New(IdempotencyGuard(Some(key.clone()))),
            |s| Claim::Resumed(guard, Subject(s)),
        ))
    }
}

impl IdempotencyGuard {
    /// Stores the subject, in the transaction that begins it.
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

    /// Stores the response in the transaction of the last effect.
    ///
    /// # Errors
    /// As the database.
    pub async fn responded_in(
        &self,
        tx: &mut PgConnection,
        response: &StoredResponse,
    ) -> Result<(), ApiError> {
        let Some(key) = &self.0 else { return Ok(()) };
        sqlx::query("UPDATE idempotency_keys SET answer = $2 WHERE key = $1")
            .bind(key)
            .bind(sqlx::types::Json(response))
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Stores the response after the last effect.
    ///
    /// # Errors
    /// As the database. The effects stay, and a retry finds them.
    pub async fn responded(&self, db: &Db, response: &StoredResponse) -> Result<(), ApiError> {
        if self.0.is_some() {
            let mut connection = db.acquire().await?;
            self.responded_in(&mut connection, response).await?;
        }
        Ok(())
    }

    /// Ends the lease without a response: the work failed half-way, and a retry may continue at once.
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

/// Deletes keys after 48 h, twice the promised time.
pub(crate) async fn prune(db: &Db) -> Result<(), sqlx::Error> {
    db.delete_in_chunks("idempotency_keys", "created_at < now() - interval '48 hours'").await
}

/// Hashes the parsed request, so that blanks and the order of fields do not matter.
fn fingerprint(operation: &str, request: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let mut hash = Sha256::new_with_prefix(operation);
    hash.update([0]);
    hash.update(serde_json::to_vec(request)?);
    Ok(hash.finalize().to_vec())
}
