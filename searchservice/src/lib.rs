//! S3, receiver: the searchable index of the products (PostgreSQL full-text search).
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /reindex`, `GET /search` | `GET /search` |
//! | consumes | - | `ProductUpdated` |
//! | stores | the index, one row a product with the version it shows | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
pub mod index;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Keeps a searchable index of the products",
    scenarios: &["S3"],
    effects: &[effects::SEARCH],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
