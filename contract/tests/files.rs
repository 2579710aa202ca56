//! Files that are not Rust say what the contract says. Each test names the file to correct, or the command that writes it.

use std::fs;
use std::path::Path;

use contract::{Mode, Monitoring, Scenario, Service};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[track_caller]
fn assert_contains(file: &str, text: &str, part: &str) {
    assert!(text.contains(part), "{file} lacks: {part}");
}

/// The items of the YAML list that follows the line `key:`.
fn yaml_list(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != key).skip(1);
    lines.map_while(|line| line.strip_prefix("- ")).map(str::to_owned).collect()
}

#[test]
fn the_document_for_other_languages_is_up_to_date() {
    let file = "k6-tests/contract.json";
    let document = serde_json::to_string_pretty(&contract::document()).unwrap();
    assert_eq!(read(file), document + "\n", "write it again: ./study contract --json > {file}");
}

#[test]
fn prometheus_scrapes_every_service_in_containers() {
    for mode in Mode::ALL {
        let file = format!("prometheus/prometheus-{mode}.yml");
        assert_eq!(yaml_list(&read(&file), "- names:"), Service::ALL.map(Service::name), "{file}");
    }
}

#[test]
fn prometheus_has_a_rule_for_the_entrance_of_every_scenario() {
    let file = "prometheus/rules.yml";
    let rules = read(file);
    for scenario in Scenario::ALL {
        let (_, method, route) = scenario.entrance();
        assert_contains(file, &rules, &format!(r#"{{method="{method}", handler="{route}"}}"#));
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
        if let Some(broker) = ports.broker {
            for port in [broker.amqp, broker.management, broker.metrics] {
                assert_contains(&file, &text, &format!(":-{port}}}:{port}"));
            }
        }
    }
}

#[test]
fn the_example_of_settings_shows_the_ports_of_the_contract() {
    let file = ".env.example";
    let text = read(file);
    for mode in Mode::ALL {
        let (ports, suffix) = (mode.ports(), format!("{}_PORT", mode.as_str().to_uppercase()));
        for service in Service::ALL {
            let line = format!("#{}_{suffix}={}\n", service.name().to_uppercase(), ports.service(service));
            assert_contains(file, &text, &line);
        }
        assert_contains(file, &text, &format!("#POSTGRES_{suffix}={}\n", ports.postgres));
        for (server, port) in Monitoring::ALL.into_iter().zip(ports.monitoring) {
            assert_contains(file, &text, &format!("#{}_{suffix}={port}\n", server.name().to_uppercase()));
        }
    }
}

#[test]
fn the_database_container_makes_a_login_for_every_service() {
    let file = "containers/postgres-init.sh";
    let names: Vec<&str> = Service::ALL.iter().map(|service| service.short_name()).collect();
    assert_contains(file, &read(file), &format!("for service in {}; do", names.join(" ")));
}

#[test]
fn the_readme_lists_every_service_with_its_ports() {
    let (file, text) = ("README.md", read("README.md"));
    for service in Service::ALL {
        let ports = Mode::ALL.map(|mode| mode.ports().service(service).to_string()).join(" | ");
        let scenarios: Vec<String> =
            contract::scenarios_of(service).iter().map(ToString::to_string).collect();
        assert_contains(file, &text, &format!("| {service} | {ports} | {} |", scenarios.join(", ")));
    }
}
