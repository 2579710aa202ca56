//! S5, the stock: reserved for an order, then released or sold. Every step is keyed by the order, so that it counts once.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /reserve_stock`, `POST /compensate_stock`, `POST /commit_stock`, `GET /inventory`, `GET /inventory/{id}`, `POST /reset_stock` | the lists and `POST /reset_stock` |
//! | publishes | - | `StockReserved`, `StockRejected` |
//! | consumes | - | `OrderCreated`, `PaymentFailed`, `PaymentSucceeded`, `OrderCancelled` |
//! | stores | stock, reservations | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
pub mod stock;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Owns the stock and what is reserved of it",
    scenarios: &["S5"],
    effects: &[effects::STOCK],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
