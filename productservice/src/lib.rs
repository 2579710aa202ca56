//! S3, fan-out: a change of a product reaches searchservice, cacheservice and analyticsservice.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `PUT /products/{id}` → 200 when all three have done their work, `POST /products`, `GET /products`, `GET /products/{id}` | `PUT /products/{id}` → 200 at once, the same others |
//! | calls | searchservice `/reindex`, cacheservice `/invalidate_cache`, analyticsservice `/log_update`, one after the other (or at once, see [`Settings`]) | - |
//! | publishes | - | `ProductUpdated` to a fanout exchange |
//! | stores | products, each with a version that only grows | the same |

use common::About;
use sqlx::migrate::Migrator;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
pub mod products;
#[cfg(feature = "sync")]
pub mod sync;

/// How the receivers are called in sync mode. In async mode these settings have no effect: the bindings at the
/// broker decide which receivers get the event, all at once.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Settings {
    /// Sync mode: the receivers are called one after the other, as the contract has it, or all at once
    #[arg(long, env, default_value = "sequential")]
    pub fanout_calls: Calls,
    /// Sync mode: how many receivers are called, in the order search, cache, analytics (async mode: bindings at the broker)
    #[arg(long, env, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub fanout_width: u8,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Calls {
    Sequential,
    Concurrent,
}

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Owns the products; a change reaches three services",
    scenarios: &["S3"],
    effects: &[],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
