//! The variables of a compose file for a stack: its host ports, and its options.

use anyhow::Result;
use contract::{Monitoring, Service};

use crate::ports::Ports;
use crate::{Layout, Mode, StackOptions, modes, postgres};

/// No ports for `up` without an offset: they come from the user's `.env`.
pub(super) fn of(mode: Mode, options: &StackOptions) -> Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    if options.servers_only {
        env.extend(ports(mode, &Ports::free(mode)?));
    } else if options.fresh {
        // k6 knows the contract's ports.
        env.extend(ports(mode, &Ports::contract(mode, options.port_offset)?));
    } else if options.port_offset > 0 {
        env.extend(ports(mode, &Layout::study(mode).moved(options.port_offset, Monitoring::ALL.len())?));
    }
    if options.fresh {
        // Temporary data: the logins are those of local servers.
        let mut fixed = vec![("BIND_ADDRESS", "127.0.0.1"), ("POSTGRES_PASSWORD", postgres::SUPERUSER)];
        if let Some((server, [(_, name), (_, secret)])) =
            modes::broker(mode).and_then(|server| Some((server, server.container_login()?)))
            && let Some((user, password)) = server.local_login().split_once(':')
        {
            fixed.extend([(name, user), (secret, password)]);
        }
        env.extend(fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    env.extend(options.env.iter().cloned());
    Ok(env)
}

fn ports(mode: Mode, ports: &Ports) -> Vec<(String, String)> {
    let of_mode = |name: &str| format!("{}_{}_PORT", name.to_uppercase(), mode.to_string().to_uppercase());
    let mut all = vec![(of_mode("postgres"), ports.postgres)];
    all.extend(
        Service::ALL.iter().zip(&ports.services).map(|(service, port)| (of_mode(service.name()), *port)),
    );
    all.extend(
        Monitoring::ALL.iter().zip(&ports.monitoring).map(|(server, port)| (of_mode(server.name()), *port)),
    );
    if let Some(broker) = &ports.broker {
        let variables = broker.server.container_ports().iter().map(|(_, variable)| (*variable).to_owned());
        all.extend(variables.zip(broker.all()));
    }
    all.into_iter().map(|(name, port)| (name, port.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        env.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn up_leaves_the_ports_to_the_user_unless_they_are_moved() {
        assert!(of(Mode::Sync, &StackOptions::default()).unwrap().is_empty());
        let options = StackOptions { port_offset: 5000, ..StackOptions::default() };
        let env = of(Mode::Async, &options).unwrap();
        for (name, port) in [
            ("USERSERVICE_ASYNC_PORT", "13101"),
            ("INVENTORYSERVICE_ASYNC_PORT", "13110"),
            ("POSTGRES_ASYNC_PORT", "10433"),
            ("RABBITMQ_PORT", "10672"),
            ("RABBITMQ_MANAGEMENT_PORT", "20672"),
            ("RABBITMQ_PROMETHEUS_PORT", "20692"),
            ("PROMETHEUS_ASYNC_PORT", "14091"),
            ("GRAFANA_ASYNC_PORT", "8001"),
            ("CADVISOR_ASYNC_PORT", "13081"),
        ] {
            assert_eq!(value(&env, name), Some(port), "{name}");
        }
        assert_eq!(value(&env, "POSTGRES_PASSWORD"), None);
    }

    #[test]
    fn a_comparison_has_the_contracts_ports_and_its_own_delays() {
        let env = vec![("EMAIL_DELAY_MS".to_owned(), "7".to_owned())];
        let env = of(Mode::Sync, &StackOptions { fresh: true, env, ..StackOptions::default() }).unwrap();
        assert_eq!(value(&env, "USERSERVICE_SYNC_PORT"), Some("8001"));
        assert_eq!(value(&env, "EMAIL_DELAY_MS"), Some("7"));
        assert_eq!(value(&env, "BIND_ADDRESS"), Some("127.0.0.1"));
        assert_eq!(value(&env, "PROMETHEUS_SYNC_PORT"), None);
    }
}
