//! S1 in sync mode: userservice calls and waits until the mail is sent.
//! Twin: `messaging.rs` hears of the user from the queue.

use axum::extract::State;
use common::api::{Call, Done, SendWelcomeEmail};
use common::error::Problems;
use common::web::Json;
use common::{ApiError, Db, Deps, Service, effects};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::emails::{self, MailServer, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    mail: MailServer,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), mail: MailServer::new(settings) };
    let routes = OpenApiRouter::new().routes(routes!(send_welcome_email)).with_state(app);
    Service::new(routes.merge(emails::routes(deps.db())))
}

/// Send a user's welcome e-mail, once; another address of the same user is refused
#[utoipa::path(post, path = SendWelcomeEmail::PATH, request_body = SendWelcomeEmail,
    responses((status = 200, body = Done), Problems))]
async fn send_welcome_email(
    State(app): State<App>,
    Json(user): Json<SendWelcomeEmail>,
) -> Result<axum::Json<Done>, ApiError> {
    if !emails::was_sent(&app.db, user.user_id, &user.email).await? {
        app.mail.send().await;
        let mut tx = app.db.begin().await?;
        let first = emails::record(&mut tx, user.user_id, &user.email).await?;
        tx.commit().await?;
        if first {
            effects::completed(effects::EMAIL, "sent");
        }
    }
    Ok(axum::Json(Done::ok()))
}
