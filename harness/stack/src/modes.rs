//! What differs between the modes for a stack.

use contract::Mode;

use super::broker::Server;
use super::kafka::Kafka;
use super::rabbitmq::RabbitMq;

/// The broker of a mode; `None` where services call each other.
pub fn broker(mode: Mode) -> Option<&'static dyn Server> {
    match mode {
        Mode::Sync => None,
        Mode::Async => Some(&RabbitMq),
        Mode::Stream => Some(&Kafka),
    }
}
