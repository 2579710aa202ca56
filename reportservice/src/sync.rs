//! S4 in sync mode: `POST /generate_report` answers 200 when the report is computed, 10 s later.
//! Twin: `messaging.rs` answers 202 at once and computes from a queue.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use common::error::Problems;
use common::idempotency::{Claim, IdempotencyKey};
use common::web::{OptionalJson, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::hashing::{Hashing, Settings, Worker};
use crate::reports::{self, Job, NewReport};

/// A request that finds no free thread in this time is refused: its client would not wait for the report itself.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct App {
    db: Db,
    hashing: Hashing,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), hashing: Hashing::new(settings) };
    let db = deps.db();
    let routes = OpenApiRouter::new().routes(routes!(generate_report)).with_state(app);
    Service::new(routes.merge(reports::routes(deps.db()))).every(
        Duration::from_secs(10),
        "interrupted reports",
        move || end_interrupted(db.clone()),
    )
}

/// Compute a report; the answer waits for it
#[utoipa::path(post, path = "/generate_report", request_body = Option<NewReport>, params(IdempotencyKey),
    responses((status = 200, description = "Computed", body = Job), Problems))]
async fn generate_report(
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalJson(new): OptionalJson<NewReport>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let (job, guard) = match key.claim(&mut tx, "generate_report", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, subject) => (reports::find(&mut tx, subject.as_str()).await?, guard),
        Claim::New(guard) => {
            let job = reports::insert(&mut tx, &new).await?;
            guard.begun(&mut tx, &job.job_id).await?;
            (job, guard)
        }
    };
    tx.commit().await?;

    let Ok(worker) = tokio::time::timeout(PATIENCE, app.hashing.worker()).await else {
        reports::refuse(&mut *app.db.acquire().await?, &job.job_id).await?;
        guard.released(&app.db).await?;
        return Err(ApiError::Unavailable("no worker was free in time".into()));
    };
    let job = compute_report(&app.db, worker.map_err(ApiError::Internal)?, job).await?;
    let answer = StoredResponse::new(StatusCode::OK, job)?;
    guard.responded(&app.db, &answer).await?;
    Ok(answer)
}

async fn compute_report(db: &Db, worker: Worker, job: Job) -> Result<Job, ApiError> {
    if reports::begin(&mut *db.acquire().await?, &job.job_id, &job.report_type).await? {
        let report = worker
            .compute(format!("{}:{}", job.job_id, job.report_type))
            .await
            .map_err(ApiError::Internal)?;
        let mut tx = db.begin().await?;
        let first = reports::complete(&mut tx, &job.job_id, &report).await?;
        tx.commit().await?;
        if first {
            effects::completed(effects::REPORT, "completed");
        }
    }
    reports::find(&mut *db.acquire().await?, &job.job_id).await
}

async fn end_interrupted(db: Db) -> Result<(), sqlx::Error> {
    db.wait_ready().await;
    reports::end_interrupted(&mut *db.acquire().await?).await
}
