//! S3 in async mode: a product was updated; the index follows.
//! Twin: `sync.rs` is called by productservice, which waits.

use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::events::{ProductUpdated, SEARCH_PRODUCT_UPDATES_QUEUE};
use common::fanout::ReceiverSettings;
use common::{Deps, Service, Tx, effects};

use crate::index;

pub fn service(deps: &Deps, settings: &ReceiverSettings) -> Service {
    let consumers = Consumers::of(())
        .with(transaction(&deps.db(), SEARCH_PRODUCT_UPDATES_QUEUE, reindex).delay(settings.delay()));
    Service::new(index::routes(deps.db())).consumes(consumers)
}

/// Keyed by the product's version: an older one changes nothing, the same one with other contents is set aside.
async fn reindex(_: (), tx: &mut Tx, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    let applied = index::reindex(tx, &(&product.event).into()).await?;
    Ok(Outcome::Completed(effects::SEARCH, if applied { "indexed" } else { "outdated" }))
}
