//! S3 in async mode: a product was updated; the cache follows.
//! Twin: `sync.rs` is called by productservice, which waits.

use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::events::{CACHE_PRODUCT_UPDATES_QUEUE, ProductUpdated};
use common::{Deps, Service, effects};

use crate::cache::{self, Applied, Products};

#[derive(Clone)]
struct App {
    products: Products,
}

pub fn service(_: &Deps) -> Service {
    let app = App { products: Products::new() };
    let consumers = Consumers::of(app.clone()).on(CACHE_PRODUCT_UPDATES_QUEUE, invalidate_cache);
    Service::new(cache::routes(app.products)).consumes(consumers)
}

/// Keyed by the product's version: an older one, and the same one again, change nothing.
async fn invalidate_cache(app: App, product: Incoming<ProductUpdated>) -> Result<Handled, HandlerError> {
    match app.products.apply(&(&product.event).into()).await {
        Applied::Now => effects::CACHE.completed("cached"),
        Applied::Outdated => effects::CACHE.completed("outdated"),
        Applied::Before => return Ok(Handled::Duplicate),
    }
    Ok(Handled::Applied)
}
