//! The service's schema: migrations that fail, and tables that have grown large.

use std::borrow::Cow;
use std::time::Duration;

use common::Mode;
use common::config::NoSettings;
use common::service::{About, Deps, Service};
use common::testing::{Logs, Sandbox, eventually};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, SqlSafeStr};
use utoipa_axum::router::OpenApiRouter;

use super::{ABOUT, gate_to_database, ready, start_async, start_sync};

/// The tiny service with this migration.
fn with_migration(sql: &'static str) -> About {
    let migration = Migration::new(1, "test".into(), MigrationType::Simple, sql.into_sql_str(), false);
    let migrations = Migrator { migrations: Cow::Owned(vec![migration]), ..Migrator::DEFAULT };
    About { migrations: Some(Box::leak(Box::new(migrations))), ..ABOUT }
}

fn nothing(_: Deps, NoSettings {}: NoSettings) -> Service {
    Service::new(OpenApiRouter::new())
}

#[tokio::test]
async fn a_migration_that_fails_keeps_no_other_service_from_migrating() {
    let (sandbox, other) = (Sandbox::new().await, Sandbox::new().await);
    // sqlx's lock is that of the database: this one is used by no other test.
    let mut admin = PgConnection::connect(sandbox.database_url()).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {}", sandbox.schema))).await.unwrap();
    let (server, _) = sandbox.database_url().rsplit_once('/').unwrap();
    let url = format!("{server}/{}", sandbox.schema);
    let setting = format!("--database-url={url}");

    let broken = with_migration("SELECT no_such_function()");
    let failing = sandbox.start_unready(broken, Mode::Sync, &[&setting], nothing).await;
    let pool = PgPool::connect(&url).await.unwrap();
    eventually("the migration is tried", async || {
        let table = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(format!("{}._sqlx_migrations", sandbox.schema));
        table.fetch_one(&pool).await.unwrap()
    })
    .await;
    let app = start_sync(&other, &[&setting]).await;
    ready(&app).await;

    app.stop().await;
    failing.stop().await;
    pool.close().await;
    admin.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", sandbox.schema))).await.unwrap();
    admin.close().await.unwrap();
    sandbox.close().await;
    other.close().await;
}

#[tokio::test]
async fn each_cause_of_an_outage_of_the_database_is_logged_once() {
    let (sandbox, logs) = (Sandbox::new().await, Logs::capture());
    let (mut gate, setting) = gate_to_database(&sandbox);
    let broken = with_migration("SELECT no_such_function()");
    let app = sandbox.start_unready(broken, Mode::Sync, &[&setting], nothing).await;
    let refused = async || logs.count(&["waiting for PostgreSQL", "refused"]);
    let broken = async || logs.count(&["waiting for PostgreSQL", "no_such_function"]);
    eventually("no connection", async || refused().await == 1).await;
    gate.open();
    eventually("a connection", async || broken().await == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((refused().await, broken().await), (1, 1));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn old_inbox_rows_and_idempotency_keys_are_deleted_ten_thousand_a_statement() {
    const ROWS: &str = "
        INSERT INTO inbox (queue, message_id, applied_at)
            SELECT 'q', n, now() - interval '8 days' FROM generate_series(1, 25000) AS n;
        INSERT INTO inbox (queue, message_id) VALUES ('q', 'recent');
        INSERT INTO idempotency_keys (key, fingerprint, leased_until, created_at)
            SELECT n, '', now(), now() - interval '3 days' FROM generate_series(1, 25000) AS n;
        INSERT INTO idempotency_keys (key, fingerprint, leased_until) VALUES ('recent', '', now());
        CREATE FUNCTION refuse_large_deletes() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF (SELECT count(*) FROM deleted) > 10000 THEN RAISE 'too many rows'; END IF;
                RETURN NULL;
            END $$;
        CREATE TRIGGER refuse_large_deletes AFTER DELETE ON inbox
            REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION refuse_large_deletes();
        CREATE TRIGGER refuse_large_deletes AFTER DELETE ON idempotency_keys
            REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION refuse_large_deletes();";
    let sandbox = Sandbox::new().await;
    let app = start_async(&sandbox, &[]).await;
    ready(&app).await;
    app.stop().await;
    let pool = sandbox.pool().await;
    pool.execute(ROWS).await.unwrap();
    // Each is pruned when the service starts.
    let app = start_async(&sandbox, &[]).await;
    eventually("the old rows are deleted", async || {
        let left: (i64, i64) =
            sqlx::query_as("SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM idempotency_keys)")
                .fetch_one(&pool)
                .await
                .unwrap();
        left == (1, 1)
    })
    .await;
    app.stop().await;
    sandbox.close().await;
}
