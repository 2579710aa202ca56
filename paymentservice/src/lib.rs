//! S2, a long-running process: take a payment (2 s). And the step of S5 that fails.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /process_payment` → 200 after 2 s, `POST /process_payment_fail` → 400, `GET /payments/{id}`; for orderservice `POST /pay_order`, `POST /cancel_payment` | `POST /process_payment` → 202 at once, `POST /process_payment_fail` → 400, `GET /payments/{id}` |
//! | publishes | - | `PaymentInitiated`, `PaymentCompleted`, `PaymentFailed`, `PaymentSucceeded` |
//! | consumes | - | `PaymentInitiated`, `PaymentCompleted`, `StockReserved`, `OrderCancelled` |
//! | stores | payments and their audit | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
pub mod payments;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Takes payments; one takes 2 s",
    scenarios: &["S2", "S5"],
    effects: &[effects::PAYMENT],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
