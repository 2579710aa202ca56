//! What the bus promises to services, through its public interface, against a real broker: the suite that every transport has
//! to pass, here over RabbitMQ. Only `broker`, `own_broker` and what is in `rabbitmq/` know which broker it is.

#[path = "rabbitmq/alarm.rs"]
mod alarm;
#[path = "rabbitmq/broker.rs"]
mod broker;
#[path = "rabbitmq/closed.rs"]
mod closed;
mod delivery;
mod failures;
#[path = "rabbitmq/foreign.rs"]
mod foreign;
mod outages;
#[path = "rabbitmq/own_broker.rs"]
mod own_broker;
mod process;
mod proxy;
mod suite;
mod traffic;
#[path = "rabbitmq/wire.rs"]
mod wire;

use suite::*;
