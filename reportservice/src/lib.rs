//! S4, processor-bound work: a report is 10 s of chained SHA-256, on a bounded pool of threads in both modes.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /generate_report` → 200 when it is computed, `GET /jobs/{id}` | `POST /generate_report` → 202 at once, `GET /jobs/{id}` |
//! | publishes, consumes | - | `GenerateReportJob` |
//! | stores | jobs | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
pub mod hashing;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
pub mod reports;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Computes reports: 10 s of chained SHA-256",
    scenarios: &["S4"],
    effects: &[effects::REPORT],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
