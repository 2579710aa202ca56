//! The campus lab: one workflow (place an order, reserve stock, notify) over REST, over RabbitMQ and over Kafka, as university
//! courses give it. Each stack has its own PostgreSQL and broker.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::scenario::Effect;
use crate::service::schema_of;
use crate::{BrokerPorts, Mode};

/// One way to run the lab, in the order of the host ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[clap(rename_all = "lowercase")]
pub enum Stack {
    Rest,
    Rabbitmq,
    Kafka,
    Orders003,
}

/// The value of `PROFILE`: names and fields that differ within a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Profile {
    /// The names of the lab's older version: [`Stack::Orders003`].
    #[clap(name = "003")]
    #[serde(rename = "003")]
    Orders003,
}

/// A service of the lab, in the order of the host ports. [`Stack::services`] are those of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[clap(rename_all = "lowercase")]
pub enum Service {
    Order,
    Inventory,
    Notification,
    Analytics,
}

/// Host ports of a stack. Inside its container every service listens on [`crate::Service::CONTAINER_PORT`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ports {
    /// Of the first service; the others follow in the order of [`Stack::services`].
    pub first_service: u16,
    pub broker: Option<BrokerPorts>,
}

/// The environment variable with the host port of AMQP.
pub const AMQP_PORT: &str = "AMQP_PORT";
/// The environment variable with the host port of RabbitMQ's management API.
pub const MANAGEMENT_PORT: &str = "MANAGEMENT_PORT";
/// The environment variable with the host port of RabbitMQ's metrics.
pub const METRICS_PORT: &str = "METRICS_PORT";
/// The environment variable with the host port of Kafka.
pub const KAFKA_PORT: &str = "KAFKA_PORT";
/// The host ports of the Prometheus and the Grafana that observe the stacks of the lab, in the order of [`crate::Monitoring::ALL`].
pub const MONITORING: [u16; 2] = [9096, 3006];
/// The environment variable with the host address on which all ports are published.
pub const BIND_ADDRESS: &str = "BIND_ADDRESS";
/// The environment variable that chooses a [`Profile`].
pub const PROFILE: &str = "PROFILE";
/// The environment variable with the limit of one call between services in seconds.
pub const REQUEST_TIMEOUT: &str = "REQUEST_TIMEOUT";

/// The lab's exchanges and queues, which every service of the stack declares. All are durable, the queues are classic.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// A topic exchange, to which all events go.
    pub exchange: &'static str,
    pub queues: &'static [Queue],
    /// The only dead-letter queue. It is bound to the fanout exchange `dead_letter_exchange` where there is one.
    pub dead_letter_queue: &'static str,
    pub dead_letter_exchange: Option<&'static str>,
}

/// A queue that is bound to the topic exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    pub name: &'static str,
    /// The routing keys by which it is bound.
    pub keys: &'static [&'static str],
    pub reader: Service,
    /// Its argument `x-dead-letter-exchange`; no queue has other arguments.
    pub dead_letter_exchange: Option<&'static str>,
}

/// The readers of an event: those whose queues are bound by its routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// The exchange and the key: what the outbox and the metrics name.
    pub name: &'static str,
    pub key: &'static str,
    /// Declared as a whole by each service that publishes or reads an event of it.
    #[serde(skip)]
    pub topology: &'static Topology,
}

/// Every topic of the lab.
pub mod topics {
    use super::{INVENTORY_FAILED, INVENTORY_RESERVED, ORDER_PLACED, ORDERS003, RABBITMQ, Topic, Topology};

    const fn topic(name: &'static str, key: &'static str, topology: &'static Topology) -> Topic {
        Topic { name, key, topology }
    }

    pub static PLACED: Topic = topic("orders_exchange/order.placed", ORDER_PLACED, &RABBITMQ);
    pub static RESERVED: Topic = topic("orders_exchange/inventory.reserved", INVENTORY_RESERVED, &RABBITMQ);
    pub static FAILED: Topic = topic("orders_exchange/inventory.failed", INVENTORY_FAILED, &RABBITMQ);
    pub static PLACED_003: Topic = topic("order_events/order.placed", ORDER_PLACED, &ORDERS003);
    pub static RESERVED_003: Topic = topic("order_events/inventory.reserved", INVENTORY_RESERVED, &ORDERS003);
    pub static FAILED_003: Topic = topic("order_events/inventory.failed", INVENTORY_FAILED, &ORDERS003);

