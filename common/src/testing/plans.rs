//! How much a step reads in the database, with any statistics.

use sqlx::PgConnection;

use crate::db::{Db, Tx};

/// A step that is keyed finds its rows by the key: a few index entries for each of its statements.
const FEW: i64 = 12;

/// Fails if `step` reads more than a few rows, with plans for its values as well as with generic plans. It is rolled back.
pub async fn assert_reads_few_rows(db: &Db, what: &str, step: impl AsyncFn(&mut Tx)) {
    for plans in ["force_custom_plan", "force_generic_plan"] {
        let mut tx = db.begin().await.expect("a transaction");
        let set = sqlx::AssertSqlSafe(format!("SET LOCAL plan_cache_mode = {plans}"));
        sqlx::query(set).execute(&mut *tx).await.expect("PostgreSQL 12 or later");
        let before = rows_read(&mut tx).await;
        step(&mut tx).await;
        let read = rows_read(&mut tx).await - before;
        assert!(read <= FEW, "{what} reads {read} rows with {plans}");
    }
}

/// Takes the statistics of a table now, and keeps them while the table changes.
pub async fn keep_statistics(pool: &sqlx::PgPool, table: &str) {
    for sql in [format!("ALTER TABLE {table} SET (autovacuum_enabled = false)"), format!("ANALYZE {table}")] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the table is there");
    }
}

/// Rows of tables read in sequence, and entries of indexes, so far in this transaction.
async fn rows_read(tx: &mut PgConnection) -> i64 {
    let sum = "SELECT sum(pg_stat_get_xact_tuples_returned(oid))::int8 FROM pg_class
               WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i')";
    sqlx::query_scalar(sum).fetch_one(tx).await.expect("the statistics of the transaction")
}
