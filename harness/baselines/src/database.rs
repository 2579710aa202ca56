//! The database alone: clicks into a table like analyticsservice's, one by one or many at a time.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::times::{end_of, positive, summary};

const TABLE: &str = "CREATE TABLE baseline_clicks (
    event_id uuid PRIMARY KEY, user_id bigint NOT NULL, page text NOT NULL, session_id text,
    stored_at timestamptz NOT NULL DEFAULT now())";
const ROOM: &str = "DROP TABLE IF EXISTS baseline_clicks";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE of a user that may create a table.
    #[arg(long)]
    url: String,
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    seconds: f64,
}

#[derive(clap::Args)]
pub(crate) struct BulkArgs {
    #[command(flatten)]
    common: Args,
    /// Clicks of one statement.
    #[arg(long, value_name = "N", default_value_t = 200)]
    rows: usize,
}

/// One row a statement.
pub(crate) async fn commit(args: Args) -> anyhow::Result<Value> {
    measure(&args, 1).await
}

/// Many rows a statement.
pub(crate) async fn bulk(args: BulkArgs) -> anyhow::Result<Value> {
    measure(&args.common, args.rows).await
}

/// Each statement is a transaction of its own.
async fn measure(args: &Args, rows: usize) -> anyhow::Result<Value> {
    let connect = || async { PgConnection::connect(&args.url).await.context("PostgreSQL cannot be reached") };
    let mut connection = connect().await?;
    connection.execute(ROOM).await?;
    connection.execute(TABLE).await?;
    let connections = try_join_all((0..args.connections).map(|_| connect())).await?;

    let (begun, end) = (Instant::now(), end_of(args.seconds));
    let stored = try_join_all(connections.into_iter().map(|connection| keep_storing(connection, rows, end)));
    let took: Vec<Duration> = stored.await?.concat();
    let seconds = begun.elapsed().as_secs_f64();

    connection.execute(ROOM).await?;
    connection.close().await?;
    Ok(summary(&took, rows, seconds))
}

/// What each statement took.
async fn keep_storing(
    mut connection: PgConnection,
    rows: usize,
    end: Instant,
) -> Result<Vec<Duration>, sqlx::Error> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let begun = Instant::now();
        if rows == 1 {
            one(&mut connection).await?;
        } else {
            many(&mut connection, rows).await?;
        }
        took.push(begun.elapsed());
    }
    connection.close().await?;
    Ok(took)
}

async fn one(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO baseline_clicks (event_id, user_id, page) VALUES ($1, $2, $3) RETURNING event_id",
    )
    .bind(Uuid::now_v7())
    .bind(12_345_i64)
    .bind("/products/123")
    .fetch_one(connection)
    .await?;
    Ok(())
}

async fn many(connection: &mut PgConnection, rows: usize) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO baseline_clicks (event_id, user_id, page)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[]) RETURNING event_id",
    )
    .bind((0..rows).map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(vec![12_345_i64; rows])
    .bind(vec!["/products/123"; rows])
    .fetch_all(connection)
    .await?;
    Ok(())
}
