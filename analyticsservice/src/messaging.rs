//! S6 in async mode: a click is answered when the broker has confirmed it, with no database in the way; a consumer stores
//! them in batches. S3: a product was updated. Twin: `sync.rs` stores before it answers.

use axum::extract::State;
use common::api::Done;
use common::bus::{Bus, Consumers, Handled, HandlerError, Incoming, Message, Outcome};
use common::context::now_us;
use common::error::Problems;
use common::events::{
    self, ANALYTICS_PRODUCT_UPDATES_QUEUE, CLICK_TRACKED_QUEUE, ClickTracked, Clicks, Event, PackedClick,
    ProductUpdated,
};
use common::pack::{Packer, alike};
use common::web::Json;
use common::{ApiError, Context, Db, Deps, Service, Tx, effects, failpoint};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::analytics::{self, NewClick};
use crate::{PACK, Packing, Settings};

/// Messages that are handled together.
const BATCH: usize = 200;
/// Clicks that are stored together: a batch of packs has many more.
const CHUNK: usize = 1000;

/// How a click gets to the broker.
#[derive(Clone)]
enum Way {
    Alone(Bus),
    Packed(Packer<PackedClick>),
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let (way, worker) = match settings.click_packing {
        Packing::Off => (Way::Alone(deps.bus.clone()), None),
        Packing::On => {
            let (packer, worker) = Packer::new(PACK, PackedClick::weight);
            (Way::Packed(packer), Some(worker))
        }
    };
    let routes = OpenApiRouter::new().routes(routes!(track_click)).with_state(way);
    let service = Service::new(routes.merge(analytics::routes(deps.db())))
        .publishes::<ClickTracked>()
        .needs_broker()
        .consumes(
            Consumers::of(deps.db()).on_batch(CLICK_TRACKED_QUEUE, BATCH, store_clicks).together_after(
                settings.receiver.delay(),
                &deps.db(),
                ANALYTICS_PRODUCT_UPDATES_QUEUE,
                log_update,
            ),
        );
    let Some(worker) = worker else { return service };
    let bus = deps.bus.clone();
    service.worker("click packer", |stop| worker.run(stop, move |pack| publish(bus.clone(), pack)))
}

/// Track a click; the answer means that the broker has it
#[utoipa::path(post, path = "/track_click", request_body = NewClick,
    responses((status = 200, body = Done), Problems))]
async fn track_click(
    State(way): State<Way>,
    Json(click): Json<NewClick>,
) -> Result<axum::Json<Done>, ApiError> {
    let click = click.tracked();
    match way {
        Way::Alone(bus) => bus.publish(&click).await?,
        Way::Packed(packer) => packer.send(PackedClick { context: Context::current(), click }).await?,
    }
    Ok(axum::Json(Done { status: "tracked".into() }))
}

/// One message and one confirm for all of them; one alone goes as without packing.
async fn publish(bus: Bus, pack: Vec<PackedClick>) -> Vec<Result<(), ApiError>> {
    let published = match &pack[..] {
        [PackedClick { context, click }] => context.clone().scope(bus.publish(click)).await,
        pack => publish_pack(&bus, pack).await,
    };
    alike(&published, pack.len())
}

/// In a workflow of its own: those of the clicks travel with them.
async fn publish_pack(bus: &Bus, pack: &[PackedClick]) -> Result<(), ApiError> {
    let message = Message {
        id: Uuid::now_v7().to_string(),
        event: ClickTracked::NAME.into(),
        exchange: "".into(),
        routing_key: CLICK_TRACKED_QUEUE.name.into(),
        context: Context::fresh(),
        published_us: now_us(),
        body: events::pack(pack)?,
        notes: Vec::new(),
    };
    bus.send(message).await.map_err(|error| ApiError::Unavailable(error.to_string().into()))
}

/// Keyed by the event's id: a click that is stored stays as it is, and what a batch that failed has left is not stored again.
/// A click whose id is stored with other contents is set aside.
async fn store_clicks(db: Db, messages: Vec<Incoming<Clicks>>) -> Result<Vec<Handled>, HandlerError> {
    let clicks: Vec<Arrived<'_>> =
        messages.iter().enumerate().flat_map(|(place, message)| arrived(place, message)).collect();
    let mut handled = vec![Handled::Duplicate; messages.len()];
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
                handled[*place] = Handled::Applied;
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
    let (one, pack) = match &message.event {
        Clicks::One(click) => (Some(Arrived { place, context: &message.context, click }), &[][..]),
        Clicks::Pack(pack) => (None, &pack[..]),
    };
    let packed = pack.iter().map(move |PackedClick { context, click }| Arrived { place, context, click });
    one.into_iter().chain(packed)
}

/// Keyed by the product's version: each is recorded once, the same one with other contents is set aside.
async fn log_update(_: Db, tx: &mut Tx, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    let first = analytics::record(tx, &(&product.event).into()).await?;
    Ok(if first { Outcome::Completed(effects::ANALYTICS, "recorded") } else { Outcome::Duplicate })
}
