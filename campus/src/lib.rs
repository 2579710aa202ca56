//! The campus lab: place an order, reserve stock, notify. Three services run one domain in three stacks; what differs between
//! the stacks is how the services communicate: `diff campus/src/rabbitmq.rs campus/src/kafka.rs`.
//!
//! | | `rest` | `rabbitmq` | `kafka` | `orders003` |
//! |---|---|---|---|---|
//! | campus-order | `POST /order` → 201 when the order has ended | → 202 at once | → 201 at once | → 201 at once |
//! | campus-inventory | `POST /reserve`, `POST /release` | consumes `order.placed` | consumes `order-events` | as `rabbitmq` |
//! | campus-notification | `POST /send` | consumes `inventory.reserved` | - | as `rabbitmq` |
//! | campus-analytics | - | - | consumes `order-events`, `inventory-events` | - |
//!
//! `orders003` is the older version of the lab: other names, other fields, queues without arguments.

#[cfg(any(feature = "async", feature = "stream"))]
pub mod events;
mod faults;
#[cfg(feature = "stream")]
pub mod figures;
#[cfg(feature = "stream")]
pub mod kafka;
pub mod notifications;
pub mod orders;
mod stock;

#[cfg(feature = "async")]
pub mod orders003;
#[cfg(feature = "async")]
pub mod rabbitmq;
#[cfg(feature = "sync")]
pub mod rest;

use std::time::Duration;

use axum::extract::State;
use common::error::Problems;
use common::web::OptionalJson;
use common::{About, ApiError, Db, Deps, Mode};
use contract::Effect;
use contract::campus::{Profile, Service, effects};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};
use utoipa::ToSchema;

/// Units in one order.
pub(crate) const MAX_QUANTITY: i64 = 1_000_000;
/// Characters of an item, of the id of an order in a message, and the like.
pub(crate) const MAX_TEXT: usize = 100;

/// Settings of all services.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// In async mode: 003 for the names and fields of the older lab
    #[arg(long, env = contract::campus::PROFILE)]
    pub profile: Option<Profile>,
    /// In sync mode: where campus-inventory is
    #[arg(long, env, default_value = "http://inventory:8000", value_parser = common::config::http_url)]
    pub inventory_url: String,
    /// In sync mode: where campus-notification is
    #[arg(long, env, default_value = "http://notification:8000", value_parser = common::config::http_url)]
    pub notification_url: String,
    /// In sync mode: seconds that one call may take
    #[arg(long, env = contract::campus::REQUEST_TIMEOUT, default_value = "5", value_parser = seconds)]
    pub request_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    let valid = seconds > 0.0 && seconds <= 3600.0;
    if valid { Ok(Duration::from_secs_f64(seconds)) } else { Err("must be above 0 and at most 3600".into()) }
}

const fn about(
    service: Service,
    description: &'static str,
    effects: &'static [Effect],
    migrations: &'static Migrator,
    modes: &'static [Mode],
) -> About {
    About {
        name: service.program(),
        version: env!("CARGO_PKG_VERSION"),
        description,
        scenarios: &[],
        effects,
        migrations: Some(migrations),
        modes,
    }
}

const MODES: &[Mode] = &[
    #[cfg(feature = "sync")]
    Mode::Sync,
    #[cfg(feature = "async")]
    Mode::Async,
    #[cfg(feature = "stream")]
    Mode::Stream,
];
/// Of a service that the stack `kafka` does not have.
const MODES_WITHOUT_STREAM: &[Mode] = &[
    #[cfg(feature = "sync")]
    Mode::Sync,
    #[cfg(feature = "async")]
    Mode::Async,
];

static ORDER_MIGRATIONS: Migrator = sqlx::migrate!("migrations/order");
static INVENTORY_MIGRATIONS: Migrator = sqlx::migrate!("migrations/inventory");
#[cfg(feature = "stream")]
static ANALYTICS_MIGRATIONS: Migrator = sqlx::migrate!("migrations/analytics");
static NOTIFICATION_MIGRATIONS: Migrator = sqlx::migrate!("migrations/notification");

pub const ORDER: About = about(Service::Order, "Takes orders", &[effects::ORDER], &ORDER_MIGRATIONS, MODES);
pub const INVENTORY: About =
    about(Service::Inventory, "Reserves stock for orders", &[], &INVENTORY_MIGRATIONS, MODES);
pub const NOTIFICATION: About = about(
    Service::Notification,
    "Notifies the customers of reserved orders",
    &[effects::NOTIFICATION],
    &NOTIFICATION_MIGRATIONS,
    MODES_WITHOUT_STREAM,
);

#[cfg(feature = "stream")]
pub const ANALYTICS: About =
    about(Service::Analytics, "Counts orders and their ends", &[], &ANALYTICS_MIGRATIONS, &[Mode::Stream]);

/// `main` of each service: the stack's wiring of it.
macro_rules! in_stacks {
    ($($service:ident: $($kafka:ident)?;)*) => {
        $(pub fn $service(mode: Mode, deps: &Deps, settings: &Settings) -> common::Service {
            match mode {
                #[cfg(feature = "sync")]
                Mode::Sync => rest::$service(deps, settings),
                #[cfg(feature = "async")]
                Mode::Async => match settings.profile {
                    None => rabbitmq::$service(deps),
                    Some(Profile::Orders003) => orders003::$service(deps),
                },
                $(#[cfg(feature = "stream")]
                Mode::Stream => kafka::$kafka(deps),)?
                // With all features a service may have a stack of every mode.
                #[allow(unreachable_patterns)]
                other => unreachable!("built without {other}"),
            }
        })*
    };
}
in_stacks! {
    order: order;
    inventory: inventory;
    notification: ;
}

#[cfg(feature = "stream")]
pub fn analytics(mode: Mode, deps: &Deps, _: &Settings) -> common::Service {
    match mode {
        Mode::Stream => kafka::analytics(deps),
        other => unreachable!("no stack of mode {other} has analytics"),
    }
}

/// The newest rows of a list.
#[derive(Clone, Copy, Debug, Deserialize, Validate, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Newest {
    /// 1 to 10000
    #[serde(default = "Newest::all")]
    #[garde(range(min = 1, max = 10_000))]
    #[param(minimum = 1, maximum = 10_000, default = 10_000)]
    limit: i64,
}

impl Newest {
    fn all() -> i64 {
        10_000
    }
}

/// A body without fields.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// What `POST /admin/reset` answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reset {
    #[schema(example = "reset")]
    status: &'static str,
}

/// A service without faults, whose reset deletes its rows.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) db: Db,
    pub(crate) tables: &'static [&'static str],
}

/// Bring this service back to its beginning; for an idle stack
#[utoipa::path(post, path = "/admin/reset", request_body = Option<Empty>,
    responses((status = 200, body = Reset), Problems))]
pub(crate) async fn reset(
    State(rows): State<Rows>,
    OptionalJson(Empty {}): OptionalJson<Empty>,
) -> Result<axum::Json<Reset>, ApiError> {
    let mut tx = rows.db.begin().await?;
    forget(&mut tx, rows.tables).await?;
    tx.commit().await?;
    Ok(axum::Json(Reset { status: "reset" }))
}

/// Deletes the rows of these tables, and all memory of messages.
pub(crate) async fn forget(tx: &mut PgConnection, tables: &[&str]) -> Result<(), sqlx::Error> {
    for table in tables.iter().chain(&["outbox", "inbox"]) {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *tx).await?;
    }
    Ok(())
}
