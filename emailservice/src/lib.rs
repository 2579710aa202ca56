//! S1, the slow part: send the welcome e-mail (500 ms).
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /send_welcome_email` → 200 when it is sent, `GET /emails` | `GET /emails` |
//! | consumes | - | `UserRegistered` |
//! | stores | e-mails sent, one a user | the same |

use common::{About, effects};
use sqlx::migrate::Migrator;
pub mod emails;
#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
#[cfg(feature = "sync")]
pub mod sync;

static MIGRATIONS: Migrator = sqlx::migrate!();
pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Sends the welcome e-mail; the sending takes 500 ms",
    scenarios: &["S1"],
    effects: &[effects::EMAIL],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
