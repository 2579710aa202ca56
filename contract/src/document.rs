//! The contract as one JSON document, for what is not Rust: boards, load scripts, Prometheus' targets, compose files.

use serde::Serialize;

use crate::calls::Call;
use crate::events::{Event, Queue};
use crate::{
    Effect, Failpoint, Mode, Monitoring, Ports, Protection, Scenario, Service, calls, campus, effects,
    events, headers,
};

#[derive(Serialize)]
pub struct Document {
    services: Vec<ServiceFacts>,
    modes: Vec<ModeFacts>,
    scenarios: Vec<ScenarioFacts>,
    effects: &'static [Effect],
    calls: &'static [Call],
    events: &'static [Event],
    queues: Vec<QueueFacts>,
    headers: Vec<&'static str>,
    failpoints: Vec<FailpointFacts>,
    protections: &'static [Protection],
    campus: Vec<campus::StackFacts>,
}

#[derive(Serialize)]
struct ServiceFacts {
    name: Service,
    url_variable: String,
    stores: Option<&'static str>,
    scenarios: Vec<Scenario>,
    container_port: u16,
}

#[derive(Serialize)]
struct ModeFacts {
    name: Mode,
    /// Whether [`Mode::COMPARED`] has it.
    compared: bool,
    description: &'static str,
    ports: Ports,
    services: Vec<ServicePort>,
    monitoring: Vec<MonitoringPort>,
}

#[derive(Serialize)]
struct ServicePort {
    service: Service,
    port: u16,
}

#[derive(Serialize)]
struct MonitoringPort {
    name: Monitoring,
    port: u16,
}

#[derive(Serialize)]
struct ScenarioFacts {
    key: Scenario,
    title: &'static str,
    description: &'static str,
    service: Service,
    method: &'static str,
    path: &'static str,
    delay_setting: Option<&'static str>,
}

#[derive(Serialize)]
struct QueueFacts {
    #[serde(flatten)]
    queue: Queue,
    dead_letters: String,
    event: &'static str,
    writer: Service,
}

#[derive(Serialize)]
struct FailpointFacts {
    name: &'static str,
    modes: Vec<Mode>,
}

/// The scenarios in which a service takes part: it serves the first request, a final effect happens in it, or it is called.
pub fn scenarios_of(service: Service) -> Vec<Scenario> {
    let takes_part = |scenario: &Scenario| {
        scenario.entrance().0 == service
            || effects::ALL
                .iter()
                .any(|effect| effect.scenario == scenario.key() && effect.service == service.name())
            || calls::ALL.iter().any(|call| call.scenario == *scenario && call.peer == service)
    };
    Scenario::ALL.into_iter().filter(takes_part).collect()
}

/// Everything that the contract says.
pub fn document() -> Document {
    Document {
        services: Service::ALL.into_iter().map(service).collect(),
        modes: Mode::ALL.into_iter().map(mode).collect(),
        scenarios: Scenario::ALL.into_iter().map(scenario).collect(),
        effects: &effects::ALL,
        calls: calls::ALL,
        events: events::ALL,
        queues: events::ALL.iter().flat_map(queues).collect(),
        headers: headers::ALL.to_vec(),
        failpoints: Failpoint::ALL.into_iter().map(failpoint).collect(),
        protections: &Protection::ALL,
        campus: campus::Stack::ALL.into_iter().map(campus::stack).collect(),
    }
}

fn service(service: Service) -> ServiceFacts {
    ServiceFacts {
        name: service,
        url_variable: service.url_variable(),
        stores: service.stores(),
        scenarios: scenarios_of(service),
        container_port: Service::CONTAINER_PORT,
    }
}

fn mode(mode: Mode) -> ModeFacts {
    let ports = mode.ports();
    ModeFacts {
        name: mode,
        compared: Mode::COMPARED.contains(&mode),
        description: mode.description(),
        ports,
        services: Service::ALL.map(|service| ServicePort { service, port: ports.service(service) }).into(),
        monitoring: Monitoring::ALL
            .into_iter()
            .zip(ports.monitoring)
            .map(|(name, port)| MonitoringPort { name, port })
            .collect(),
    }
}

fn scenario(key: Scenario) -> ScenarioFacts {
    let (service, method, path) = key.entrance();
    ScenarioFacts {
        key,
        title: key.title(),
        description: key.description(),
        service,
        method,
        path,
        delay_setting: key.delay_setting(),
    }
}

fn queues(event: &'static Event) -> impl Iterator<Item = QueueFacts> {
    event.destination.queues().iter().map(|queue| QueueFacts {
        queue: *queue,
        dead_letters: queue.dead_letters(),
        event: event.name,
        writer: event.writer,
    })
}

fn failpoint(failpoint: Failpoint) -> FailpointFacts {
    let modes = Mode::ALL.into_iter().filter(|mode| failpoint.exists_in(*mode)).collect();
    FailpointFacts { name: failpoint.name(), modes }
}
