//! The campus lab: place an order, reserve stock, notify; over REST (`sync`) and over RabbitMQ (`async`).

use common::About;
use contract::Effect;
use contract::campus::{Service, effects};

const fn about(service: Service, description: &'static str, effects: &'static [Effect]) -> About {
    About {
        name: service.program(),
        version: env!("CARGO_PKG_VERSION"),
        description,
        scenarios: &[],
        effects,
        migrations: None,
        modes: common::modes!(),
    }
}

pub const ORDER: About = about(Service::Order, "Takes orders", &[effects::ORDER]);
pub const INVENTORY: About = about(Service::Inventory, "Reserves stock for orders", &[]);
pub const NOTIFICATION: About =
    about(Service::Notification, "Notifies the customers of reserved orders", &[effects::NOTIFICATION]);
