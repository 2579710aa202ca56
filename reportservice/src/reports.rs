//! Report jobs: queued, running, then completed or failed. Nothing here knows the mode.

use axum::Json;
use axum::extract::State;
use common::error::Problems;
use common::failpoint::witness;
use common::rules::{self, no_nul};
use common::web::Path;
use common::{ApiError, Db, telemetry};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::hashing::Report;

/// What `POST /generate_report` takes; the body may be missing.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewReport {
    #[garde(length(chars, min = 1, max = rules::MAX_REPORT_TYPE), custom(no_nul))]
    #[schema(min_length = 1, max_length = 100)]
    pub report_type: String,
}

impl Default for NewReport {
    fn default() -> NewReport {
        NewReport { report_type: "standard".into() }
    }
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    Queued,
    Running,
    Completed,
    Failed,
}

/// What async mode answers at once.
#[derive(Serialize, ToSchema)]
pub struct Queued {
    job_id: String,
    status: Status,
    message: &'static str,
}

impl Queued {
    pub fn of(job: &Job) -> Queued {
        Queued { job_id: job.job_id.clone(), status: job.status, message: "Report is queued" }
    }
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Job {
    pub job_id: String,
    pub report_type: String,
    pub status: Status,
    /// The last hash of the chain, in hexadecimal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<i64>,
    /// From acceptance to the start of the computation
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computation_time_seconds: Option<f64>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

const COLUMNS: &str =
    "job_id, report_type, status, report_hash, iterations, computation_time_seconds, created_at,
    extract(epoch FROM started_at - created_at)::float8 AS queued_seconds";

/// A job that is to be computed.
///
/// # Errors
/// As the database.
pub async fn insert(tx: &mut PgConnection, new: &NewReport) -> Result<Job, sqlx::Error> {
    let insert = format!(
        "INSERT INTO report_jobs (job_id, report_type, status) VALUES ($1, $2, 'queued') RETURNING {COLUMNS}"
    );
    let job_id = format!("job_{}", Uuid::now_v7().simple());
    telemetry::subject("job", &job_id);
    sqlx::query_as(sqlx::AssertSqlSafe(insert)).bind(job_id).bind(&new.report_type).fetch_one(tx).await
}

/// # Errors
/// 404 when there is none.
pub async fn find(tx: &mut PgConnection, job_id: &str) -> Result<Job, ApiError> {
    let select = format!("SELECT {COLUMNS} FROM report_jobs WHERE job_id = $1");
    let found = sqlx::query_as(sqlx::AssertSqlSafe(select)).bind(job_id).fetch_optional(tx).await?;
    found.ok_or_else(|| ApiError::not_found("job", job_id))
}

/// The computation begins, or begins anew after a crash; `false` if the job is completed.
///
/// # Errors
/// 404 when there is none, 409 when it is of another type.
pub async fn begin(tx: &mut PgConnection, job_id: &str, report_type: &str) -> Result<bool, ApiError> {
    let begun = sqlx::query(
        "UPDATE report_jobs SET status = 'running', started_at = now()
         WHERE job_id = $1 AND status <> 'completed' AND report_type = $2",
    )
    .bind(job_id)
    .bind(report_type)
    .execute(&mut *tx)
    .await?;
    if begun.rows_affected() == 0 {
        let job = find(tx, job_id).await?;
        if job.report_type != report_type {
            return Err(ApiError::Conflict(format!("job {job_id} is of another type").into()));
        }
    }
    Ok(begun.rows_affected() == 1)
}

/// Stores a report; `false` if the job had one.
///
/// # Errors
/// As the database.
pub async fn complete(tx: &mut PgConnection, job_id: &str, report: &Report) -> Result<bool, sqlx::Error> {
    let completed = sqlx::query(
        "UPDATE report_jobs SET status = 'completed', report_hash = $2, iterations = $3, computation_time_seconds = $4,
         finished_at = now() WHERE job_id = $1 AND status <> 'completed'",
    )
    .bind(job_id)
    .bind(&report.hash)
    .bind(report.iterations.cast_signed())
    .bind(report.seconds)
    .execute(&mut *tx)
    .await?;
    let first = completed.rows_affected() == 1;
    if first {
        witness(tx, "report", job_id).await?;
    }
    Ok(first)
}

/// A job that no worker took has failed.
///
/// # Errors
/// As the database.
pub async fn refuse(tx: &mut PgConnection, job_id: &str) -> Result<(), sqlx::Error> {
    let refuse = "UPDATE report_jobs SET status = 'failed' WHERE job_id = $1 AND status = 'queued'";
    sqlx::query(refuse).bind(job_id).execute(tx).await?;
    Ok(())
}

/// Ends what has not ended after 90 s (sync mode): no request works for over 60 s, so a crash cut it off.
///
/// # Errors
/// As the database.
pub async fn end_interrupted(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE report_jobs SET status = 'failed', finished_at = now()
         WHERE (status || '') IN ('queued', 'running') AND created_at < now() - interval '90 seconds'
           AND coalesce(started_at, created_at) < now() - interval '90 seconds'",
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The paths that only look, the same in both modes.
pub fn routes(db: Db) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get)).with_state(db)
}

/// One job
#[utoipa::path(get, path = "/jobs/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Job), Problems))]
async fn get(State(db): State<Db>, Path(id): Path<String>) -> Result<Json<Job>, ApiError> {
    if !id.starts_with("job_") || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ApiError::not_found("job", id.escape_default()));
    }
    let mut connection = db.acquire().await?;
    Ok(Json(find(&mut connection, &id).await?))
}
