//! S3, fan-out: a change of a product is told to searchservice, cacheservice and analyticsservice.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `PUT /products/{id}` → 200 when all three have done their work, `POST /products`, `GET /products`, `GET /products/{id}` | `PUT /products/{id}` → 200 at once, the same others |
//! | calls | searchservice `/reindex`, cacheservice `/invalidate_cache`, analyticsservice `/log_update`, one after the other | - |
//! | publishes | - | `ProductUpdated` to a fanout exchange |
//! | stores | products, each with a version that only grows | the same |

use common::About;
use sqlx::migrate::Migrator;
#[cfg(feature = "async")]
pub mod messaging;
pub mod products;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Owns the products; a change is told to three services",
    scenarios: &["S3"],
    effects: &[],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
