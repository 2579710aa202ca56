//! S1 in async mode: a user was registered; the mail is sent in the background.
//! Twin: `sync.rs` is called by userservice, which waits.

use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::{Db, Deps, Service, effects, inbox};

use crate::emails::{self, MailServer, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    mail: MailServer,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), mail: MailServer::new(settings) };
    let consumers = Consumers::of(app).on(USER_REGISTERED_QUEUE, send_welcome_email);
    Service::new(emails::routes(deps.db())).consumes(consumers)
}

/// Keyed by the user: a second delivery finds that the mail was sent.
async fn send_welcome_email(app: App, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
    if emails::was_sent(&app.db, user.user_id).await? {
        return Ok(Handled::Duplicate);
    }
    app.mail.send().await;
    let Some(mut tx) = inbox::begin(&app.db, &user).await? else { return Ok(Handled::Duplicate) };
    let first = emails::record(&mut tx, user.user_id, &user.email).await?;
    tx.commit().await?;
    if !first {
        return Ok(Handled::Duplicate);
    }
    effects::EMAIL.completed("sent");
    Ok(Handled::Applied)
}
