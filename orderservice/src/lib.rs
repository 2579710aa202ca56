//! S5, a saga: 1. the order is pending, 2. stock is reserved, 3. the payment fails, 4. the stock is released, 5. the order
//! has failed. With `SAGA_PAYMENT_FAILURE_RATE` below 1 some payments succeed: the stock is sold, the order completed.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /create_order` → 400 (or 201) when the saga has ended, `GET /orders`, `GET /orders/{id}` | `POST /create_order` → 202 at once, the same lists |
//! | calls | inventoryservice `/reserve_stock`, `/compensate_stock`, `/commit_stock`; paymentservice `/process_payment_fail`, `/pay_order`, `/cancel_payment` | - |
//! | publishes | - | `OrderCreated`, `OrderCancelled` |
//! | consumes | - | `StockRejected`, `PaymentFailed`, `PaymentSucceeded` |
//! | stores | orders; the row is the log of its saga | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
pub mod orders;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Takes orders; each is a saga over stock and payment",
    scenarios: &["S5"],
    effects: &[effects::ORDER],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
