//! What the outbox does with events that cannot go, and with those behind them, shown on a tiny service with a real database
//! and a real broker.

#[path = "../bus_conformance/rabbitmq/own_broker.rs"]
mod own_broker;
#[path = "../bus_conformance/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::config::NoSettings;
use common::events::{
    Event, GenerateReportJob, OrderCreated, PaymentInitiated, StockRejected, UserRegistered,
};
use common::outbox::Outbox;
use common::service::{About, Deps, Service};
use common::testing::{Logs, Method, Sandbox, TestApp, eventually};
use common::{ApiError, Db, Mode};
use own_broker::OwnBroker;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use utoipa_axum::router::OpenApiRouter;

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    effects: &[],
    migrations: Some(&NO_MIGRATIONS),
    modes: &[Mode::Async],
};
const USERS: &str = "user_registered_queue";
const PAYMENTS: &str = "payment_initiated_queue";

/// A service that leaves events in its outbox.
struct Tiny {
    app: TestApp,
    db: Db,
    outbox: Outbox,
}

impl Tiny {
    async fn start(sandbox: &Sandbox, settings: &[&str]) -> Tiny {
        let mut parts = None;
        let build = |deps: Deps, NoSettings {}| {
            parts = Some((deps.db(), deps.outbox()));
            Service::new(OpenApiRouter::new())
                .publishes::<UserRegistered>()
                .publishes::<PaymentInitiated>()
                .publishes::<GenerateReportJob>()
                .publishes::<OrderCreated>()
                .publishes::<StockRejected>()
        };
        let app = sandbox.start(ABOUT, Mode::Async, settings, build).await;
        let (db, outbox) = parts.expect("the service was built");
        Tiny { app, db, outbox }
    }

    async fn announce<E: Event>(&self, event: &E) -> Result<(), ApiError> {
        let mut tx = self.db.begin().await?;
        self.outbox.add(&mut tx, event)?;
        tx.commit().await?;
        Ok(())
    }

    async fn register(&self, users: impl IntoIterator<Item = i64>) {
        for user in users {
            self.announce(&self::user(user)).await.expect("the outbox takes it");
        }
    }

    async fn pay(&self) {
        self.announce(&payment()).await.expect("the outbox takes it");
    }

    /// The gauge, which every service of this process sets.
    async fn waiting(&self, destination: &str) -> f64 {
        self.app.metric("outbox_waiting", &[&format!("destination=\"{destination}\"")]).await
    }
}

fn user(user_id: i64) -> UserRegistered {
    UserRegistered { user_id, email: "a@example.org".into() }
}

fn payment() -> PaymentInitiated {
    PaymentInitiated { payment_id: "pay_0123456789ab".into(), amount: 1.0, currency: "EUR".into() }
}

fn rejected(order_id: i64, reason: &str) -> StockRejected {
    StockRejected { order_id, reason: reason.into() }
}

async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn delete_queue(sandbox: &Sandbox, queue: &str) {
    sandbox.manage(Method::DELETE, &format!("queues/{}/{queue}", sandbox.vhost), Value::Null).await;
}

/// As its reader does it.
async fn make_queue(sandbox: &Sandbox, queue: &str) {
    let arguments = json!({"x-queue-type": "quorum", "x-delivery-limit": 100, "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
        "x-dead-letter-routing-key": format!("{queue}.dlq")});
    let body = json!({"durable": true, "arguments": arguments});
    sandbox.manage(Method::PUT, &format!("queues/{}/{queue}", sandbox.vhost), body).await;
}

/// From now on the queue holds this many messages and refuses more.
async fn limit_queue(sandbox: &Sandbox, queue: &str, most: u32) {
    let policy = json!({"pattern": format!("^{queue}$"), "definition": {"max-length": most}});
    sandbox.manage(Method::PUT, &format!("policies/{}/{queue}", sandbox.vhost), policy).await;
}

