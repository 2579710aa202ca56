//! Events that are ready at the same time share a transaction, and one that cannot be applied costs the others nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
use common::config::NoSettings;
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::service::{Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::{Mode, Tx};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use super::{ABOUT, QUEUE};

const REFUSED: i64 = 7;
const PANICS: i64 = 8;

/// Each event waits at the door, until all are there.
#[derive(Clone)]
struct Work {
    arrived: Arc<AtomicUsize>,
    door: Arc<Semaphore>,
}

async fn arrive(work: Work, _: Incoming<UserRegistered>) -> Result<Option<Outcome>, HandlerError> {
    work.arrived.fetch_add(1, Ordering::Relaxed);
    drop(work.door.acquire().await.map_err(HandlerError::retry)?);
    Ok(None)
}

async fn serve(_: Work, tx: &mut Tx, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
    sqlx::query("INSERT INTO served VALUES ($1, pg_current_xact_id()::text)")
        .bind(user.user_id)
        .execute(&mut **tx)
        .await?;
    match user.user_id {
        REFUSED => Err(HandlerError::Reject(anyhow::anyhow!("on purpose"))),
        PANICS => panic!("on purpose"),
        _ => Ok(Outcome::Applied),
    }
}

/// Publishes these users, and lets them in when all have arrived.
async fn start(sandbox: &Sandbox, users: &[i64]) -> TestApp {
    let work = Work { arrived: Arc::default(), door: Arc::new(Semaphore::new(0)) };
    let consumed = work.clone();
    let build = |deps: Deps, NoSettings {}| {
        let consumers =
            Consumers::of(consumed).with(transaction(&deps.db(), USER_REGISTERED_QUEUE, serve).first(arrive));
        Service::new(OpenApiRouter::new()).consumes(consumers)
    };
    let app = sandbox.start(ABOUT, Mode::Async, &[], build).await;
    sqlx::query("CREATE TABLE served (id bigint, tx text)")
        .execute(&sandbox.pool().await)
        .await
        .expect("its own schema");
    for user in users {
        let event = UserRegistered { user_id: *user, email: "a@example.org".into() };
        sandbox.publish(&event, &format!("user-{user}")).await;
    }
    eventually("all have arrived", async || work.arrived.load(Ordering::Relaxed) == users.len()).await;
    work.door.add_permits(1000);
    app
}

/// Who was served, in order, and in how many transactions.
async fn served(sandbox: &Sandbox) -> (Vec<i64>, i64) {
    sqlx::query_as("SELECT coalesce(array_agg(id ORDER BY id), '{}'), count(DISTINCT tx) FROM served")
        .fetch_one(&sandbox.pool().await)
        .await
        .expect("the table is there")
}

#[tokio::test]
async fn those_that_are_ready_at_the_same_time_share_a_transaction() {
    let sandbox = Sandbox::new().await;
    let users: Vec<i64> = (101..=120).collect();
    let app = start(&sandbox, &users).await;
    eventually("all are served", async || served(&sandbox).await.0.len() == users.len()).await;
    app.stop().await;
    let (all, transactions) = served(&sandbox).await;
    assert_eq!(all, users);
    // The first one may have gone alone.
    assert!(transactions <= 3, "{transactions} transactions");
    sandbox.close().await;
}

#[tokio::test]
async fn one_that_cannot_be_applied_costs_its_neighbours_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &(1..=12).collect::<Vec<_>>()).await;
    let others: Vec<i64> = (1..=12).filter(|user| ![REFUSED, PANICS].contains(user)).collect();
    eventually("the others are served", async || served(&sandbox).await.0 == others).await;
    let dead = format!("{QUEUE}.dlq");
    eventually("one is set aside", async || sandbox.messages(&dead).await.len() == 1).await;
    app.stop().await;
    assert_eq!(served(&sandbox).await.0, others, "each once");
    let set_aside = &sandbox.events(&dead).await[0];
    assert_eq!(set_aside["user_id"], REFUSED);
    // The other one is tried again later.
    assert!(sandbox.messages(QUEUE).await.is_empty());
    sandbox.close().await;
}
