//! The compose files filled in with the user's `.env`, as `docker compose config` prints them.

use anyhow::{Context, Result};
use contract::Monitoring;
use contract::Service;
use serde_json::Value;

use crate::broker::BrokerPorts;
use crate::ports::Ports;
use crate::{Mode, modes};

/// The port of every service in its own container. The gateway listens on the ports of the contract.
const SERVICE: u16 = 8000;

#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    user: String,
    password: String,
}

impl Login {
    /// `user:password`, percent-encoded.
    pub fn in_url(&self) -> String {
        format!("{}:{}", encoded(&self.user), encoded(&self.password))
    }
}

pub struct Effective {
    pub ports: Ports,
    pub postgres: Login,
    pub database: String,
    pub broker: Option<Login>,
}

impl Effective {
    /// From the JSON of `docker compose config`.
    pub fn parse(text: &str, mode: Mode, monitoring: bool) -> Result<Self> {
        let config: Value = serde_json::from_str(text).context("docker compose config cannot be read")?;
        let services = &config["services"];
        let environment = |service: &str, name: &str| -> Result<String> {
            let value = services[service]["environment"][name].as_str();
            let value = value.with_context(|| format!("the compose file gives {service} no {name}"))?;
            // The output is a valid compose file, in which dollar signs are escaped.
            Ok(value.replace("$$", "$"))
        };
        let login = |service: &str, user: &str, password: &str| {
            anyhow::Ok(Login { user: environment(service, user)?, password: environment(service, password)? })
        };
        let port = |service: &str, target: u16| {
            let port = published(&services[service], target);
            port.with_context(|| format!("the compose file publishes no port {target} of {service}"))
        };
        let mut ports = Ports {
            postgres: port("postgres", 5432)?,
            broker: None,
            services: Vec::new(),
            monitoring: Vec::new(),
        };
        for (service, at_gateway) in Service::ALL.iter().zip(SERVICE + 1..) {
            let own = published(&services[service.name()], SERVICE);
            ports.services.push(own.map_or_else(|| port("gateway", at_gateway), Ok)?);
        }
        if monitoring {
            ports.monitoring = Monitoring::ALL
                .map(|server| port(server.name(), server.container_port()))
                .into_iter()
                .collect::<Result<_>>()?;
        }
        let mut broker = None;
        if let Some(server) = modes::broker(mode) {
            if let Some([(user, _), (password, _)]) = server.container_login() {
                broker = Some(login(server.name(), user, password)?);
            }
            let mut published =
                server.container_ports().iter().map(|(target, _)| port(server.name(), *target));
            ports.broker = Some(BrokerPorts {
                server,
                client: published.next().context("the broker publishes no port")??,
                management: published.next().transpose()?,
                metrics: published.next().transpose()?,
                internal: Vec::new(),
            });
        }
        Ok(Self {
            ports,
            postgres: login("postgres", "POSTGRES_USER", "POSTGRES_PASSWORD")?,
            database: environment("postgres", "POSTGRES_DB")?,
            broker,
        })
    }
}

/// The host's port for a port of a container. Some versions print text, others a number.
fn published(service: &Value, target: u16) -> Option<u16> {
    let ports = service["ports"].as_array()?;
    let port = &ports.iter().find(|port| port["target"] == target)?["published"];
    match port.as_str() {
        Some(text) => text.parse().ok(),
        None => port.as_u64().and_then(|number| u16::try_from(number).ok()),
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Value {
        let port = |target: u16, published: Value| json!({"target": target, "published": published});
        let mut services = serde_json::Map::new();
        let behind = ["emailservice", "searchservice", "inventoryservice"];
        for (service, published) in Service::ALL.iter().zip(9101..) {
            let ports =
                (!behind.contains(&service.name())).then(|| [port(8000, json!(published.to_string()))]);
            services.insert(service.name().to_owned(), json!({ "ports": ports }));
        }
        let text = |target: u16, published: &str| port(target, json!(published));
        let gateway = [text(8007, "9107"), text(8008, "9108"), text(8010, "9110")];
        services.insert("gateway".into(), json!({ "ports": gateway }));
        services.insert("postgres".into(), json!({
            "environment": {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "a$$b/c", "POSTGRES_DB": "db"},
            "ports": [port(5432, json!(6433))],
        }));
        services.insert(
            "rabbitmq".into(),
            json!({
                "environment": {"RABBITMQ_DEFAULT_USER": "me", "RABBITMQ_DEFAULT_PASS": "secret"},
                "ports": [text(5672, "1"), text(15672, "2"), text(15692, "3")],
            }),
        );
        json!({ "services": services })
    }

    #[test]
    fn ports_and_logins_are_those_that_compose_uses() {
        let effective = Effective::parse(&example().to_string(), Mode::Async, false).unwrap();
        assert_eq!(effective.ports.services, (9101..9111).collect::<Vec<u16>>());
        assert_eq!(effective.ports.postgres, 6433);
        assert_eq!(effective.ports.broker.unwrap().all(), [1, 2, 3]);
        assert_eq!(effective.postgres.in_url(), "postgres:a$b%2Fc");
        assert_eq!(effective.broker.unwrap().in_url(), "me:secret");
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut config = example();
        config["services"]["gateway"]["ports"] = json!([]);
        let error = Effective::parse(&config.to_string(), Mode::Sync, false).err().unwrap();
        assert_eq!(error.to_string(), "the compose file publishes no port 8007 of gateway");
        let error = Effective::parse(&example().to_string(), Mode::Sync, true).err().unwrap();
        assert_eq!(error.to_string(), "the compose file publishes no port 9090 of prometheus");
    }
}
