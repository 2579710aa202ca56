//! Reads the stores: ten schemas as superuser, the broker's queues, and the cache, which has no schema.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::Service;
use contract::events::of_dead_letters;
use serde::Deserialize;
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use super::RunArtifacts;
use super::stores::*;
use crate::topology;
use stack::broker::{DeadLetter, QueueCount};
use stack::{Database, http};

/// Dead letters that are read of each queue.
const DEAD_LETTERS: usize = 100_000;

/// One connection that reads every schema.
pub struct Databases(Database);

fn schemas() -> impl Iterator<Item = &'static str> {
    topology::with_database().map(Service::name)
}

impl Databases {
    pub fn connect(artifacts: &RunArtifacts) -> Result<Databases> {
        Database::connect(&artifacts.database_url).map(Self).context("the checker")
    }

    fn rows<T>(&mut self, sql: &str) -> Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.0.rows(sql).context("the checker")
    }

    /// Work that has not ended: what it is, and its count.
    pub fn open(&mut self) -> Result<Vec<(&'static str, i64)>> {
        let mut open = Vec::new();
        for (what, sql) in [
            ("orders pending", "SELECT count(*) FROM orderservice.orders WHERE status = 'pending'"),
            (
                "payments processing",
                "SELECT count(*) FROM paymentservice.payments WHERE status = 'processing'",
            ),
            (
                "reports not computed",
                "SELECT count(*) FROM reportservice.report_jobs WHERE status IN ('queued', 'running')",
            ),
        ] {
            open.extend(self.rows::<(i64,)>(sql)?.into_iter().map(|(count,)| (what, count)));
        }
        let waiting = self.outboxes()?.iter().map(|(_, rows)| rows).sum();
        open.push(("events in outboxes", waiting));
        open.retain(|(_, count)| *count > 0);
        Ok(open)
    }

    fn outboxes(&mut self) -> Result<Vec<(String, i64)>> {
        let counts: Vec<String> =
            schemas().map(|name| format!("SELECT '{name}', count(*) FROM {name}.outbox")).collect();
        self.rows(&counts.join(" UNION ALL "))
    }

    fn witnesses(&mut self) -> Result<Vec<Witness>> {
        let mut all = Vec::new();
        let present = "SELECT table_schema::text FROM information_schema.tables WHERE table_name = 'witness'";
        for (schema,) in self.rows::<(String,)>(present)? {
            let sql = format!(
                "SELECT kind, subject, coalesce(route, ''), count(*), (extract(epoch FROM max(noted_at)) * 1000)::int8
                 FROM {schema}.witness GROUP BY kind, subject, route"
            );
            let rows: Vec<(String, String, String, i64, i64)> = self.rows(&sql)?;
            all.extend(rows.into_iter().map(|(kind, subject, route, times, last_ms)| {
                let route = route.split(',').filter(|queue| !queue.is_empty()).map(str::to_owned).collect();
                Witness { kind, subject, route, times, last_ms: last_ms.unsigned_abs() }
            }));
        }
        if all.is_empty() {
            bail!("no service has left a witness: they are not built with the feature `failpoints`");
        }
        Ok(all)
    }

    fn keys(&mut self) -> Result<Vec<(String,)>> {
        let keys: Vec<String> =
            schemas().map(|name| format!("SELECT key FROM {name}.idempotency_keys")).collect();
        self.rows(&keys.join(" UNION ALL "))
    }

    fn orders(&mut self) -> Result<Vec<Order>> {
        type Row = (i64, i64, i64, String, Option<String>, Option<String>, i64);
        let sql = "SELECT id, product_id, quantity, status, reason, context->>'workflow',
                   (extract(epoch FROM created_at) * 1000)::int8 FROM orderservice.orders";
        Ok(self
            .rows::<Row>(sql)?
            .into_iter()
            .map(|(id, product_id, quantity, status, reason, workflow, created_ms)| Order {
                id,
                product_id,
                quantity,
                status,
                reason,
                workflow: workflow.unwrap_or_default(),
                created_ms: created_ms.unsigned_abs(),
            })
            .collect())
    }

    fn payments(&mut self) -> Result<Vec<Payment>> {
        let sql = "SELECT payment_id, status, order_id, saga FROM paymentservice.payments";
        let rows: Vec<(String, String, Option<i64>, bool)> = self.rows(sql)?;
        let payment = |(payment_id, status, order_id, saga)| Payment { payment_id, status, order_id, saga };
        Ok(rows.into_iter().map(payment).collect())
    }

    fn versions(&mut self, sql: &str) -> Result<Vec<(i64, Version)>> {
        let rows: Vec<(i64, i64, i64)> = self.rows(sql)?;
        Ok(rows.into_iter().map(|(id, version, stock)| (id, Version { version, stock })).collect())
    }

    fn stock(&mut self) -> Result<(Vec<Inventory>, Vec<Reservation>)> {
        let sql = "SELECT product_id, seed_stock, stock, reserved FROM inventoryservice.inventory";
        let inventory = self.rows::<(i64, i64, i64, i64)>(sql)?.into_iter();
        let sql = "SELECT order_id, product_id, quantity, state FROM inventoryservice.reservations";
        let reservations = self.rows::<(Option<i64>, Option<i64>, i64, String)>(sql)?.into_iter();
        Ok((
            inventory
                .map(|(product_id, seed_stock, stock, reserved)| Inventory {
                    product_id,
                    seed_stock,
                    stock,
                    reserved,
                })
                .collect(),
            reservations
                .map(|(order_id, product_id, quantity, state)| Reservation {
                    order_id,
                    product_id,
                    quantity,
                    state,
                })
                .collect(),
        ))
    }
}

