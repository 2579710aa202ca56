//! Faults that a student switches on in campus-inventory: each reservation is delayed, or fails. They are the process's own: a
//! restart ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::ApiError;
use common::error::Problems;
use common::web;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest delay of a reservation.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(60);

/// Cheap to clone; the clones share the faults.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    shared: Arc<Switches>,
}

#[derive(Default)]
struct Switches {
    delay_us: AtomicU64,
    fail: AtomicBool,
}

impl Faults {
    /// Returns after the delay, which holds no connection and delays no other request or event.
    ///
    /// # Errors
    /// While reservations fail.
    pub(crate) async fn pass(&self) -> Result<(), ApiError> {
        let delay = Duration::from_micros(self.shared.delay_us.load(Ordering::Relaxed));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let fails = self.shared.fail.load(Ordering::Relaxed);
        if fails { Err(ApiError::Injected("Injected failure")) } else { Ok(()) }
    }

    pub(crate) fn end(&self) {
        self.shared.delay_us.store(0, Ordering::Relaxed);
        self.shared.fail.store(false, Ordering::Relaxed);
    }

    pub(crate) fn routes(&self) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(delay)).routes(routes!(fail)).with_state(self.clone())
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Delay {
    #[garde(range(min = 0.0, max = MAX_DELAY.as_secs_f64()))]
    #[schema(minimum = 0, maximum = 60)]
    seconds: f64,
}

#[derive(Serialize, ToSchema)]
struct Delayed {
    delay_seconds: f64,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Fail {
    #[garde(skip)]
    enabled: bool,
}

#[derive(Serialize, ToSchema)]
struct Failing {
    fail_enabled: bool,
}

/// Delay each reservation
#[utoipa::path(post, path = "/admin/delay", request_body = Delay, responses((status = 200, body = Delayed), Problems))]
async fn delay(
    State(faults): State<Faults>,
    web::Json(Delay { seconds }): web::Json<Delay>,
) -> Json<Delayed> {
    faults.shared.delay_us.store((seconds * 1e6) as u64, Ordering::Relaxed);
    Json(Delayed { delay_seconds: seconds })
}

/// Let each reservation fail
#[utoipa::path(post, path = "/admin/fail", request_body = Fail, responses((status = 200, body = Failing), Problems))]
async fn fail(State(faults): State<Faults>, web::Json(Fail { enabled }): web::Json<Fail>) -> Json<Failing> {
    faults.shared.fail.store(enabled, Ordering::Relaxed);
    Json(Failing { fail_enabled: enabled })
}