    pub static ALL: [&Topic; 6] = [&PLACED, &RESERVED, &FAILED, &PLACED_003, &RESERVED_003, &FAILED_003];
}

/// The routing key of an order that was placed.
pub const ORDER_PLACED: &str = "order.placed";
/// The routing key of an order whose stock is reserved.
pub const INVENTORY_RESERVED: &str = "inventory.reserved";
/// The routing key of an order for which no stock could be reserved.
pub const INVENTORY_FAILED: &str = "inventory.failed";

const DLX: &str = "dlx_exchange";
const DEAD_LETTERS: &str = "dlq_queue";

/// The queue of placed orders.
pub const INVENTORY_QUEUE: &str = "inventory_queue";
/// The queue of reserved orders.
pub const NOTIFICATION_QUEUE: &str = "notification_queue";
/// The queue by which an order learns its end.
pub const ORDER_STATUS_QUEUE: &str = "order_status_queue";

const fn queues(dead_letter_exchange: Option<&'static str>) -> [Queue; 3] {
    const fn queue(name: &'static str, keys: &'static [&'static str], reader: Service) -> Queue {
        Queue { name, keys, reader, dead_letter_exchange: None }
    }
    [
        Queue { dead_letter_exchange, ..queue(INVENTORY_QUEUE, &[ORDER_PLACED], Service::Inventory) },
        queue(NOTIFICATION_QUEUE, &[INVENTORY_RESERVED], Service::Notification),
        queue(ORDER_STATUS_QUEUE, &[INVENTORY_RESERVED, INVENTORY_FAILED], Service::Order),
    ]
}

const RABBITMQ_QUEUES: [Queue; 3] = queues(Some(DLX));
const ORDERS003_QUEUES: [Queue; 3] = queues(None);

/// Of [`Stack::Rabbitmq`].
pub static RABBITMQ: Topology = Topology {
    exchange: "orders_exchange",
    queues: &RABBITMQ_QUEUES,
    dead_letter_queue: DEAD_LETTERS,
    dead_letter_exchange: Some(DLX),
};
/// Of [`Stack::Orders003`].
pub static ORDERS003: Topology = Topology {
    exchange: "order_events",
    queues: &ORDERS003_QUEUES,
    dead_letter_queue: DEAD_LETTERS,
    dead_letter_exchange: None,
};

/// A topic of [`Stack::Kafka`]. It is kept for ever: a group can read it again from its beginning.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    pub name: &'static str,
    pub partitions: i32,
    /// The field of the body that is the key of the record.
    pub key: &'static str,
    /// The topic of the records that cannot be applied.
    pub dead_letter_topic: &'static str,
}

const fn log(name: &'static str) -> Log {
    Log { name, partitions: 3, key: "order_id", dead_letter_topic: "order-events.dlq" }
}

/// The log of placed orders.
pub static ORDER_EVENTS: Log = log("order-events");
/// The log of orders whose stock is reserved, or could not be.
pub static INVENTORY_EVENTS: Log = log("inventory-events");
/// The logs of [`Stack::Kafka`].
pub static LOGS: [&Log; 2] = [&ORDER_EVENTS, &INVENTORY_EVENTS];

/// The group that reads placed orders to reserve their stock.
pub const INVENTORY_GROUP: &str = "inventory-group";
/// The group that counts what is in both logs.
pub const ANALYTICS_GROUP: &str = "analytics-group";
/// The group by which an order learns its end.
pub const ORDER_STATUS_GROUP: &str = "order-status-group";

/// Every final effect of the lab.
pub mod effects {
    use super::{Effect, Service};

    const fn effect(name: &'static str, service: Service, outcomes: &'static [&'static str]) -> Effect {
        Effect { scenario: "campus", name, service: service.program(), outcomes }
    }

    /// The order has ended. `confirmed` in [`super::Stack::Orders003`] is `reserved` here.
    pub const ORDER: Effect = effect("order", Service::Order, &["notified", "reserved", "failed", "timeout"]);
    /// The customer of a reserved order was notified.
    pub const NOTIFICATION: Effect = effect("notification", Service::Notification, &["sent"]);

    pub const ALL: [Effect; 2] = [ORDER, NOTIFICATION];
}

impl Stack {
    pub const ALL: [Stack; 4] = [Stack::Rest, Stack::Rabbitmq, Stack::Kafka, Stack::Orders003];
    /// Those on which `./study campus` makes its experiments.
    pub const MEASURED: [Stack; 3] = [Stack::Rest, Stack::Rabbitmq, Stack::Orders003];

