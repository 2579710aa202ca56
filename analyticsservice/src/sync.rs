//! S6 in sync mode: a click is answered when PostgreSQL has it. S3: productservice calls and waits.
//! Twin: `messaging.rs` answers when the broker has the click, and stores in batches.

use axum::extract::State;
use common::api::{Call, Done, LogUpdate, ProductChange};
use common::error::Problems;
use common::events::ClickTracked;
use common::fanout::ReceiverSettings;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Settings;
use crate::analytics::{self, NewClick};
use crate::batching::ClickSink;
use crate::batching::storing::{store, store_batch};

#[derive(Clone)]
struct App {
    db: Db,
    settings: ReceiverSettings,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let (sink, worker) = ClickSink::new(settings.click_packing, deps.db(), ClickTracked::weight);
    let app = App { db: deps.db(), settings: settings.receiver };
    let clicks = OpenApiRouter::new().routes(routes!(track_click)).with_state(sink);
    let updates = OpenApiRouter::new().routes(routes!(log_update)).with_state(app);
    let service = Service::new(clicks.merge(updates).merge(analytics::routes(deps.db())));
    let Some(worker) = worker else { return service };
    let db = deps.db();
    service.worker("click batcher", |stop| worker.run(stop, move |batch| store_batch(db.clone(), batch)))
}

/// Track a click; the answer means that it is stored
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(sink): State<ClickSink<Db, ClickTracked>>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Done>, ApiError> {
    let click = click.tracked();
    match sink {
        ClickSink::Direct(db) => store(&db, &[&click]).await?,
        ClickSink::Batched(batcher) => batcher.send(click).await?,
    }
    effects::completed(effects::CLICK, "stored");
    Ok(axum::Json(Done { status: "tracked".into() }))
}

/// Record a change of a product
#[utoipa::path(post, path = LogUpdate::PATH, request_body = ProductChange, responses((status = 200, body = Done), Problems))]
async fn log_update(
    State(app): State<App>,
    Json(change): Json<ProductChange>,
) -> Result<axum::Json<Done>, ApiError> {
    app.settings.take_time().await;
    let mut tx = app.db.begin().await?;
    let first = analytics::record(&mut tx, &change).await?;
    tx.commit().await?;
    if first {
        effects::completed(effects::ANALYTICS, "recorded");
    }
    Ok(axum::Json(Done::ok()))
}