/// Reads all stores once.
pub fn stores(artifacts: &RunArtifacts) -> Result<Stores> {
    let mut db = Databases::connect(artifacts)?;
    let users = db.rows::<(i64, String)>("SELECT id, email FROM userservice.users")?.into_iter();
    let emails = db.rows::<(i64,)>("SELECT user_id FROM emailservice.emails")?.into_iter();
    let audit = db.rows::<(String,)>("SELECT payment_id FROM paymentservice.payment_audit")?.into_iter();
    let products = db.versions("SELECT id, version, stock FROM productservice.products")?;
    let updates =
        "SELECT product_id, coalesce(version, 0), coalesce(stock, 0) FROM analyticsservice.product_updates";
    let jobs = "SELECT report_type, status, report_hash IS NOT NULL FROM reportservice.report_jobs";
    let jobs = db.rows::<(String, String, bool)>(jobs)?.into_iter();
    let clicks = db.rows::<(String,)>("SELECT page FROM analyticsservice.clicks")?.into_iter();
    let (inventory, reservations) = db.stock()?;
    let listed = queues(artifacts)?;
    Ok(Stores {
        users: users.map(|(id, email)| User { id, email }).collect(),
        emails: emails.map(|(user,)| user).collect(),
        payments: db.payments()?,
        audit: audit.map(|(payment,)| payment).collect(),
        index: db
            .versions("SELECT product_id, version, stock FROM searchservice.product_index")?
            .into_iter()
            .collect(),
        cache: cache(artifacts, products.iter().map(|(id, _)| *id))?,
        products: products.into_iter().map(|(id, last)| Product { id, last }).collect(),
        product_updates: db.rows(updates)?,
        jobs: jobs.map(|(report_type, status, hashed)| Job { report_type, status, hashed }).collect(),
        orders: db.orders()?,
        reservations,
        inventory,
        clicks: clicks.map(|(page,)| page).collect(),
        idempotency_keys: db.keys()?.into_iter().map(|(key,)| key).collect(),
        witnesses: db.witnesses()?,
        outboxes: db.outboxes()?,
        dead_letters: dead_letters(artifacts, &listed)?,
        queues: listed.into_iter().map(|queue| (queue.name, queue.messages)).collect(),
    })
}

#[derive(Deserialize)]
struct Cached {
    version: i64,
    stock: i64,
}

/// A product that is not cached is left out; a failed request is an error.
fn cache(artifacts: &RunArtifacts, products: impl Iterator<Item = i64>) -> Result<HashMap<i64, Version>> {
    let agent = http::agent(Duration::from_secs(5));
    let base = artifacts.urls.get(Service::Cache.name()).context("the address of cacheservice is unknown")?;
    let mut cached = HashMap::new();
    for id in products {
        let url = format!("{base}/cache/products/{id}");
        let (status, body) = http::get(&agent, &url).with_context(|| format!("{url} does not answer"))?;
        if status == 404 {
            continue;
        }
        let Cached { version, stock } =
            serde_json::from_str(&body).with_context(|| format!("{url} answers {status}: {body}"))?;
        cached.insert(id, Version { version, stock });
    }
    Ok(cached)
}

/// Messages of each queue, waiting or not acknowledged; none without a broker.
pub fn queues(artifacts: &RunArtifacts) -> Result<Vec<QueueCount>> {
    let queues = artifacts.broker.as_ref().map(|broker| broker.queues()).transpose();
    Ok(queues.context("the checker")?.unwrap_or_default())
}

/// Working queue and message id of each dead letter.
fn dead_letters(artifacts: &RunArtifacts, queues: &[QueueCount]) -> Result<Vec<(String, String)>> {
    let Some(broker) = &artifacts.broker else { return Ok(Vec::new()) };
    let mut dead = Vec::new();
    for QueueCount { name, .. } in queues {
        let Some(queue) = of_dead_letters(name) else { continue };
        let seen =
            broker.peek(name, DEAD_LETTERS).with_context(|| format!("the checker cannot read {name}"))?;
        let id = |message: DeadLetter| message.id.unwrap_or_else(|| "(no id)".to_owned());
        dead.extend(seen.messages.into_iter().map(|message| (queue.to_owned(), id(message))));
    }
    Ok(dead)
}