    pub const fn name(self) -> &'static str {
        match self {
            Stack::Rest => "rest",
            Stack::Rabbitmq => "rabbitmq",
            Stack::Kafka => "kafka",
            Stack::Orders003 => "orders003",
        }
    }

    /// `COMM_MODE` of its services.
    pub const fn mode(self) -> Mode {
        match self {
            Stack::Rest => Mode::Sync,
            Stack::Rabbitmq | Stack::Orders003 => Mode::Async,
            Stack::Kafka => Mode::Stream,
        }
    }

    /// Its services, in the order of the host ports.
    pub const fn services(self) -> &'static [Service] {
        match self {
            Stack::Rest | Stack::Rabbitmq | Stack::Orders003 => {
                &[Service::Order, Service::Inventory, Service::Notification]
            }
            Stack::Kafka => &[Service::Order, Service::Inventory, Service::Analytics],
        }
    }

    /// `PROFILE` of its services; `None` where it is not set.
    pub const fn profile(self) -> Option<Profile> {
        match self {
            Stack::Orders003 => Some(Profile::Orders003),
            Stack::Rest | Stack::Rabbitmq | Stack::Kafka => None,
        }
    }

    /// The folder of its compose file and of its `lab.env`, relative to the root of the project.
    pub const fn folder(self) -> &'static str {
        match self {
            Stack::Rest => "campus/sync-rest",
            Stack::Rabbitmq => "campus/async-rabbitmq",
            Stack::Kafka => "campus/streaming-kafka",
            Stack::Orders003 => "campus/orders003",
        }
    }

    /// The default host ports, which leave room for all stacks and the study beside each other.
    pub const fn ports(self) -> Ports {
        const fn broker(amqp: u16, management: u16, metrics: u16) -> BrokerPorts {
            BrokerPorts::RabbitMq { amqp, management, metrics }
        }
        match self {
            Stack::Rest => Ports { first_service: 8200, broker: None },
            Stack::Rabbitmq => Ports { first_service: 8210, broker: Some(broker(5674, 15674, 15694)) },
            Stack::Kafka => Ports { first_service: 8220, broker: Some(BrokerPorts::Kafka { kafka: 29092 }) },
            Stack::Orders003 => Ports { first_service: 8230, broker: Some(broker(5675, 15675, 15695)) },
        }
    }

    /// The host ports of the public labs, whose own tests then run unchanged.
    pub const fn lab_ports(self) -> Ports {
        let broker = match self.ports().broker {
            // The public labs have no port for metrics.
            Some(BrokerPorts::RabbitMq { metrics, .. }) => {
                Some(BrokerPorts::RabbitMq { amqp: 5672, management: 15672, metrics })
            }
            Some(BrokerPorts::Kafka { .. }) => Some(BrokerPorts::Kafka { kafka: 29092 }),
            None => None,
        };
        Ports { first_service: 8000, broker }
    }

    /// Exchanges and queues; `None` without RabbitMQ.
    pub const fn topology(self) -> Option<&'static Topology> {
        match self {
            Stack::Rest | Stack::Kafka => None,
            Stack::Rabbitmq => Some(&RABBITMQ),
            Stack::Orders003 => Some(&ORDERS003),
        }
    }

    /// Topics of Kafka.
    pub const fn logs(self) -> &'static [&'static Log] {
        match self {
            Stack::Kafka => &LOGS,
            Stack::Rest | Stack::Rabbitmq | Stack::Orders003 => &[],
        }
    }

    /// The stock of a new or reset stack, by item.
    pub const fn seed(self) -> &'static [(&'static str, i64)] {
        match self {
            Stack::Rest | Stack::Rabbitmq | Stack::Kafka => {
                &[("burger", 100), ("pizza", 100), ("salad", 100)]
            }
            Stack::Orders003 => &[("burger", 100), ("pizza", 50), ("sushi", 30), ("salad", 200)],
        }
    }

    /// What requests and events call the quantity of an order.
    pub const fn quantity_field(self) -> &'static str {
        match self {
            Stack::Rest | Stack::Rabbitmq | Stack::Kafka => "quantity",
            Stack::Orders003 => "qty",
        }
    }

    /// What the compose file calls a service.
    pub const fn container(self, service: Service) -> &'static str {
        match (self, service) {
            (Stack::Orders003, Service::Order) => "order_service",
            (Stack::Orders003, Service::Inventory) => "inventory_service",
            (Stack::Orders003, Service::Notification) => "notification_service",
            (_, service) => service.name(),
        }
    }
}

