//! S3, receiver: a cache of the products in the memory of this process.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /invalidate_cache`, `GET /cache/products/{id}` | `GET /cache/products/{id}` |
//! | consumes | - | `ProductUpdated` |
//! | stores | nothing durable | nothing durable |

use common::{About, effects};

pub mod cache;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
#[cfg(feature = "sync")]
pub mod sync;

pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Keeps the products in memory",
    scenarios: &["S3"],
    effects: &[effects::CACHE],
    migrations: None,
    modes: common::modes!(),
};
