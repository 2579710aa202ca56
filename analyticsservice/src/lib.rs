//! S6, high-throughput ingestion: track clicks. And a receiver of S3: record product updates.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /track_click` → 200 when it is stored, `POST /log_update`, `GET /clicks/count`, `GET /product_updates` | `POST /track_click` → 200 when the broker has it, the same lists |
//! | publishes | - | `ClickTracked`, straight to the broker: no database in the way |
//! | with `CLICK_PACKING=on` | clicks that wait at the same time are stored in one statement | they are published in one message |
//! | consumes | - | `ClickTracked` in batches, `ProductUpdated` |
//! | stores | clicks, product updates | the same |

use common::fanout::ReceiverSettings;
use common::{About, effects};
use sqlx::migrate::Migrator;

pub mod analytics;
mod batching;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
#[cfg(feature = "sync")]
pub mod sync;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub receiver: ReceiverSettings,
    /// Clicks that wait at the same time go together: into one statement (sync mode), into one message (async mode)
    #[arg(long, env, default_value = "off")]
    pub click_packing: Packing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Packing {
    On,
    Off,
}

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Counts clicks and records product updates",
    scenarios: &["S3", "S6"],
    effects: &[effects::ANALYTICS, effects::CLICK],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