impl Profile {
    /// The value of the variable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Orders003 => "003",
        }
    }
}

impl Ports {
    pub const fn service(&self, service: Service) -> u16 {
        self.first_service + service.place()
    }
}

impl Service {
    pub const ALL: [Service; 4] =
        [Service::Order, Service::Inventory, Service::Notification, Service::Analytics];

    /// The place among the host ports. No stack has both services of the last place.
    const fn place(self) -> u16 {
        match self {
            Service::Order => 0,
            Service::Inventory => 1,
            Service::Notification | Service::Analytics => 2,
        }
    }

    /// The word in variables: `order` of `ORDER_PORT`.
    pub const fn name(self) -> &'static str {
        match self {
            Service::Order => "order",
            Service::Inventory => "inventory",
            Service::Notification => "notification",
            Service::Analytics => "analytics",
        }
    }

    /// The binary of the package `campus`, and the word in `/health`, logs and journals.
    pub const fn program(self) -> &'static str {
        match self {
            Service::Order => "campus-order",
            Service::Inventory => "campus-inventory",
            Service::Notification => "campus-notification",
            Service::Analytics => "campus-analytics",
        }
    }

    /// The login and the schema.
    pub fn schema(self) -> String {
        schema_of(self.program())
    }

    /// The environment variable with its host port.
    pub fn port_variable(self) -> String {
        format!("{}_PORT", self.name().to_uppercase())
    }

    /// The environment variable by which its callers in [`Stack::Rest`] know its address; `None` for a service without callers.
    pub const fn url_variable(self) -> Option<&'static str> {
        match self {
            Service::Order | Service::Analytics => None,
            Service::Inventory => Some("INVENTORY_URL"),
            Service::Notification => Some("NOTIFICATION_URL"),
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A stack with everything that depends on it, for the JSON document.
#[derive(Serialize)]
pub(crate) struct StackFacts {
    name: Stack,
    mode: Mode,
    profile: Option<Profile>,
    folder: &'static str,
    services: Vec<ServiceFacts>,
    broker: Option<BrokerPorts>,
    lab_broker: Option<BrokerPorts>,
    seed: std::collections::BTreeMap<&'static str, i64>,
    topology: Option<&'static Topology>,
    logs: &'static [&'static Log],
}

#[derive(Serialize)]
struct ServiceFacts {
    name: Service,
    program: &'static str,
    container: &'static str,
    port: u16,
    lab_port: u16,
}

pub(crate) fn stack(name: Stack) -> StackFacts {
    let (ports, lab_ports) = (name.ports(), name.lab_ports());
    let service = |service: Service| ServiceFacts {
        name: service,
        program: service.program(),
        container: name.container(service),
        port: ports.service(service),
        lab_port: lab_ports.service(service),
    };
    StackFacts {
        name,
        mode: name.mode(),
        profile: name.profile(),
        folder: name.folder(),
        services: name.services().iter().copied().map(service).collect(),
        broker: ports.broker,
        lab_broker: lab_ports.broker,
        seed: name.seed().iter().copied().collect(),
        topology: name.topology(),
        logs: name.logs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stacks_share_a_host_port() {
        let mut ports: Vec<u16> = Stack::ALL
            .into_iter()
            .flat_map(|stack| {
                let ports = stack.ports();
                let broker = match ports.broker {
                    Some(BrokerPorts::RabbitMq { amqp, management, metrics }) => {
                        vec![amqp, management, metrics]
                    }
                    Some(BrokerPorts::Kafka { kafka }) => vec![kafka],
                    None => vec![],
                };
                stack.services().iter().map(move |service| ports.service(*service)).chain(broker)
            })
            .chain(MONITORING)
            .collect();
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), all, "{ports:?}");
    }

    #[test]
    fn a_topic_is_called_after_its_exchange_and_its_key() {
        for topic in topics::ALL {
            assert_eq!(topic.name, format!("{}/{}", topic.topology.exchange, topic.key));
        }
    }

    #[test]
    fn the_place_in_the_list_is_the_place_among_the_ports() {
        for stack in Stack::ALL {
            for (place, service) in stack.services().iter().enumerate() {
                assert_eq!(usize::from(service.place()), place, "{stack}: {service}");
            }
        }
    }
}
