//! S6 in async mode: a click is answered when the broker has confirmed it, with no database in the way; a consumer stores
//! them in batches. S3: a product was updated. Twin: `sync.rs` stores before it answers.

use axum::extract::State;
use common::api::Done;
use common::bus::{Bus, Consumers, Handled, HandlerError, Incoming};
use common::error::Problems;
use common::events::{ANALYTICS_PRODUCT_UPDATES_QUEUE, CLICK_TRACKED_QUEUE, ClickTracked, ProductUpdated};
use common::fanout::ReceiverSettings;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects, inbox};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::analytics::{self, NewClick};

/// Clicks that are stored together.
const BATCH: usize = 200;

#[derive(Clone)]
struct App {
    db: Db,
    bus: Bus,
    settings: ReceiverSettings,
}

pub fn service(deps: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { db: deps.db(), bus: deps.bus.clone(), settings: *settings };
    let routes = OpenApiRouter::new().routes(routes!(track_click)).with_state(app.clone());
    Service::new(routes.merge(analytics::routes(deps.db())))
        .publishes::<ClickTracked>()
        .needs_broker()
        .consumes(
            Consumers::of(app)
                .on_batch(CLICK_TRACKED_QUEUE, BATCH, store_clicks)
                .on(ANALYTICS_PRODUCT_UPDATES_QUEUE, log_update),
        )
}

/// Track a click; the answer means that the broker has it
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(app): State<App>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Value>, ApiError> {
    app.bus.publish(&click.tracked()).await?;
    Ok(axum::Json(json!({"status": "tracked"})))
}

/// Keyed by the event's id: a click that is stored stays as it is.
async fn store_clicks(app: App, clicks: Vec<Incoming<ClickTracked>>) -> Result<Vec<Handled>, HandlerError> {
    let events: Vec<&ClickTracked> = clicks.iter().map(|click| &click.event).collect();
    let mut connection = app.db.acquire().await?;
    let mut stored = analytics::store(&mut connection, &events).await?;
    let handled = clicks.iter().map(|click| {
        if !stored.remove(&click.event_id) {
            return Handled::Duplicate;
        }
        effects::CLICK.completed_in(&click.context, "stored");
        Handled::Applied
    });
    Ok(handled.collect())
}

/// Keyed by the product's version: each is recorded once.
async fn log_update(app: App, product: Incoming<ProductUpdated>) -> Result<Handled, HandlerError> {
    app.settings.take_time().await;
    let Some(mut tx) = inbox::begin(&app.db, &product).await? else { return Ok(Handled::Duplicate) };
    let first = analytics::record(&mut tx, &(&product.event).into()).await?;
    tx.commit().await?;
    if !first {
        return Ok(Handled::Duplicate);
    }
    effects::ANALYTICS.completed("recorded");
    Ok(Handled::Applied)
}
