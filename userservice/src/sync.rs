//! S1 in sync mode: `POST /register` answers 201 when emailservice has sent the mail.
//! Twin: `messaging.rs` answers 202 at once and leaves an event.

use axum::extract::State;
use axum::http::StatusCode;
use common::api::SendWelcomeEmail;
use common::client::Http;
use common::error::Problems;
use common::idempotency::{Claim, IdempotencyKey};
use common::web::{Json, StoredResponse};
use common::{ApiError, Db, Deps, Service};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::users::{self, NewUser, Registered};

#[derive(Clone)]
struct App {
    db: Db,
    http: Http,
}

pub fn service(deps: &Deps) -> Service {
    let app = App { db: deps.db(), http: deps.http.clone() };
    Service::new(
        OpenApiRouter::new().routes(routes!(register)).with_state(app).merge(users::routes(deps.db())),
    )
}

/// Register a user; the answer waits for the welcome e-mail
#[utoipa::path(post, path = "/register", request_body = NewUser, params(IdempotencyKey),
    responses((status = 201, description = "Registered; `warnings` if the e-mail failed", body = Registered), Problems))]
async fn register(
    State(app): State<App>,
    key: IdempotencyKey,
    Json(new): Json<NewUser>,
) -> Result<StoredResponse, ApiError> {
    let mut tx = app.db.begin().await?;
    let (user, guard) = match key.claim(&mut tx, "register", &new).await? {
        Claim::Replayed(answer) => return Ok(answer),
        Claim::Resumed(guard, subject) => (users::find(&mut tx, subject.id()?).await?, guard),
        Claim::New(guard) => {
            let user = users::insert(&mut tx, &new.email).await?;
            guard.begun(&mut tx, user.id).await?;
            (user, guard)
        }
    };
    tx.commit().await?;

    let mail = SendWelcomeEmail { email: user.email.clone(), user_id: user.id };
    let body = match app.http.call(&mail).await {
        Ok(_) => Registered::of(user, "User registered, welcome e-mail sent"),
        Err(error) => {
            tracing::warn!(%error, user_id = user.id, "user is registered without a welcome e-mail");
            let warnings = vec!["the welcome e-mail could not be sent"];
            Registered { warnings, ..Registered::of(user, "User registered") }
        }
    };
    let answer = StoredResponse::new(StatusCode::CREATED, body)?;
    guard.responded(&app.db, &answer).await?;
    Ok(answer)
}
