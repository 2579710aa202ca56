//! What the ten services share. In reading order:
//!
//! 1. the bodies of the contract: [`api`] (calls, sync mode) and [`events`] (events, async mode). What else the contract
//!    says stands in the crate `contract`;
//! 2. what a service uses to talk: [`client`] and [`bus`], [`outbox`], [`inbox`];
//! 3. what stands around a service: [`service`], [`web`], [`idempotency`], [`db`], [`config`];
//! 4. what is measured and told: [`effects`], [`metrics`], [`journal`], [`telemetry`], with the [`context`] that travels along;
//! 5. how it is made to fail, in builds for tests: [`failpoint`].

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
