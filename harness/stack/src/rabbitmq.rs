//! A RabbitMQ of our own: data, cookie, node name and Erlang port mapper are ours, everything on loopback, so that it
//! never meets a broker of the system. Management UI and Prometheus plugin are on.

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::ports::RabbitPorts;
use super::process::{self, Process};
use super::run_as::Account;

/// User and password that RabbitMQ creates by itself and accepts on loopback only.
pub const GUEST: &str = "guest";

/// The Erlang port mapper and the broker, in the order of their start.
pub fn start(dir: &Path, ports: &RabbitPorts, logs: &Path) -> Result<[Process; 2]> {
    // Else Erlang waits for a name server, and ends without a word of it.
    if !("localhost", 0)
        .to_socket_addrs()
        .is_ok_and(|mut found| found.any(|address| address.ip().is_loopback()))
    {
        bail!(
            "localhost is not known here, and RabbitMQ needs it: put `127.0.0.1 localhost` into /etc/hosts"
        );
    }
    let home = dir.join("rabbitmq");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let account = Account::for_servers(&home)?;
    account.own(&home)?;
    for (name, text) in [
        ("rabbitmq.conf", configuration(ports)),
        ("enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n".to_owned()),
    ] {
        fs::write(home.join(name), text)?;
        account.own(&home.join(name))?;
    }
    let cookie = home.join(".erlang.cookie");
    if !cookie.exists() {
        fs::write(&cookie, fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim())?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
        account.own(&cookie)?;
    }

    let mut command = account.server(&port_mapper()?, "TERM");
    command.args(["-address", "127.0.0.1", "-port", &ports.epmd.to_string()]).current_dir(&home);
    let epmd = Process::spawn("epmd", ports.epmd, logs.join("epmd.log"), Signal::TERM, &mut command)?;
    Ok([epmd, start_broker(dir, ports, logs)?])
}

/// The broker alone, beside its port mapper.
pub fn start_broker(dir: &Path, ports: &RabbitPorts, logs: &Path) -> Result<Process> {
    let mut command = command(dir, ports, &program("rabbitmq-server")?)?;
    command
        // The start script then becomes the broker instead of staying in front of it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_DIST_PORT", ports.node.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_LOGS", "-");
    Process::spawn("rabbitmq", ports.amqp, logs.join("rabbitmq.log"), Signal::TERM, &mut command)
}

/// Runs `rabbitmqctl` against this broker.
pub fn control(dir: &Path, ports: &RabbitPorts, args: &[&str]) -> Result<()> {
    let mut command = command(dir, ports, &program("rabbitmqctl")?)?;
    let output = command.args(args).stdin(Stdio::null()).output().context("cannot run rabbitmqctl")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("rabbitmqctl {} failed: {}", args.join(" "), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// A program of RabbitMQ's with everything that makes it ours.
fn command(dir: &Path, ports: &RabbitPorts, program: &Path) -> Result<Command> {
    let home = dir.join("rabbitmq");
    let mut command = Account::for_servers(&home)?.server(program, "TERM");
    command
        .current_dir(&home)
        .env("HOME", &home)
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("RABBITMQ_NODENAME", "study@localhost");
    for (name, place) in [
        ("RABBITMQ_CONF_ENV_FILE", "none.conf"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_CONFIG_FILES", "none.d"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "none.config"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", "log"),
    ] {
        command.env(name, home.join(place));
    }
    Ok(command)
}

fn configuration(ports: &RabbitPorts) -> String {
    let RabbitPorts { amqp, management, prometheus, .. } = ports;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
         prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {prometheus}\n\
         log.file = false\nlog.console = true\nlog.console.level = info\n\
         raft.wal_max_size_bytes = 67108864\n"
    )
}

/// The real scripts: those that Debian puts on PATH insist on their own user and folders.
fn program(name: &str) -> Result<PathBuf> {
    ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
        .or_else(|| process::on_path(name))
        .with_context(|| {
            format!("RabbitMQ is not installed (no {name} found): install the package rabbitmq-server")
        })
}

fn port_mapper() -> Result<PathBuf> {
    process::on_path("epmd")
        .or_else(|| Some(PathBuf::from("/usr/lib/erlang/bin/epmd")).filter(|file| file.is_file()))
        .context("Erlang's epmd is not found: install the package rabbitmq-server")
}

/// Waits until the broker takes connections.
pub fn wait(process: &mut Process, ports: &RabbitPorts, limit: Duration) -> Result<()> {
    let url = format!("{}/api/health/checks/port-listener/{}", management_url(ports.management), ports.amqp);
    process.wait_for("RabbitMQ", &url, limit)
}

/// Of the vhost that is there from the beginning.
pub fn url(port: u16) -> String {
    format!("amqp://{GUEST}:{GUEST}@127.0.0.1:{port}/%2f")
}

/// With the login in it.
pub fn management_url(port: u16) -> String {
    format!("http://{GUEST}:{GUEST}@127.0.0.1:{port}")
}
