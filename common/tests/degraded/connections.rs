//! What becomes of a connection whose user went away in the middle. There is only one.

use std::time::{Duration, Instant};

use common::config::NoSettings;
use common::service::{Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::{Db, Mode};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;

use super::ABOUT;

async fn start(sandbox: &Sandbox) -> (TestApp, Db) {
    let mut db = None;
    let build = |deps: Deps, NoSettings {}| {
        db = Some(deps.db());
        Service::new(OpenApiRouter::new())
    };
    let app = sandbox.start_unready(ABOUT, Mode::Sync, &["--db-pool-size=1"], build).await;
    let db = db.expect("the service was built");
    db.wait_ready().await;
    (app, db)
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}

#[tokio::test]
async fn a_transaction_that_is_given_up_is_rolled_back_before_anybody_needs_its_connection() {
    let sandbox = Sandbox::new().await;
    let (app, db) = start(&sandbox).await;
    let pool = sandbox.pool().await;
    sqlx::query("CREATE TABLE things (id int PRIMARY KEY)").execute(&pool).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO things VALUES (1)").execute(&mut *tx).await.unwrap();
    drop(tx);
    eventually("another may insert it", async || {
        // Waits as long as the transaction is open.
        sqlx::query("INSERT INTO things VALUES (1)").execute(&pool).await.is_ok()
    })
    .await;
    let mut connection = db.acquire().await.unwrap();
    assert_eq!(number(&mut connection, "SELECT count(*)::int FROM things").await.unwrap(), 1);
    drop(connection);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_next_user_is_not_given_the_answer_that_the_last_one_did_not_wait_for() {
    let sandbox = Sandbox::new().await;
    let (app, db) = start(&sandbox).await;
    let mut connection = db.acquire().await.unwrap();
    let asked = number(&mut connection, "SELECT 6 FROM pg_sleep(0.5)");
    assert!(tokio::time::timeout(Duration::from_millis(100), asked).await.is_err());
    drop(connection);
    let mut connection = db.acquire().await.unwrap();
    assert_eq!(number(&mut connection, "SELECT 7").await.unwrap(), 7);
    drop(connection);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_connection_that_broke_is_replaced_whether_it_was_in_use_or_at_rest() {
    const PID: &str = "SELECT pg_backend_pid()";
    let sandbox = Sandbox::new().await;
    let (app, db) = start(&sandbox).await;
    let pool = sandbox.pool().await;
    let end = async |pid: i32| {
        let ended: bool =
            sqlx::query_scalar("SELECT pg_terminate_backend($1)").bind(pid).fetch_one(&pool).await.unwrap();
        assert!(ended);
    };
    let mut connection = db.acquire().await.unwrap();
    let first = number(&mut connection, PID).await.unwrap();
    end(first).await;
    assert!(number(&mut connection, PID).await.is_err());
    drop(connection);
    let mut connection = db.acquire().await.unwrap();
    let second = number(&mut connection, PID).await.unwrap();
    assert_ne!(first, second);
    drop(connection);
    end(second).await;
    // From then on it is tested before use.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut connection = db.acquire().await.unwrap();
    assert_ne!(number(&mut connection, PID).await.unwrap(), second);
    drop(connection);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_small_pool_serves_requests_as_soon_as_the_service_is_ready() {
    let sandbox = Sandbox::new().await;
    let (app, db) = start(&sandbox).await;
    let asked = Instant::now();
    db.acquire().await.expect("a connection is free");
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    app.stop().await;
    sandbox.close().await;
}
