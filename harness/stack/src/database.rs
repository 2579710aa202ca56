//! A connection to PostgreSQL for code that has no runtime of its own.

use anyhow::{Context, Result};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow, PgConnection};
use tokio::runtime::{Builder, Runtime};

pub struct Database {
    runtime: Runtime,
    connection: PgConnection,
}

impl Database {
    pub fn connect(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(PgConnection::connect(url));
        Ok(Self { connection: connection.context("cannot reach the database")?, runtime })
    }

    /// One statement, or several of them.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        let done = self.runtime.block_on(self.connection.execute(AssertSqlSafe(sql)));
        done.with_context(|| format!("cannot {sql}"))?;
        Ok(())
    }

    pub fn rows<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(&mut self, sql: &str) -> Result<Vec<T>> {
        let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut self.connection);
        self.runtime.block_on(rows).with_context(|| format!("cannot {sql}"))
    }

    pub fn row<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(&mut self, sql: &str) -> Result<T> {
        let row = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut self.connection);
        self.runtime.block_on(row).with_context(|| format!("cannot {sql}"))
    }

    pub fn close(self) -> Result<()> {
        self.runtime.block_on(self.connection.close()).context("cannot close the connection to the database")
    }
}
