//! The figures of campus-analytics: sets keyed by the order. A record that comes again, in whatever order, changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::bus::{HandlerError, Outcome};
use common::error::Problems;
use common::{ApiError, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::sync::{Mutex, watch};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The tables of the figures.
pub(crate) const TABLES: [&str; 3] = ["placed", "decided", "replays_due"];

/// What `GET /metrics` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub total_orders: i64,
    pub total_inventory_events: i64,
    /// Orders for which no stock could be reserved.
    pub failures: i64,
    pub orders_per_minute: f64,
    /// Of the inventory events, 0 to 1.
    pub failure_rate: f64,
    /// From the first to the last `timestamp` of what is counted.
    pub elapsed_seconds: f64,
}

/// Adds placed orders.
///
/// # Errors
/// As the database.
pub(crate) async fn add_placed(
    tx: &mut PgConnection,
    orders: &[(&str, Option<f64>)],
) -> Result<(), sqlx::Error> {
    let (ids, times): (Vec<&str>, Vec<Option<f64>>) = orders.iter().copied().unzip();
    let insert = sqlx::query(
        "INSERT INTO placed (order_id, first_at, last_at)
         SELECT id, min(at), max(at) FROM unnest($1::text[], $2::float8[]) AS new (id, at) GROUP BY id ORDER BY id
         ON CONFLICT (order_id) DO UPDATE SET
             first_at = least(placed.first_at, excluded.first_at),
             last_at = greatest(placed.last_at, excluded.last_at)",
    );
    insert.bind(ids).bind(times).execute(tx).await?;
    Ok(())
}

/// Adds decided orders: the order, whether it failed, and when.
///
/// # Errors
/// As the database.
pub(crate) async fn add_decided(
    tx: &mut PgConnection,
    orders: &[(&str, bool, Option<f64>)],
) -> Result<(), sqlx::Error> {
    let insert = sqlx::query(
        "INSERT INTO decided (order_id, failed, first_at, last_at)
         SELECT id, bool_or(failed), min(at), max(at)
         FROM unnest($1::text[], $2::bool[], $3::float8[]) AS new (id, failed, at) GROUP BY id ORDER BY id
         ON CONFLICT (order_id) DO UPDATE SET
             failed = decided.failed OR excluded.failed,
             first_at = least(decided.first_at, excluded.first_at),
             last_at = greatest(decided.last_at, excluded.last_at)",
    );
    let insert = insert.bind(orders.iter().map(|(id, ..)| *id).collect::<Vec<_>>());
    let insert = insert.bind(orders.iter().map(|(_, failed, _)| *failed).collect::<Vec<_>>());
    insert.bind(orders.iter().map(|(.., at)| *at).collect::<Vec<_>>()).execute(tx).await?;
    Ok(())
}

/// The figures of what is counted now.
///
/// # Errors
/// As the database.
pub(crate) async fn of(tx: &mut PgConnection) -> Result<Figures, sqlx::Error> {
    let select = sqlx::query_as(
        "SELECT (SELECT count(*) FROM placed), (SELECT count(*) FROM decided), (SELECT count(*) FROM decided WHERE failed),
                coalesce(max(last_at) - min(first_at), 0)
         FROM (SELECT first_at, last_at FROM placed UNION ALL SELECT first_at, last_at FROM decided) AS counted",
    );
    let (total_orders, total_inventory_events, failures, elapsed): (i64, i64, i64, f64) =
        select.fetch_one(tx).await?;
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    Ok(Figures {
        total_orders,
        total_inventory_events,
        failures,
        orders_per_minute: rounded(ratio(60.0 * total_orders as f64, elapsed), 2),
        failure_rate: rounded(ratio(failures as f64, total_inventory_events as f64), 4),
        elapsed_seconds: rounded(elapsed, 2),
    })
}

/// To so many digits after the point.
fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

/// Waits that a student switches on, before each record. They are the process's own: a restart ends them. The clones are one.
#[derive(Clone)]
pub(crate) struct Throttle {
    wait: Arc<watch::Sender<Duration>>,
}

/// The records of one topic, which wait one after the other.
#[derive(Clone)]
pub(crate) struct Turns {
    throttle: Throttle,
    turn: Arc<Mutex<()>>,
}

impl Throttle {
    pub(crate) fn new() -> Throttle {
        Throttle { wait: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// Of one more topic.
    pub(crate) fn turns(&self) -> Turns {
        Turns { throttle: self.clone(), turn: Arc::default() }
    }

    pub(crate) fn end(&self) {
        self.wait.send_replace(Duration::ZERO);
    }

    pub(crate) fn routes(&self) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(throttle)).with_state(self.clone())
    }
}

impl Turns {
    /// Returns after the wait, or when the wait changes.
    pub(crate) async fn pass(self) -> Result<Option<Outcome>, HandlerError> {
        let mut wait = self.throttle.wait.subscribe();
        if !wait.borrow().is_zero() {
            let _turn = self.turn.lock().await;
            let seconds = *wait.borrow_and_update();
            // The time is over, or there is another throttle.
            drop(tokio::time::timeout(seconds, wait.changed()).await);
        }
        Ok(None)
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[garde(range(min = 0.0, max = 60.0))]
    #[schema(minimum = 0, maximum = 60)]
    seconds: f64,
}

#[derive(Serialize, ToSchema)]
struct Throttled {
    throttle_seconds: f64,
}

/// Wait before each record; the records of each topic wait one after the other
#[utoipa::path(post, path = "/admin/throttle", request_body = Wait, responses((status = 200, body = Throttled), Problems))]
async fn throttle(
    State(throttle): State<Throttle>,
    web::Json(Wait { seconds }): web::Json<Wait>,
) -> Result<Json<Throttled>, ApiError> {
    throttle.wait.send_replace(Duration::from_secs_f64(seconds));
    Ok(Json(Throttled { throttle_seconds: seconds }))
}
