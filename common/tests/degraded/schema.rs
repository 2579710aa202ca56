//! Migrations of the service's schema that fail.

use std::borrow::Cow;

use common::Mode;
use common::config::NoSettings;
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, eventually};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, SqlSafeStr};
use utoipa_axum::router::OpenApiRouter;

use super::{ABOUT, ready, start_sync};

/// The tiny service with this migration.
fn with_migration(sql: &'static str) -> About {
    let migration = Migration::new(1, "test".into(), MigrationType::Simple, sql.into_sql_str(), false);
    let migrations = Migrator { migrations: Cow::Owned(vec![migration]), ..Migrator::DEFAULT };
    About { migrations: Some(Box::leak(Box::new(migrations))), ..ABOUT }
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

    let build = |_: Deps, NoSettings {}| Service::new(OpenApiRouter::new());
    let broken = with_migration("SELECT no_such_function()");
    let failing = sandbox.start_unready(broken, Mode::Sync, &[&setting], build).await;
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