/// Reads the queue as a consumer does: what is read is gone.
async fn take_users(sandbox: &Sandbox) -> Vec<i64> {
    let body = json!({"count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let path = format!("queues/{}/{USERS}/get", sandbox.vhost);
    let messages = sandbox.manage(Method::POST, &path, body).await;
    let user = |message: &Value| {
        serde_json::from_str::<Value>(message["payload"].as_str()?).ok()?["user_id"].as_i64()
    };
    messages.as_array().map(|messages| messages.iter().filter_map(user).collect()).unwrap_or_default()
}

async fn users(sandbox: &Sandbox) -> Vec<i64> {
    sandbox.events(USERS).await.iter().filter_map(|event| event["user_id"].as_i64()).collect()
}

/// What stands in the outbox: event, lane, rows.
async fn rows(sandbox: &Sandbox) -> Vec<(String, String, i64)> {
    let select = "SELECT event, waits_for, count(*) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2";
    sqlx::query_as(select).fetch_all(&sandbox.pool().await).await.expect("the outbox can be read")
}

async fn in_lane(sandbox: &Sandbox, lane: &str) -> i64 {
    rows(sandbox).await.iter().filter(|(_, of, _)| of == lane).map(|(_, _, rows)| rows).sum()
}

async fn is_empty(sandbox: &Sandbox) -> bool {
    rows(sandbox).await.is_empty()
}

#[tokio::test]
async fn an_event_behind_hundreds_that_no_queue_takes_goes_at_once_and_they_go_in_order_when_the_queue_is_back()
 {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &[]).await;
    tiny.pay().await;
    eventually("the way is open", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    delete_queue(&sandbox, USERS).await;
    tiny.register(1..=450).await;
    tiny.pay().await;
    eventually("it has gone", async || sandbox.messages(PAYMENTS).await.len() == 2).await;
    eventually("the gauge says what waits", async || tiny.waiting(USERS).await == 450.0).await;
    assert_eq!(in_lane(&sandbox, USERS).await, 450);
    tiny.register(451..=460).await;
    make_queue(&sandbox, USERS).await;
    eventually("all have gone", async || is_empty(&sandbox).await).await;
    assert_eq!(users(&sandbox).await, (1..=460).collect::<Vec<_>>(), "each once, in order");
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_queue_that_refuses_keeps_its_events_waiting_and_no_others() {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &[]).await;
    limit_queue(&sandbox, USERS, 20).await;
    tiny.register(1..=300).await;
    eventually("it refuses", async || in_lane(&sandbox, USERS).await > 200).await;
    tiny.pay().await;
    eventually("the other has gone", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    let taken = std::cell::RefCell::new(BTreeSet::new());
    eventually("all have gone", async || {
        let users = take_users(&sandbox).await;
        taken.borrow_mut().extend(users);
        is_empty(&sandbox).await
    })
    .await;
    let rest = take_users(&sandbox).await;
    taken.borrow_mut().extend(rest);
    assert_eq!(taken.into_inner(), (1..=300).collect(), "none is lost");
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_waits_is_sent_by_the_next_process() {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &[]).await;
    tiny.pay().await;
    eventually("the way is open", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    delete_queue(&sandbox, USERS).await;
    tiny.register(1..=3).await;
    eventually("they wait", async || {
        rows(&sandbox).await == [("UserRegistered".to_owned(), USERS.to_owned(), 3)]
    })
    .await;
    tiny.app.stop().await;
    // It declares what it publishes to.
    let next = Tiny::start(&sandbox, &[]).await;
    eventually("all have gone", async || users(&sandbox).await.len() == 3).await;
    eventually("nothing waits", async || is_empty(&sandbox).await).await;
    next.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn several_relays_lose_nothing_of_what_waits() {
    let sandbox = Sandbox::new().await;
    let (one, other) = (Tiny::start(&sandbox, &[]).await, Tiny::start(&sandbox, &[]).await);
    one.pay().await;
    eventually("the way is open", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    delete_queue(&sandbox, USERS).await;
    Box::pin(futures_util::future::join(one.register(1..=150), other.register(151..=300))).await;
    eventually("they wait", async || {
        rows(&sandbox).await == [("UserRegistered".to_owned(), USERS.to_owned(), 300)]
    })
    .await;
    make_queue(&sandbox, USERS).await;
    eventually("nothing waits", async || is_empty(&sandbox).await).await;
    let mut users = users(&sandbox).await;
    users.sort_unstable();
    users.dedup();
    assert_eq!(users, (1..=300).collect::<Vec<_>>());
    one.app.stop().await;
    other.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn too_much_that_waits_for_one_destination_closes_the_door_for_that_one_alone() {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &["--outbox-max-rows=3"]).await;
    tiny.pay().await;
    eventually("the way is open", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    delete_queue(&sandbox, USERS).await;
    let refused = async || match tiny.announce(&user(1)).await {
        Err(ApiError::Unavailable(why)) => why.contains(USERS),
        _ => false,
    };
    eventually("the bound is noticed", refused).await;
    tiny.pay().await;
    eventually("the other goes", async || sandbox.messages(PAYMENTS).await.len() == 2).await;
    make_queue(&sandbox, USERS).await;
    eventually("it is open again", async || tiny.announce(&user(2)).await.is_ok()).await;
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_in_full_does_not_hold_up_the_others() {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    sqlx::query(
        "INSERT INTO outbox (message_id, event, destination, context, body)
         VALUES (gen_random_uuid(), 'UserRegistered', $1, '{\"other\": 1}', '{\"user_id\": 1}'),
                (gen_random_uuid(), 'Unheard', '(none)', '{}', '{}')",
    )
    .bind(USERS)
    .execute(&pool)
    .await
    .expect("it is stored");
    tiny.pay().await;
    eventually("it goes", async || sandbox.messages(USERS).await.len() == 1).await;
    eventually("the other goes", async || sandbox.messages(PAYMENTS).await.len() == 1).await;
    tiny.app.stop().await;
    sandbox.close().await;
}

/// A service with a broker of its own; and the broker.
async fn with_own_broker(sandbox: &Sandbox) -> (Tiny, OwnBroker) {
    let broker = OwnBroker::start().await;
    let tiny = Tiny::start(sandbox, &[&format!("--amqp-url={}", broker.url())]).await;
    tiny.pay().await;
    eventually("the way is open", async || is_empty(sandbox).await).await;
    (tiny, broker)
}

#[tokio::test]
async fn a_message_that_is_too_large_waits_alone_and_costs_the_connection_once() {
    let sandbox = Sandbox::new().await;
    let broker = OwnBroker::start().await;
    broker.limit_messages(200);
    let tiny = Tiny::start(&sandbox, &[&format!("--amqp-url={}", broker.url())]).await;
    let (small, large) = ("Insufficient stock", "x".repeat(200));
    for order in 1..=30 {
        let reason = if order % 10 == 1 { &large } else { small };
        tiny.announce(&rejected(order, reason)).await.unwrap();
        tiny.pay().await;
    }
    let lane = "stock_rejected_queue: too large".to_owned();
    let alone = async || rows(&sandbox).await == [("StockRejected".to_owned(), lane.clone(), 3)];
    eventually("all others have gone", alone).await;
    let before = broker.connections_opened();
    for order in 31..=60 {
        tiny.announce(&rejected(order, small)).await.unwrap();
        tiny.pay().await;
    }
    eventually("others go", alone).await;
    // Long enough for several tries.
    let tries = Instant::now();
    within(Duration::from_secs(20), "the tries", async || tries.elapsed() > Duration::from_secs(7)).await;
    assert_eq!(broker.connections_opened(), before, "nothing costs the connection any more");
    assert!(alone().await);
    broker.limit_messages(100_000);
    broker.close_connections();
    eventually("they go as well", async || is_empty(&sandbox).await).await;
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_queue_that_does_not_answer_keeps_its_events_waiting_and_no_others() {
    let sandbox = Sandbox::new().await;
    let (tiny, broker) = with_own_broker(&sandbox).await;
    broker.suspend_queue(USERS);
    tiny.register(1..=20).await;
    eventually("they wait", async || in_lane(&sandbox, USERS).await == 20).await;
    let paid = async || !rows(&sandbox).await.iter().any(|(event, ..)| event == "PaymentInitiated");
    for _ in 0..5 {
        tiny.pay().await;
        eventually("another has gone", &paid).await;
    }
    broker.resume_queue(USERS);
    eventually("all have gone", async || is_empty(&sandbox).await).await;
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_destination_that_is_unknown_keeps_its_events_waiting_and_no_others() {
    let sandbox = Sandbox::new().await;
    let tiny = Tiny::start(&sandbox, &[]).await;
    let insert = "INSERT INTO outbox (message_id, event, destination, context, body)
                  SELECT gen_random_uuid(), 'Renamed', 'before', '{}', '{}' FROM generate_series(1, 30)";
    sqlx::query(insert).execute(&sandbox.pool().await).await.expect("they are stored");
    for number in 1..=20 {
        tiny.register([number]).await;
        tiny.pay().await;
    }
    let alone = async || rows(&sandbox).await == [("Renamed".to_owned(), "before".to_owned(), 30)];
    eventually("the others have gone", alone).await;
    tiny.app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn each_cause_for_which_events_wait_is_logged_once() {
    const REFUSE: &str = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk is broken'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse();";
    let (sandbox, logs) = (Sandbox::new().await, Logs::capture());
    let tiny = Tiny::start(&sandbox, &[]).await;
    let waits = |cause| logs.count(&["events wait in the outbox", USERS, cause]);
    delete_queue(&sandbox, USERS).await;
    tiny.register([1]).await;
    eventually("no queue takes it", async || waits("no queue") == 1).await;
    sqlx::raw_sql(REFUSE).execute(&sandbox.pool().await).await.unwrap();
    eventually("it cannot be read", async || waits("disk is broken") == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((waits("no queue"), waits("disk is broken")), (1, 1));
    tiny.app.stop().await;
    sandbox.close().await;
}
