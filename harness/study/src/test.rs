//! `./study test`: every test of the project, against a PostgreSQL, a RabbitMQ and a Kafka started for this run on free ports.
//! With `--docker` PostgreSQL and RabbitMQ are containers. Output and exit code are those of cargo.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use stack::broker::Address;
use stack::ports::Ports;
use stack::process::{Process, cargo, exit_code, run_to_end};
use stack::progress::Step;
use stack::stack::SERVER_LIMIT;
use stack::state::State;
use stack::{Mode, Stack, StackOptions, kafka};

#[derive(Args)]
pub struct TestArgs {
    /// Give the tests a PostgreSQL and a RabbitMQ in containers; Kafka, and servers that tests kill, are local.
    #[arg(long)]
    docker: bool,

    /// Only the test target of this name, such as `lab`; may be given several times.
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,

    /// Only tests whose name contains one of these; after `--` also options of the test binaries (`--nocapture`).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILTER")]
    filter: Vec<String>,
}

pub fn run(root: &Path, args: &TestArgs) -> Result<ExitCode> {
    let all = root.join(".study/test");
    remove_left_over(&all)?;
    let dir = all.join(std::process::id().to_string());
    let options = StackOptions {
        dir: Some(dir.clone()),
        fresh: true,
        servers_only: true,
        docker: args.docker.then(|| format!("microservices-test-{}", std::process::id())),
        ..StackOptions::default()
    };
    let servers = Stack::start(Mode::Async, &options)?;
    let result = cargo_test(root, &servers, &dir, args);
    let stopped = servers.stop();
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    stopped?;
    result
}

/// Its data are in `dir`.
fn start_kafka(dir: &Path) -> Result<(Vec<Process>, Address)> {
    let ports = Ports::free(Mode::Stream)?.broker.context("stream mode has no broker")?;
    let step = Step::start(ports.server.title());
    let mut kafka = ports.server.start(dir, &ports, &dir.join("logs"))?;
    for process in &mut kafka {
        ports.server.wait(process, &ports, SERVER_LIMIT)?;
    }
    step.done();
    Ok((kafka, ports.server.address(ports.server.local_login(), &ports)))
}

fn cargo_test(root: &Path, servers: &Stack, dir: &Path, args: &TestArgs) -> Result<ExitCode> {
    // The scenario tests start the services' binaries, which `cargo test` alone need not build. The same features avoid a second
    // build.
    let build = ["build", "--workspace", "--all-features", "--locked"];
    let status = run_to_end(cargo(root).args(build))?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    // Dropped, and so killed, when the tests have ended.
    let (_processes, address) = start_kafka(dir)?;
    let mut test = cargo(root);
    test.args(["test", "--workspace", "--all-features", "--locked", "--no-fail-fast"]);
    // The whole workspace, so that the features, and with them the builds, stay the same.
    test.args(args.test.iter().flat_map(|name| ["--test", name])).arg("--").args(&args.filter);
    // All features include `otel`: tests must not send spans to a running collector.
    test.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    test.env("DATABASE_URL", servers.database_url());
    if let Some(broker) = servers.broker_address() {
        test.env("AMQP_URL", &broker.client_url).env("RABBITMQ_MANAGEMENT_URL", &broker.admin_url);
    }
    test.env(kafka::BOOTSTRAP, &address.client_url).env(kafka::LIBS, kafka::libs()?);
    Ok(exit_code(run_to_end(&mut test)?))
}

/// Data of runs that were killed and could not clean up.
fn remove_left_over(all: &Path) -> Result<()> {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let state = State::read(&entry.path())?;
        if state.as_ref().is_some_and(|state| state.supervisor.alive()) {
            continue;
        }
        if let Some(compose) = state.as_ref().and_then(|state| state.compose.as_ref()) {
            compose.remove_left_over()?;
        }
        if state.is_none_or(|state| state.compose.is_some() || !state.alive()) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
