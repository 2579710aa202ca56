//! S3 in async mode: a product was updated; the index follows.
//! Twin: `sync.rs` is called by productservice, which waits.

use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::events::{ProductUpdated, SEARCH_PRODUCT_UPDATES_QUEUE};
use common::fanout::ReceiverSettings;
use common::{Db, Deps, Service, effects, inbox};

use crate::index;

#[derive(Clone)]
struct App {
    db: Db,
    settings: ReceiverSettings,
}

pub fn service(deps: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { db: deps.db(), settings: *settings };
    let consumers = Consumers::of(app).on(SEARCH_PRODUCT_UPDATES_QUEUE, reindex);
    Service::new(index::routes(deps.db())).consumes(consumers)
}

/// Keyed by the product's version: an older one changes nothing.
async fn reindex(app: App, product: Incoming<ProductUpdated>) -> Result<Handled, HandlerError> {
    app.settings.take_time().await;
    let Some(mut tx) = inbox::begin(&app.db, &product).await? else { return Ok(Handled::Duplicate) };
    let applied = index::reindex(&mut tx, &(&product.event).into()).await?;
    tx.commit().await?;
    effects::SEARCH.completed(if applied { "indexed" } else { "outdated" });
    Ok(Handled::Applied)
}
