//! `--monitoring` of `./study up` and `./study campus up`: a Prometheus beside the processes, with the configuration and rules of
//! the containers; and Grafana with the boards, where it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::{Service, campus, campus_prometheus};
use rustix::process::Signal;

use super::ports::Ports;
use super::process::{self, Process};
use super::run_as::Account;
use super::{Layout, Mode, project_root};

const LIMIT: Duration = Duration::from_secs(60);

/// The stack, its folders and ports.
pub struct Place<'a> {
    pub layout: &'a Layout,
    pub dir: &'a Path,
    pub logs: &'a Path,
    pub ports: &'a Ports,
}

/// Whether this machine has a Grafana.
pub fn has_grafana() -> bool {
    grafana().is_some()
}

/// Starts Prometheus, and Grafana if it is installed and has a port.
pub fn start(place: &Place<'_>) -> Result<Vec<Process>> {
    let [prometheus, others @ ..] = &place.ports.monitoring[..] else { bail!("no port for Prometheus") };
    let mut started = vec![start_prometheus(place, *prometheus)?];
    if let (Some(program), Some(port)) = (grafana(), others.first()) {
        started.push(start_grafana(place, &program, *prometheus, *port)?);
    }
    Ok(started)
}

fn start_prometheus(place: &Place<'_>, port: u16) -> Result<Process> {
    let Place { layout, dir, .. } = place;
    let (from, home) = (project_root()?.join("prometheus"), dir.join("prometheus"));
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    for rules in ["rules.yml", "alerts.yml"] {
        fs::copy(from.join(rules), home.join(rules)).with_context(|| format!("cannot copy {rules}"))?;
    }
    let committed = from.join(format!("prometheus-{}.yml", layout.board()));
    let committed =
        fs::read_to_string(&committed).with_context(|| format!("cannot read {}", committed.display()))?;
    fs::write(home.join("prometheus.yml"), configuration(&committed, layout, place.ports, port)?)?;
    let program = process::on_path("prometheus")
        .context("Prometheus is not installed (no prometheus on PATH): install the package prometheus")?;
    let mut command = Account::CALLER.server(&program, "TERM");
    command
        .arg(format!("--config.file={}", home.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        // k6 can send its own figures.
        .args(["--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=15d"]);
    let log = place.logs.join("prometheus.log");
    let mut process = Process::spawn("prometheus", port, log, Signal::TERM, &mut command)?;
    process.wait_for("prometheus", &format!("http://127.0.0.1:{port}/-/ready"), LIMIT)?;
    Ok(process)
}

/// The committed configuration with the addresses of the processes.
fn configuration(committed: &str, layout: &Layout, ports: &Ports, own: u16) -> Result<String> {
    let Some((stack, unmoved)) = layout.campus else {
        return of_containers(committed, layout.mode, ports, own);
    };
    // The other stacks of the lab, too, if they have the same offset.
    let offset = ports.services[0] - layout.ports.services[0];
    campus_prometheus(offset, &[(stack, unmoved)]).updated(committed).map_err(anyhow::Error::msg)
}

/// A configuration with the DNS names of containers: all of them are replaced.
fn of_containers(committed: &str, mode: Mode, ports: &Ports, own: u16) -> Result<String> {
    let mut jobs = committed.split("\n  - job_name: ");
    let mut text = jobs.next().unwrap_or_default().to_owned();
    for job in jobs {
        let name = job.lines().next().unwrap_or_default();
        let local = match name {
            "services" => services(mode, ports),
            // There are no containers.
            "cadvisor" => continue,
            "prometheus" => replaced(job, "localhost:9090", &format!("127.0.0.1:{own}"))?,
            _ => {
                let broker = ports.broker.as_ref().with_context(|| format!("no address for {name}"))?;
                let inside = broker.server.container_ports().last().map(|(metrics, _)| metrics);
                let (inside, outside) = inside.zip(broker.metrics).context("the broker has no metrics")?;
                replaced(job, &format!("{}:{inside}", broker.server.name()), &format!("127.0.0.1:{outside}"))?
            }
        };
        text += &format!("\n  - job_name: {local}");
    }
    Ok(text)
}

fn services(mode: Mode, ports: &Ports) -> String {
    let mut job = "services\n    static_configs:\n".to_owned();
    for (service, port) in Service::ALL.iter().zip(&ports.services) {
        job += &format!(
            "      - {{ targets: [\"127.0.0.1:{port}\"], labels: {{ service: {}, mode: {mode} }} }}\n",
            service.name()
        );
    }
    job
}

/// An error if the text does not contain `from`: the committed configuration has changed.
fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    if !text.contains(from) {
        bail!("{from} does not stand in {:?}", text.lines().next().unwrap_or_default());
    }
    Ok(text.replace(from, to))
}

fn grafana() -> Option<PathBuf> {
    process::on_path("grafana")
        .or_else(|| Some(PathBuf::from("/usr/share/grafana/bin/grafana")).filter(|file| file.is_file()))
}

fn start_grafana(place: &Place<'_>, program: &Path, prometheus: u16, port: u16) -> Result<Process> {
    let (from, home) = (project_root()?.join("grafana"), place.dir.join("grafana"));
    let dashboards = from.join("dashboards");
    for (file, container, here) in [
        ("datasources/prometheus.yml", "http://prometheus:9090", format!("http://127.0.0.1:{prometheus}")),
        ("dashboards/boards.yml", "/etc/grafana/dashboards", dashboards.display().to_string()),
    ] {
        let target = home.join("provisioning").join(file);
        fs::create_dir_all(target.parent().context("a file without a folder")?)?;
        let committed = fs::read_to_string(from.join("provisioning").join(file))?;
        fs::write(target, replaced(&committed, container, &here)?)?;
    }
    // All stacks have the same offset.
    let offset = prometheus - place.layout.ports.monitoring[0];
    let url = |of: &str, port: u16| {
        (format!("PROMETHEUS_{}_URL", of.to_uppercase()), format!("http://127.0.0.1:{}", port + offset))
    };
    let mut command = Account::CALLER.server(program, "TERM");
    command.envs(Mode::ALL.map(|mode| url(mode.as_str(), mode.ports().monitoring[0])));
    command.envs([url("campus", campus::MONITORING[0])]);
    command.args(["server", "--homepath", "/usr/share/grafana"]);
    let board = dashboards.join(format!("{}.json", place.layout.board()));
    for (name, value) in [
        ("GF_PATHS_DATA", home.display().to_string()),
        ("GF_PATHS_LOGS", home.display().to_string()),
        ("GF_PATHS_PROVISIONING", home.join("provisioning").display().to_string()),
        ("GF_SERVER_HTTP_ADDR", "127.0.0.1".to_owned()),
        ("GF_SERVER_HTTP_PORT", port.to_string()),
        ("GF_AUTH_ANONYMOUS_ENABLED", "true".to_owned()),
        ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer".to_owned()),
        ("GF_LOG_MODE", "console".to_owned()),
        ("GF_ANALYTICS_REPORTING_ENABLED", "false".to_owned()),
        ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false".to_owned()),
    ] {
        command.env(name, value);
    }
    // Stream mode has no board yet.
    if board.is_file() {
        command.env("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", &board);
    }
    let mut process =
        Process::spawn("grafana", port, place.logs.join("grafana.log"), Signal::TERM, &mut command)?;
    process.wait_for("grafana", &format!("http://127.0.0.1:{port}/api/health"), LIMIT)?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_layout(layout: &Layout) -> String {
        let file = project_root().unwrap().join(format!("prometheus/prometheus-{}.yml", layout.board()));
        let committed = fs::read_to_string(file).unwrap();
        configuration(&committed, layout, &layout.moved(100, 1).unwrap(), 9999).unwrap()
    }

    fn of(mode: Mode) -> String {
        of_layout(&Layout::study(mode))
    }

    #[test]
    fn of_the_lab_the_started_stack_has_its_own_ports_and_the_others_have_theirs() {
        let layout = Layout::campus(campus::Stack::Rabbitmq, true);
        let text = of_layout(&layout);
        for expected in [
            r#"{ targets: ["127.0.0.1:8101"], labels: { service: inventory, stack: rabbitmq } }"#,
            r#"{ targets: ["127.0.0.1:8301"], labels: { service: inventory, stack: rest } }"#,
            r#"{ targets: ["127.0.0.1:15794"], labels: { service: rabbitmq, stack: rabbitmq } }"#,
            r#"targets: ["127.0.0.1:9196"]"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }

    #[test]
    fn the_committed_jobs_are_kept_with_local_addresses() {
        let text = of(Mode::Async);
        for expected in [
            r#"targets: ["127.0.0.1:8201"], labels: { service: userservice, mode: async }"#,
            r#"targets: ["127.0.0.1:8210"], labels: { service: inventoryservice, mode: async }"#,
            r#"targets: ["127.0.0.1:15792"], labels: { service: rabbitmq, mode: async }"#,
            r#"targets: ["127.0.0.1:9999"]"#,
            "metrics_path: /metrics/detailed",
            "rule_files: [rules.yml, alerts.yml]",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(!text.contains("dns_sd_configs") && !text.contains("cadvisor:8080"), "{text}");
        assert!(!of(Mode::Sync).contains("15692"));
    }

    #[test]
    fn what_is_written_in_another_way_is_noticed() {
        let error = replaced("rabbitmq\n targets: [broker:15692]", "rabbitmq:15692", "x").unwrap_err();
        assert!(error.to_string().contains("rabbitmq:15692 does not stand in"), "{error}");
    }
}
