//! S6 in async mode: a click is answered when the broker has confirmed it, with no database in the way; a consumer stores
//! them in batches. S3: a product was updated. Twin: `sync.rs` stores before it answers.

use axum::extract::State;
use common::api::Done;
use common::bus::{Bus, Consumers, HandlerError, Incoming, Outcome, consumer, transaction};
use common::error::Problems;
use common::events::{
    ANALYTICS_PRODUCT_UPDATES_QUEUE, BatchedClick, CLICK_TRACKED_QUEUE, ClickTracked, Clicks, ProductUpdated,
};
use common::web::Json;
use common::{ApiError, Context, Db, Deps, Service, Tx, effects, failpoint};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Settings;
use crate::analytics::{self, NewClick};
use crate::batching::ClickSink;
use crate::batching::publishing::publish;

/// Messages that are handled together.
const BATCH: usize = 200;
/// Clicks that are stored together: a batch of packs has many more.
const CHUNK: usize = 1000;

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let db = deps.db();
    let (sink, worker) = ClickSink::new(settings.click_packing, deps.bus.clone(), BatchedClick::weight);
    let routes = OpenApiRouter::new().routes(routes!(track_click)).with_state(sink);
    let service = Service::new(routes.merge(analytics::routes(deps.db())))
        .publishes::<ClickTracked>()
        .needs_broker()
        .consumes(
            Consumers::of(db.clone()).with(consumer(CLICK_TRACKED_QUEUE, store_clicks).batch(BATCH)).with(
                transaction(&db, ANALYTICS_PRODUCT_UPDATES_QUEUE, log_update)
                    .delay(settings.receiver.delay()),
            ),
        );
    let Some(worker) = worker else { return service };
    let bus = deps.bus.clone();
    service.worker("click batcher", |stop| worker.run(stop, move |batch| publish(bus.clone(), batch)))
}

/// Track a click; the answer means that the broker has it
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(sink): State<ClickSink<Bus, BatchedClick>>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Done>, ApiError> {
    let click = click.tracked();
    match sink {
        ClickSink::Direct(bus) => bus.publish(&click).await?,
        ClickSink::Batched(batcher) => {
            batcher.send(BatchedClick { context: Context::current(), click }).await?;
        }
    }
    Ok(axum::Json(Done { status: "tracked".into() }))
}

/// Keyed by the event's id: a click that is stored stays as it is, and what a batch that failed has left is not stored again.
/// A click whose id is stored with other contents is set aside.
async fn store_clicks(db: Db, messages: Vec<Incoming<Clicks>>) -> Result<Vec<Outcome>, HandlerError> {
    let clicks: Vec<Arrived<'_>> =
        messages.iter().enumerate().flat_map(|(place, message)| arrived(place, message)).collect();
    let mut handled = vec![Outcome::Duplicate; messages.len()];
    let (mut connection, mut again) = (db.acquire().await?, Vec::new());
    for (n, chunk) in clicks.chunks(CHUNK).enumerate() {
        if n > 0 {
            failpoint::pass(failpoint::Failpoint::MidBatch);
        }
        let events: Vec<&ClickTracked> = chunk.iter().map(|arrived| arrived.click).collect();
        let mut stored = analytics::store(&mut connection, &events).await?;
        for Arrived { place, context, click } in chunk {
            if stored.remove(&click.event_id) {
                effects::completed_in(effects::CLICK, context, "stored");
                handled[*place] = Outcome::Applied;
            } else {
                again.push(*click);
            }
        }
    }
    if !again.is_empty() && analytics::differ(&mut connection, &again).await? {
        return Err(ApiError::Conflict("a click with this id is stored with other contents".into()).into());
    }
    Ok(handled)
}

/// A click, its workflow, and which message of the batch it came in.
struct Arrived<'a> {
    place: usize,
    context: &'a Context,
    click: &'a ClickTracked,
}

fn arrived(place: usize, message: &Incoming<Clicks>) -> impl Iterator<Item = Arrived<'_>> {
    let (one, batch) = match &message.event {
        Clicks::One(click) => (Some(Arrived { place, context: &message.context, click }), &[][..]),
        Clicks::Batch(batch) => (None, &batch[..]),
    };
    let batched = batch.iter().map(move |BatchedClick { context, click }| Arrived { place, context, click });
    one.into_iter().chain(batched)
}

/// Keyed by the product's version: each is recorded once, the same one with other contents is set aside.
async fn log_update(_: Db, tx: &mut Tx, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    let first = analytics::record(tx, &(&product.event).into()).await?;
    Ok(if first { Outcome::Completed(effects::ANALYTICS, "recorded") } else { Outcome::Duplicate })
}
