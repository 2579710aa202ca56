//! S1, a non-critical task: register a user, have a welcome e-mail sent.
//!
//! | | sync | async |
//! |---|---|---|
//! | serves | `POST /register` → 201 when the mail is sent, `GET /users`, `GET /users/{id}` | `POST /register` → 202 at once, the same lists |
//! | calls | emailservice `/send_welcome_email` | - |
//! | publishes | - | `UserRegistered` |
//! | stores | users | users |

use common::About;
use sqlx::migrate::Migrator;

#[cfg(any(feature = "async", feature = "stream"))]
pub mod messaging;
#[cfg(feature = "sync")]
pub mod sync;
pub mod users;

static MIGRATIONS: Migrator = sqlx::migrate!();

pub const ABOUT: About = About {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    description: "Registers users; each gets a welcome e-mail",
    scenarios: &["S1"],
    effects: &[],
    migrations: Some(&MIGRATIONS),
    modes: common::modes!(),
};
