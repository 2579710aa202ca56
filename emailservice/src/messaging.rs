//! S1 in async mode: a user was registered; the mail is sent in the background.
//! Twin: `sync.rs` is called by userservice, which waits.

use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::{Db, Deps, Service, Tx, effects};

use crate::emails::{self, MailServer, Settings};

#[derive(Clone)]
struct App {
    db: Db,
    mail: MailServer,
}

pub fn service(deps: &Deps, settings: &Settings) -> Service {
    let app = App { db: deps.db(), mail: MailServer::new(settings) };
    let consumers = Consumers::of(app)
        .with(transaction(&deps.db(), USER_REGISTERED_QUEUE, record_welcome_email).first(send_welcome_email));
    Service::new(emails::routes(deps.db())).consumes(consumers)
}

/// Keyed by the user: a second delivery finds that the mail was sent. Another address of the same user is set aside.
async fn send_welcome_email(
    app: App,
    user: Incoming<UserRegistered>,
) -> Result<Option<Outcome>, HandlerError> {
    if emails::was_sent(&app.db, user.user_id, &user.email).await? {
        return Ok(Some(Outcome::Duplicate));
    }
    app.mail.send().await;
    Ok(None)
}

async fn record_welcome_email(
    _: App,
    tx: &mut Tx,
    user: Incoming<UserRegistered>,
) -> Result<Outcome, HandlerError> {
    let first = emails::record(tx, user.user_id, &user.email).await?;
    Ok(if first { Outcome::Completed(effects::EMAIL, "sent") } else { Outcome::Duplicate })
}
