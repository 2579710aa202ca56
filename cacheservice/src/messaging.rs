//! S3 in async mode: a product was updated; the cache follows.
//! Twin: `sync.rs` is called by productservice, which waits.

use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer};
use common::events::{CACHE_PRODUCT_UPDATES_QUEUE, ProductUpdated};
use common::fanout::{ReceiverSettings, other_contents};
use common::{Deps, Service, effects};
use moka::future::Cache;

use crate::cache::{self, Applied, Products};

/// Messages that are remembered: far more than are delivered between two deliveries of the same.
const SEEN: u64 = 100_000;
/// Events that are acknowledged together.
const BATCH: usize = 64;

#[derive(Clone)]
struct App {
    products: Products,
    /// The inbox, as long as what it guards.
    seen: Cache<String, ()>,
}

pub fn service(_: &Deps, settings: &ReceiverSettings) -> Service {
    let app = App { products: Products::new(), seen: Cache::new(SEEN) };
    let consumers = Consumers::of(app.clone())
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, invalidate_cache).delay(settings.delay()).batch(BATCH));
    Service::new(cache::routes(app.products)).consumes(consumers)
}

/// Keyed by the product's version: an older one, and the same one again, change nothing; the same one with other contents is
/// set aside.
async fn invalidate_cache(app: App, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    if !app.seen.entry_by_ref(&product.message_id).or_insert(()).await.is_fresh() {
        return Ok(Outcome::Duplicate);
    }
    let change = (&product.event).into();
    match app.products.apply(&change).await {
        Applied::Now => effects::completed(effects::CACHE, "cached"),
        Applied::Outdated => effects::completed(effects::CACHE, "outdated"),
        Applied::Before => return Ok(Outcome::Duplicate),
        Applied::Other => {
            // It is not applied: redriven from the dead-letter queue it must not be taken for a duplicate.
            app.seen.invalidate(&product.message_id).await;
            return Err(other_contents(&change).into());
        }
    }
    Ok(Outcome::Applied)
}
