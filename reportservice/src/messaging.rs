//! S4 in async mode: `POST /generate_report` answers 202 at once; a worker computes the report from a queue.
//! Twin: `sync.rs` answers when the report is computed.

use axum::extract::State;
use axum::http::StatusCode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer};
use common::error::Problems;
use common::events::{GenerateReportJob, REPORT_JOBS_QUEUE};
use common::idempotency::{Claim, IdempotencyKey};
use common::outbox::Outbox;
use common::web::{OptionalJson, StoredResponse};
use common::{ApiError, Db, Deps, Service, effects, inbox};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::hashing::{Hashing, Settings};
use crate::reports::{self, Job, NewReport, Queued};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
    hashing: Hashing,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox(), hashing: Hashing::new(settings) };
    let routes = OpenApiRouter::new().routes(routes!(generate_report)).with_state(app.clone());
    // As many at once as there are threads: the others wait in the queue, where they can be seen.
    let consumers = Consumers::of(app)
        .with(consumer(REPORT_JOBS_QUEUE, compute_report).concurrency(settings.report_workers));
    Service::new(routes.merge(reports::routes(deps.db())))
        .publishes::<GenerateReportJob>()
        .consumes(consumers)
}

/// Accept a report; it is computed in the background
#[utoipa::path(post, path = "/generate_report", request_body = Option<NewReport>, params(IdempotencyKey),
    responses((status = 202, description = "Accepted; see `Location`", body = Queued), Problems))]
async fn generate_report(
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalJson(new): OptionalJson<NewReport>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let guard = match key.claim(&mut tx, "generate_report", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, _) | Claim::New(guard) => guard,
    };
    let job = reports::insert(&mut tx, &new).await?;
    let answer =
        StoredResponse::new(StatusCode::ACCEPTED, Queued::of(&job))?.at(format!("/jobs/{}", job.job_id));
    let Job { job_id, report_type, .. } = job;
    app.outbox.add(&mut tx, &GenerateReportJob { job_id, report_type })?;
    guard.responded_in(&mut tx, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Keyed by the job: one that is completed stays as it is; one that a crash cut off is computed anew. Another type than was
/// accepted is set aside.
async fn compute_report(app: App, job: Incoming<GenerateReportJob>) -> Result<Outcome, HandlerError> {
    let worker = app.hashing.worker().await.map_err(HandlerError::Retry)?;
    if !reports::begin(&mut *app.db.acquire().await?, &job.job_id, &job.report_type).await? {
        return Ok(Outcome::Duplicate);
    }
    let seed = format!("{}:{}", job.job_id, job.report_type);
    let report = worker.compute(seed).await.map_err(HandlerError::Retry)?;
    let Some(mut tx) = inbox::begin(&app.db, &job).await? else { return Ok(Outcome::Duplicate) };
    let first = reports::complete(&mut tx, &job.job_id, &report).await?;
    tx.commit().await?;
    if !first {
        return Ok(Outcome::Duplicate);
    }
    effects::completed(effects::REPORT, "completed");
    Ok(Outcome::Applied)
}
