//! What a stack has stored: the superuser's connection to its database, and the few questions that every path asks.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use stack::{Database, Stack, signals};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For what a load of seconds leaves behind.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(60);

pub struct Store(Database);

impl Store {
    pub fn of(stack: &Stack) -> Result<Self> {
        Database::connect(&stack.database_url()).map(Self)
    }

    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.0.execute(sql)
    }

    pub fn row<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(&mut self, sql: &str) -> Result<T> {
        self.0.row(sql)
    }

    pub fn count(&mut self, sql: &str) -> Result<u64> {
        let (count,): (i64,) = self.row(sql)?;
        Ok(count.unsigned_abs())
    }

    /// Until a count is at least `least` and has come to rest; what it came to.
    ///
    /// # Errors
    /// When it is not there within `limit`: what was accepted is not done.
    pub fn settle(&mut self, sql: &str, least: u64, limit: Duration) -> Result<u64> {
        let mut before = None;
        let settled = signals::poll(LOOK_EVERY, limit, || {
            let count = self.count(sql)?;
            let at_rest = before.replace(count) == Some(count);
            Ok((count >= least && at_rest).then_some(count))
        })?;
        let count = before.unwrap_or(0);
        settled.with_context(|| format!("{count} of {least} are done after {limit:?}: {sql}"))
    }

    /// Until it is true.
    ///
    /// # Errors
    /// When it is not within `limit`.
    pub fn wait(&mut self, sql: &str, limit: Duration) -> Result<()> {
        let holds = signals::poll(LOOK_EVERY, limit, || {
            let (holds,): (bool,) = self.row(sql)?;
            Ok(holds.then_some(()))
        })?;
        holds.with_context(|| format!("does not hold after {limit:?}: {sql}"))
    }
}
