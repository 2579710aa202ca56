//! What the bus promises to services, over Kafka. Only `broker`, `own_broker` and what is in `kafka/` know which broker it is.

#[path = "kafka/broker.rs"]
mod broker;
mod delivery;
mod failures;
#[path = "kafka/foreign.rs"]
mod foreign;
#[path = "kafka/members.rs"]
mod members;
mod outages;
#[path = "kafka/own_broker.rs"]
mod own_broker;
mod process;
mod proxy;
mod suite;
mod traffic;

use suite::*;
