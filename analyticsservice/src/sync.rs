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

/// Longer than the database works on a statement: it does not answer at all, and other clicks may wait behind these.
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
    service.worker("click packer", |stop| worker.run(stop, move |pack| store_pack(db.clone(), pack)))
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
    effects::completed(effects::CLICK, "stored");
    Ok(axum::Json(Done { status: "tracked".into() }))
}

/// In one statement. Where the database refuses what is in it, each on its own: one must not cost its neighbours.
async fn store_pack(db: Db, pack: Vec<ClickTracked>) -> Vec<Result<(), ApiError>> {
    let together: Vec<&ClickTracked> = pack.iter().collect();
    match store(&db, &together).await {
        Err(error) if db::refuses_data(&error) && pack.len() > 1 => store_each(&db, &together).await,
        stored => alike(&stored.map_err(ApiError::from), pack.len()),
    }
}

async fn store_each(db: &Db, clicks: &[&ClickTracked]) -> Vec<Result<(), ApiError>> {
    let mut outcomes = Vec::with_capacity(clicks.len());
    for click in clicks {
        let stored = store(db, &[click]).await;
        let away = stored.as_ref().is_err_and(db::is_outage);
        outcomes.push(stored.map_err(ApiError::from));
        if away {
            let rest = clicks.len() - outcomes.len();
            outcomes.extend(alike(&Err(sqlx::Error::PoolClosed.into()), rest));
            break;
        }
    }
    outcomes
}

async fn store(db: &Db, clicks: &[&ClickTracked]) -> Result<(), sqlx::Error> {
    let mut connection = db.acquire().await?;
    let storing = async {
        match clicks {
            [click] => analytics::store_one(&mut connection, click).await,
            several => analytics::store(&mut connection, several).await.map(drop),
        }
    };
    tokio::time::timeout(STORE_TIMEOUT, storing).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
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
