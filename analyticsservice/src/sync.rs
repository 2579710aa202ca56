//! S6 in sync mode: a click is answered when PostgreSQL has it. S3: productservice calls and waits.
//! Twin: `messaging.rs` answers when the broker has the click, and stores in batches.

use std::time::Duration;

use axum::extract::State;
use common::api::{Call, Done, LogUpdate, ProductChange};
use common::error::Problems;
use common::events::ClickTracked;
use common::fanout::ReceiverSettings;
use common::pack::{Packer, alike};
use common::web::Json;
use common::{ApiError, Db, Deps, Service, db, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::analytics::{self, NewClick};
use crate::{PACK, Packing, Settings};

/// Longer than the database works on a statement. When it does not even say that it gave up, the other clicks must not wait.
const STORE_TIMEOUT: Duration = Duration::from_secs(12);

#[derive(Clone)]
struct App {
    db: Db,
    settings: ReceiverSettings,
}

/// How a click gets to the database.
#[derive(Clone)]
enum Way {
    Alone(Db),
    Packed(Packer<ClickTracked>),
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let (way, worker) = match settings.click_packing {
        Packing::Off => (Way::Alone(deps.db()), None),
        Packing::On => {
            let (packer, worker) = Packer::new(PACK, ClickTracked::weight);
            (Way::Packed(packer), Some(worker))
        }
    };
    let app = App { db: deps.db(), settings: settings.receiver };
    let clicks = OpenApiRouter::new().routes(routes!(track_click)).with_state(way);
    let updates = OpenApiRouter::new().routes(routes!(log_update)).with_state(app);
    let service = Service::new(clicks.merge(updates).merge(analytics::routes(deps.db())));
    let Some(worker) = worker else { return service };
    let db = deps.db();
    service.worker("click packer", |stop| worker.run(stop, move |pack| store_in_time(db.clone(), pack)))
}

/// Track a click; the answer means that it is stored
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(way): State<Way>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Done>, ApiError> {
    let click = click.tracked();
    match way {
        Way::Alone(db) => store(&db, &[&click]).await?,
        Way::Packed(packer) => packer.send(click).await?,
    }
    effects::CLICK.completed("stored");
    Ok(axum::Json(Done { status: "tracked".into() }))
}

async fn store(db: &Db, clicks: &[&ClickTracked]) -> Result<(), sqlx::Error> {
    let mut connection = db.acquire().await?;
    analytics::store(&mut connection, clicks).await?;
    Ok(())
}

async fn store_in_time(db: Db, pack: Vec<ClickTracked>) -> Vec<Result<(), ApiError>> {
    let clicks = pack.len();
    let stored = tokio::time::timeout(STORE_TIMEOUT, store_pack(&db, &pack)).await;
    stored
        .unwrap_or_else(|_| alike(&Err(ApiError::Unavailable("the database does not answer".into())), clicks))
}

/// In one statement. Where the database refuses what is in it, each on its own: one must not cost its neighbours.
async fn store_pack(db: &Db, pack: &[ClickTracked]) -> Vec<Result<(), ApiError>> {
    let together: Vec<&ClickTracked> = pack.iter().collect();
    match store(db, &together).await {
        Err(error) if db::refuses_data(&error) && pack.len() > 1 => {
            let mut outcomes = Vec::with_capacity(pack.len());
            for click in together {
                outcomes.push(store(db, &[click]).await.map_err(ApiError::from));
            }
            outcomes
        }
        stored => alike(&stored.map_err(ApiError::from), pack.len()),
    }
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
        effects::ANALYTICS.completed("recorded");
    }
    Ok(axum::Json(Done::ok()))
}
