//! What an operator relies on, against ten real services: redrive of dead letters, separate logins, logs without secrets. Servers
//! from DATABASE_URL, AMQP_URL, RABBITMQ_MANAGEMENT_URL, KAFKA_BOOTSTRAP (`./study test`).

#![expect(clippy::unwrap_used, reason = "what is not there fails the test, and the line says where")]

mod client;
mod database_roles;
mod dead_letters;
#[path = "../scenarios/fixture.rs"]
mod fixture;
mod logs;
mod results;
mod settings;
mod trace;
