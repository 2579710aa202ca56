//! Files that are not Rust agree with the contract. A failing test names the file to correct, or the command that writes it.

use std::fs;
use std::path::Path;

use contract::{Mode, Monitoring, Service};

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
        assert_eq!(
            file.updated(&current).as_ref(),
            Ok(&current),
            "{}: run ./study contract --write",
            file.path
        );
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
