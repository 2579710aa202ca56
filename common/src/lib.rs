//! What the ten services share. In reading order:
//!
//! 1. the bodies of the contract: [`api`] (calls, sync mode) and [`events`] (events, async mode), with the rules for their
//!    values in [`rules`]. Names and destinations are in the crate `contract`;
//! 2. how services communicate: [`client`] and [`bus`], [`outbox`], [`inbox`];
//! 3. what surrounds a service: [`service`], [`web`], [`idempotency`], [`db`], [`config`];
//! 4. what is measured and logged: [`effects`], [`metrics`], [`journal`], [`telemetry`], and the [`context`] of a workflow;
//! 5. fault injection, in builds for tests: [`failpoint`].
//!
//! An event, its producer and its consumer:
//!
#![cfg_attr(feature = "messaging", doc = "```no_run")]
#![cfg_attr(not(feature = "messaging"), doc = "```ignore")]
//! use common::bus::{Consumers, HandlerError, Incoming, Outcome, transaction};
//! use common::events::{Event, Queue};
//! use common::outbox::Outbox;
//! use common::{ApiError, Db, Deps, Service, Tx};
//! use contract::events::Destination;
//! use garde::Validate;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Validate)]
//! struct UserRegistered {
//!     #[garde(range(min = 1))]
//!     user_id: i64,
//! }
//! impl Event for UserRegistered {
//!     const NAME: &'static str = contract::events::USER_REGISTERED.name;
//!     const DESTINATION: Destination = contract::events::USER_REGISTERED.destination;
//! }
//! const QUEUE: Queue<UserRegistered> = Queue::of(contract::events::queues::USER_REGISTERED);
//!
//! /// The event is stored in the transaction of its effect, and sent after the commit.
//! async fn register(db: &Db, outbox: &Outbox, user_id: i64) -> Result<(), ApiError> {
//!     let mut tx = db.begin().await?;
//!     sqlx::query("INSERT INTO users VALUES ($1)").bind(user_id).execute(&mut *tx).await?;
//!     outbox.add(&mut tx, &UserRegistered { user_id })?;
//!     Ok(tx.commit().await?)
//! }
//!
//! /// The event is applied once, in a transaction that events share which wait at the same time.
//! async fn welcome(_: (), tx: &mut Tx, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
//!     sqlx::query("INSERT INTO welcomed VALUES ($1)").bind(user.user_id).execute(&mut **tx).await?;
//!     Ok(Outcome::Applied)
//! }
//!
//! fn service(deps: &Deps) -> Service {
//!     let consumers = Consumers::of(()).with(transaction(&deps.db(), QUEUE, welcome));
//!     Service::new(Default::default()).publishes::<UserRegistered>().consumes(consumers)
//! }
//! ```

pub mod api;
pub mod events;

#[cfg(feature = "messaging")]
pub mod bus;
#[cfg(feature = "http")]
pub mod client;
#[cfg(feature = "messaging")]
pub mod inbox;
#[cfg(feature = "messaging")]
pub mod outbox;

pub mod batcher;
pub mod config;
pub mod db;
pub mod email;
mod environment;
pub mod error;
pub mod fanout;
pub mod idempotency;
mod mode;
pub mod rules;
pub mod saga;
pub mod service;
pub mod tasks;
#[cfg(feature = "messaging")]
mod throttle;
pub mod web;

pub mod context;
pub mod effects;
pub mod journal;
pub mod metrics;
mod otel;
pub mod telemetry;

pub mod failpoint;
#[cfg(feature = "testing")]
pub mod testing;

pub use context::Context;
pub use contract::Mode;
pub use db::{Db, Tx};
pub use error::ApiError;
pub use service::{About, Deps, Service};
