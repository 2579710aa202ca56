//! Files that are not Rust agree with the contract. A failing test names the file to correct, or the command that writes it.

use std::fs;
use std::path::Path;

use contract::{BrokerPorts, Mode, Monitoring, Service, campus};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[track_caller]
fn assert_contains(file: &str, text: &str, part: &str) {
    assert!(text.contains(part), "{file} lacks: {part}");
}

#[test]
fn every_derived_file_is_up_to_date() {
    for file in contract::derived_files().unwrap() {
        let current = read(&file.path);
        let updated = file.updated(&current).unwrap();
        assert!(updated == current, "{}: run ./study contract --write", file.path);
    }
}

#[test]
fn the_compose_files_publish_the_ports_of_the_contract() {
    for mode in Mode::ALL {
        let file = format!("docker-compose-{mode}.yml");
        let (text, ports) = (read(&file), mode.ports());
        let suffix = format!("{}_PORT", mode.as_str().to_uppercase());
        for service in Service::ALL {
            let variable = format!("{}_{suffix}", service.name().to_uppercase());
            assert_contains(&file, &text, &format!("${{{variable}:-{}}}:", ports.service(service)));
        }
        assert_contains(&file, &text, &format!("${{POSTGRES_{suffix}:-{}}}:5432", ports.postgres));
        for (server, port) in Monitoring::ALL.into_iter().zip(ports.monitoring) {
            let variable = format!("{}_{suffix}", server.name().to_uppercase());
            assert_contains(&file, &text, &format!("${{{variable}:-{port}}}:{}", server.container_port()));
        }
        let of_broker = match ports.broker {
            None => vec![],
            Some(BrokerPorts::RabbitMq { amqp, management, metrics }) => vec![amqp, management, metrics],
            Some(BrokerPorts::Kafka { kafka }) => vec![kafka],
        };
        for port in of_broker {
            assert_contains(&file, &text, &format!(":-{port}}}:{port}"));
        }
    }
}

#[test]
fn processes_and_containers_have_the_same_kafka() {
    let pom = read("harness/stack/kafka/pom.xml");
    let version = pom
        .split("<artifactId>kafka_2.13</artifactId>")
        .nth(1)
        .and_then(|rest| rest.split(['<', '>']).nth(2));
    let image = format!("image: apache/kafka:{}\n", version.unwrap());
    assert_contains("docker-compose-stream.yml", &read("docker-compose-stream.yml"), &image);
}

#[test]
fn the_compose_files_of_the_campus_lab_are_those_of_the_contract() {
    for stack in campus::Stack::ALL {
        let file = format!("{}/docker-compose.yml", stack.folder());
        let (text, ports, lab, mode) = (read(&file), stack.ports(), stack.lab_ports(), stack.mode());
        assert_contains(&file, &text, &format!("\nname: campus-{stack}\n"));
        let mut lab_env = String::new();
        let mut published = |variable: &str, port: u16, lab_port: u16, container_port: u16| {
            let line = format!(
                "\"${{{}:-127.0.0.1}}:${{{variable}:-{port}}}:{container_port}\"",
                campus::BIND_ADDRESS
            );
            assert_contains(&file, &text, &line);
            if lab_port != port {
                lab_env += &format!("{variable}={lab_port}\n");
            }
        };
        for &service in stack.services() {
            let (program, schema) = (service.program(), service.schema());
            let name = stack.container(service);
            assert_contains(&file, &text, &format!("\n  {name}:\n    <<: *service\n"));
            assert_contains(&file, &text, &format!("SERVICE: {program}, MODE: {mode},"));
            assert_contains(&file, &text, &format!("POSTGRES_USER: {schema}\n"));
            let (port, lab_port) = (ports.service(service), lab.service(service));
            published(&service.port_variable(), port, lab_port, Service::CONTAINER_PORT);
            if let (Mode::Sync, Some(variable)) = (mode, service.url_variable()) {
                assert_contains(
                    &file,
                    &text,
                    &format!("{variable}: http://{name}:{}\n", Service::CONTAINER_PORT),
                );
            }
        }
        match (ports.broker, lab.broker) {
            (
                Some(BrokerPorts::RabbitMq { amqp, management, metrics }),
                Some(BrokerPorts::RabbitMq {
                    amqp: lab_amqp,
                    management: lab_management,
                    metrics: lab_metrics,
                }),
            ) => {
                published(campus::AMQP_PORT, amqp, lab_amqp, 5672);
                published(campus::MANAGEMENT_PORT, management, lab_management, 15672);
                published(campus::METRICS_PORT, metrics, lab_metrics, 15692);
            }
            (Some(BrokerPorts::Kafka { kafka }), Some(BrokerPorts::Kafka { kafka: lab_kafka })) => {
                published(campus::KAFKA_PORT, kafka, lab_kafka, 29092);
                let advertised = format!("OUTSIDE://localhost:${{{}:-{kafka}}}", campus::KAFKA_PORT);
                assert_contains(&file, &text, &advertised);
            }
            _ => assert_eq!(mode, Mode::Sync, "{file}"),
        }
        let logins: Vec<String> = stack.services().iter().map(|service| service.schema()).collect();
        let logins = logins.join(" ");
        assert_contains(&file, &text, &format!("LOGINS: {logins}\n"));
        let profile =
            stack.profile().map(|profile| format!("{}: \"{}\"\n", campus::PROFILE, profile.as_str()));
        assert_contains(&file, &text, &profile.unwrap_or_default());
        assert!(!text.contains(":5432\""), "{file} publishes PostgreSQL");
        let file = format!("{}/lab.env", stack.folder());
        let settings: String = read(&file).lines().skip(1).map(|line| format!("{line}\n")).collect();
        assert_eq!(settings, lab_env, "{file}");
    }
}

#[test]
fn the_monitoring_of_the_campus_lab_has_the_ports_of_the_contract() {
    let [prometheus, grafana] = campus::MONITORING;
    let file = "campus/docker-compose-monitoring.yml";
    let text = read(file);
    assert_contains(file, &text, &format!("--web.listen-address=127.0.0.1:{prometheus}\n"));
    assert_contains(file, &text, &format!("PROMETHEUS_CAMPUS_URL: http://127.0.0.1:{prometheus}\n"));
    assert_contains(file, &text, &format!("GF_SERVER_HTTP_PORT: {grafana}\n"));
    for file in ["docker-compose-sync.yml", "docker-compose-async.yml", "grafana/docker-compose-compare.yml"]
    {
        let text = read(file);
        let line = format!("PROMETHEUS_CAMPUS_URL: http://host.docker.internal:{prometheus}\n");
        assert_contains(file, &text, &line);
    }
}
