//! The parts of other files that follow from the contract. In each file a line with `contract: NAME` begins a part, and a line with
//! `contract: end` ends it. `./study contract --write` writes the parts; a test compares them.

use std::fmt::Write;

use crate::{BrokerPorts, Mode, Monitoring, Scenario, Service, campus, document, scenarios_of};

/// A file with parts that follow from the contract.
pub struct DerivedFile {
    /// Relative to the root of the project.
    pub path: String,
    content: Content,
}

enum Content {
    Whole(String),
    /// Names of the parts, and their lines.
    Parts(Vec<(&'static str, String)>),
}

impl DerivedFile {
    fn with_parts(path: impl Into<String>, parts: Vec<(&'static str, String)>) -> DerivedFile {
        DerivedFile { path: path.into(), content: Content::Parts(parts) }
    }

    /// The text of the file as the contract has it; `current` is its text now.
    ///
    /// # Errors
    /// When the marks of a part are missing in `current`.
    pub fn updated(&self, current: &str) -> Result<String, String> {
        match &self.content {
            Content::Whole(text) => Ok(text.clone()),
            Content::Parts(parts) => parts.iter().try_fold(current.to_owned(), |text, (name, lines)| {
                replaced(&text, name, lines)
                    .ok_or_else(|| format!("{} lacks the marks of `{name}`", self.path))
            }),
        }
    }
}

/// Every file with parts that follow from the contract.
///
/// # Errors
/// When the contract cannot be represented as JSON.
pub fn derived_files() -> serde_json::Result<Vec<DerivedFile>> {
    let json = serde_json::to_string_pretty(&document())? + "\n";
    let mut files = vec![
        DerivedFile { path: "k6-tests/contract.json".to_owned(), content: Content::Whole(json) },
        DerivedFile::with_parts(".env.example", vec![("ports", port_settings())]),
        DerivedFile::with_parts("README.md", vec![("services", service_table())]),
        DerivedFile::with_parts("containers/postgres-init.sh", vec![("services", logins())]),
        DerivedFile::with_parts(
            "prometheus/rules.yml",
            vec![("scenarios", acknowledge_rules()), ("services", expected_services())],
        ),
    ];
    files.push(campus_prometheus(0, &[]));
    let targets = |mode| DerivedFile::with_parts(prometheus(mode), vec![("services", scrape_targets())]);
    files.extend(Mode::ALL.map(targets));
    Ok(files)
}

/// The configuration of the Prometheus that scrapes this mode's containers.
fn prometheus(mode: Mode) -> String {
    format!("prometheus/prometheus-{mode}.yml")
}

/// The configuration of the Prometheus that scrapes the stacks of the campus lab. Each stack has its default ports, but for those
/// in `elsewhere`; all ports are moved by `offset`.
pub fn campus_prometheus(offset: u16, elsewhere: &[(campus::Stack, campus::Ports)]) -> DerivedFile {
    let stacks = campus::Stack::ALL.map(|stack| {
        let other = elsewhere.iter().find(|(of, _)| *of == stack);
        (stack, other.map_or_else(|| stack.ports(), |(_, ports)| *ports))
    });
    let target = |stack: campus::Stack, service: &str, port: u16| {
        format!(
            r#"      - {{ targets: ["127.0.0.1:{}"], labels: {{ service: {service}, stack: {stack} }} }}"#,
            port + offset
        )
    };
    let services = stacks.iter().flat_map(|(stack, ports)| {
        let services = stack.services().iter();
        services.map(|service| target(*stack, stack.container(*service), ports.service(*service)))
    });
    let brokers = stacks.iter().filter_map(|(stack, ports)| match ports.broker? {
        BrokerPorts::RabbitMq { metrics, .. } => Some(target(*stack, "rabbitmq", metrics)),
        // It has no metrics of its own; each service tells of its groups.
        BrokerPorts::Kafka { .. } => None,
    });
    let own = format!("      - {{ targets: [\"127.0.0.1:{}\"] }}\n", campus::MONITORING[0] + offset);
    let each = |target: String| target;
    DerivedFile::with_parts(
        "prometheus/prometheus-campus.yml",
        vec![("services", lines(services, each)), ("brokers", lines(brokers, each)), ("prometheus", own)],
    )
}

/// `text` with other lines in the part `name`; `None` without its marks.
fn replaced(text: &str, name: &str, lines: &str) -> Option<String> {
    let mark = format!("contract: {name}");
    let marked = text.find(&format!("{mark} ")).or_else(|| text.find(&format!("{mark}\n")))?;
    let begin = marked + text[marked..].find('\n')? + 1;
    let last = begin + text[begin..].find("contract: end")?;
    let end = text[..last].rfind('\n')? + 1;
    Some(format!("{}{lines}{}", &text[..begin], &text[end..]))
}

fn lines<T>(items: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    items.into_iter().fold(String::new(), |mut all, item| {
        all.push_str(&line(item));
        all.push('\n');
        all
    })
}

/// Of `.env.example`: every host port of the compose files.
fn port_settings() -> String {
    let mut all = String::new();
    let mut setting = |name: &str, mode: Mode, port: u16| {
        let (name, mode) = (name.to_uppercase(), mode.as_str().to_uppercase());
        writeln!(all, "#{name}_{mode}_PORT={port}").ok();
    };
    for mode in Mode::ALL {
        for service in Service::ALL {
            setting(service.name(), mode, mode.ports().service(service));
        }
        setting("postgres", mode, mode.ports().postgres);
        for (server, port) in Monitoring::ALL.into_iter().zip(mode.ports().monitoring) {
            setting(server.name(), mode, port);
        }
    }
    all
}

/// Of README: the services and the servers with their host ports.
fn service_table() -> String {
    let modes = Mode::ALL.map(Mode::as_str).join(" | ");
    let mut all = format!(
        "| service | {modes} | scenarios | stores |\n|---|{}---|---|\n",
        "---|".repeat(Mode::ALL.len())
    );
    all.push_str(&lines(Service::ALL, |service| {
        let ports = Mode::ALL.map(|mode| mode.ports().service(service).to_string()).join(" | ");
        let scenarios: Vec<String> = scenarios_of(service).iter().map(ToString::to_string).collect();
        let stores = service.stores().unwrap_or("nothing durable");
        format!("| {service} | {ports} | {} | {stores} |", scenarios.join(", "))
    }));
    let databases = Mode::ALL.map(|mode| mode.ports().postgres.to_string()).join(" | ");
    let rabbitmq = Mode::ALL.map(|mode| match mode.ports().broker {
        Some(BrokerPorts::RabbitMq { amqp, management, metrics }) => {
            format!("{amqp}, {management}, {metrics}")
        }
        _ => "-".to_owned(),
    });
    let kafka = Mode::ALL.map(|mode| match mode.ports().broker {
        Some(BrokerPorts::Kafka { kafka }) => kafka.to_string(),
        _ => "-".to_owned(),
    });
    all + &format!("| PostgreSQL | {databases} | | `microservices_db`, a schema and a login per service |\n")
        + &format!("| RabbitMQ: AMQP, management, metrics | {} | | guest, guest |\n", rabbitmq.join(" | "))
        + &format!("| Kafka | {} | | |\n", kafka.join(" | "))
}

/// Of the script that prepares the database container.
fn logins() -> String {
    format!("logins=\"{}\"\n", Service::ALL.map(Service::name).join(" "))
}

/// Of Prometheus' configuration: a DNS name for each service.
fn scrape_targets() -> String {
    lines(Service::ALL, |service| format!("          - {service}"))
}

/// Of Prometheus' rules: the time to acknowledge, from the request that starts a scenario.
fn acknowledge_rules() -> String {
    lines(Scenario::ALL, |scenario| {
        let (_, method, route) = scenario.entrance();
        let series =
            format!(r#"http_request_duration_seconds_bucket{{method="{method}", handler="{route}"}}"#);
        format!(
            "      - record: scenario:acknowledge_seconds_bucket:rate1m\n        expr: sum by (mode, le) \
             (rate({series}[1m]))\n        labels: {{ scenario: {} }}",
            scenario.key()
        )
    })
}

/// Of Prometheus' rules: a series for each service, also while no instance has a target.
fn expected_services() -> String {
    lines(Service::ALL, |service| {
        format!(
            r#"      - {{ record: "service:expected", expr: vector(1), labels: {{ service: {service} }} }}"#
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_between_its_marks() {
        let text = "a\n# contract: x (by a tool)\nold\nold\n# contract: end\nb\n";
        let new = replaced(text, "x", "new\n").unwrap();
        assert_eq!(new, "a\n# contract: x (by a tool)\nnew\n# contract: end\nb\n");
        assert_eq!(replaced(&new, "x", "new\n").unwrap(), new);
        assert_eq!(replaced(text, "y", ""), None);
    }
}
