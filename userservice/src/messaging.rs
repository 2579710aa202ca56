//! S1 in async mode: `POST /register` answers 202 as soon as user and event are stored; emailservice hears of it.
//! Twin: `sync.rs` waits for emailservice and answers 201.

use axum::extract::State;
use axum::http::StatusCode;
use common::error::Problems;
use common::events::UserRegistered;
use common::idempotency::{Claim, IdempotencyKey};
use common::outbox::Outbox;
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::users::{self, NewUser, Registered};

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
}

pub fn service(deps: &Deps) -> Service {
    let app = App { db: deps.db(), outbox: deps.outbox() };
    Service::new(
        OpenApiRouter::new().routes(routes!(register)).with_state(app).merge(users::routes(deps.db())),
    )
    .publishes::<UserRegistered>()
}

/// Register a user; the welcome e-mail follows
#[utoipa::path(post, path = "/register", request_body = NewUser, params(IdempotencyKey),
    responses((status = 202, description = "Registered; the event is durably on its way", body = Registered), Problems))]
async fn register(
    State(app): State<App>,
    key: IdempotencyKey,
    Json(new): Json<NewUser>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let guard = match key.claim(&mut tx, "register", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, _) | Claim::New(guard) => guard,
    };
    let user = users::insert(&mut tx, &new.email).await?;
    app.outbox.add(&mut tx, &UserRegistered { user_id: user.id, email: user.email.clone() })?;

    let registered = Registered::of(user, "User registered, welcome e-mail follows");
    let body = Registered { event_published: Some(true), ..registered };
    let answer = StoredResponse::new(StatusCode::ACCEPTED, body)?;
    guard.responded_in(&mut tx, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}
