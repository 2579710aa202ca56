//! The modes, and the ports that each publishes on the host.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Service;

/// How the services communicate. Never behind a cargo feature: cargo unifies the features of a shared crate over all
/// services, so only a service's own `match` says which modes it was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Blocking HTTP calls.
    Sync,
    /// RabbitMQ events.
    Async,
    /// Kafka events.
    Stream,
}

/// Host ports of one mode. Inside its container every service listens on [`Service::CONTAINER_PORT`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ports {
    /// Of the first service; the others follow in the order of [`Service::ALL`].
    pub first_service: u16,
    pub postgres: u16,
    pub broker: Option<BrokerPorts>,
    /// In the order of [`Monitoring::ALL`].
    pub monitoring: [u16; 3],
}

/// Host ports of a broker.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum BrokerPorts {
    RabbitMq {
        amqp: u16,
        management: u16,
        /// Its Prometheus metrics.
        metrics: u16,
    },
    Kafka {
        kafka: u16,
    },
}

/// The servers that can observe a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Monitoring {
    Prometheus,
    Grafana,
    Cadvisor,
}

impl Monitoring {
    pub const ALL: [Monitoring; 3] = [Monitoring::Prometheus, Monitoring::Grafana, Monitoring::Cadvisor];

    pub const fn name(self) -> &'static str {
        match self {
            Monitoring::Prometheus => "prometheus",
            Monitoring::Grafana => "grafana",
            Monitoring::Cadvisor => "cadvisor",
        }
    }

    /// The port inside its container.
    pub const fn container_port(self) -> u16 {
        match self {
            Monitoring::Prometheus => 9090,
            Monitoring::Grafana => 3000,
            Monitoring::Cadvisor => 8080,
        }
    }
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Sync, Mode::Async, Mode::Stream];
    /// The modes that experiments, fault runs and boards handle.
    pub const COMPARED: [Mode; 2] = [Mode::Sync, Mode::Async];

    /// The word in `COMM_MODE`, `/health` and `build_info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Sync => "sync",
            Mode::Async => "async",
            Mode::Stream => "stream",
        }
    }

    /// How services in this mode communicate, for people.
    pub const fn description(self) -> &'static str {
        match self {
            Mode::Sync => "blocking HTTP calls",
            Mode::Async => "RabbitMQ events",
            Mode::Stream => "Kafka events",
        }
    }

    /// The mode to run in: what `COMM_MODE` says, or the only one that was compiled in.
    ///
    /// # Errors
    /// One line that names the setting, when it is missing where several modes were compiled in, or names one that was not.
    pub fn choose(setting: Option<Mode>, compiled: &[Mode]) -> Result<Mode, String> {
        match (setting, compiled) {
            (None, [only]) => Ok(*only),
            (None, _) => {
                let names: Vec<_> = compiled.iter().map(|mode| mode.as_str()).collect();
                Err(format!("COMM_MODE is missing: set it to {}", names.join(" or ")))
            }
            (Some(mode), _) if compiled.contains(&mode) => Ok(mode),
            (Some(mode), _) => {
                Err(format!("COMM_MODE={mode}: this binary was built without the feature `{mode}`"))
            }
        }
    }

    /// Whether services communicate by events through a broker, rather than by calls.
    pub const fn has_broker(self) -> bool {
        self.ports().broker.is_some()
    }

    pub const fn ports(self) -> Ports {
        match self {
            Mode::Sync => {
                Ports { first_service: 8001, postgres: 5432, broker: None, monitoring: [9090, 3000, 8080] }
            }
            Mode::Async => Ports {
                first_service: 8101,
                postgres: 5433,
                broker: Some(BrokerPorts::RabbitMq { amqp: 5672, management: 15672, metrics: 15692 }),
                monitoring: [9091, 3001, 8081],
            },
            Mode::Stream => Ports {
                first_service: 8301,
                postgres: 5434,
                broker: Some(BrokerPorts::Kafka { kafka: 9094 }),
                monitoring: [9095, 3002, 8082],
            },
        }
    }
}

impl Ports {
    pub const fn service(&self, service: Service) -> u16 {
        self.first_service + service as u16
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_with_one_mode_needs_no_setting_and_refuses_the_other() {
        assert_eq!(Mode::choose(None, &[Mode::Sync]), Ok(Mode::Sync));
        assert!(Mode::choose(Some(Mode::Async), &[Mode::Sync]).is_err_and(|e| e.contains("COMM_MODE=async")));
    }

    #[test]
    fn a_binary_with_several_modes_needs_the_setting() {
        let missing = Mode::choose(None, &Mode::ALL);
        assert!(missing.is_err_and(|e| e == "COMM_MODE is missing: set it to sync or async or stream"));
        assert_eq!(Mode::choose(Some(Mode::Async), &Mode::ALL), Ok(Mode::Async));
    }
}
