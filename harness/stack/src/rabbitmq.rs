//! RabbitMQ: its server as processes of a stack (here), its queues (`queues`) through the management API (`management`), and
//! redrive (`redrive`). Data, cookie, node name and Erlang port mapper belong to the stack, and everything listens on loopback, so
//! the stack never reaches a broker of the system.

mod management;
mod message;
mod queues;
mod redrive;

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::broker::{Address, Alarm, Broker, BrokerPorts, Server};
use super::process::{self, Process};
use super::run_as::Account;
use management::Management;

const EPMD: &str = "epmd";
/// The vhost that exists from the beginning, as it stands in a path.
const DEFAULT_VHOST: &str = "%2F";

#[derive(Debug)]
pub struct RabbitMq;

impl Server for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn title(&self) -> &'static str {
        "RabbitMQ"
    }

    fn helpers(&self) -> &'static [&'static str] {
        &[EPMD]
    }

    fn settings(&self, address: &Address) -> Vec<(&'static str, String)> {
        vec![("AMQP_URL", address.client_url.clone())]
    }

    fn port_names(&self) -> &'static [&'static str] {
        &["AMQP", "management", "Prometheus", "Erlang port mapper", "Erlang node"]
    }

    fn internal_ports(&self) -> &'static [u16] {
        &[25673, 25674]
    }

    fn container_ports(&self) -> &'static [(u16, &'static str)] {
        &[(5672, "RABBITMQ_PORT"), (15672, "RABBITMQ_MANAGEMENT_PORT"), (15692, "RABBITMQ_PROMETHEUS_PORT")]
    }

    fn container_login(&self) -> Option<[(&'static str, &'static str); 2]> {
        Some([("RABBITMQ_DEFAULT_USER", "RABBITMQ_USER"), ("RABBITMQ_DEFAULT_PASS", "RABBITMQ_PASSWORD")])
    }

    /// RabbitMQ creates this user and accepts it on loopback only.
    fn local_login(&self) -> &'static str {
        "guest:guest"
    }

    fn address(&self, login: &str, ports: &BrokerPorts) -> Address {
        Address {
            client_url: format!("amqp://{login}@127.0.0.1:{}/{DEFAULT_VHOST}", ports.client),
            admin_url: format!("http://{login}@127.0.0.1:{}", ports.management.unwrap_or(0)),
            namespace: DEFAULT_VHOST.to_owned(),
        }
    }

    fn start(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Vec<Process>> {
        // Without it Erlang waits for a name server, then ends without a message.
        if !("localhost", 0)
            .to_socket_addrs()
            .is_ok_and(|mut found| found.any(|address| address.ip().is_loopback()))
        {
            bail!(
                "localhost is not known here, and RabbitMQ needs it: put `127.0.0.1 localhost` into /etc/hosts"
            );
        }
        let home = dir.join(self.name());
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

        let [mapper, _] = own_ports(ports);
        let mut command = account.server(&port_mapper()?, "TERM");
        command.args(["-address", "127.0.0.1", "-port", &mapper.to_string()]).current_dir(&home);
        let epmd = Process::spawn(EPMD, mapper, logs.join("epmd.log"), Signal::TERM, &mut command)?;
        Ok(vec![epmd, self.restart(dir, ports, logs)?])
    }

    fn restart(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Process> {
        let mut command = command(dir, ports, &program("rabbitmq-server")?)?;
        command
            // The start script then becomes the broker instead of staying in front of it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", own_ports(ports)[1].to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("RABBITMQ_LOGS", "-");
        Process::spawn(self.name(), ports.client, logs.join("rabbitmq.log"), Signal::TERM, &mut command)
    }

    fn wait(&self, process: &mut Process, ports: &BrokerPorts, limit: Duration) -> Result<()> {
        let base = self.address(self.local_login(), ports).admin_url;
        let url = format!("{base}/api/health/checks/port-listener/{}", ports.client);
        process.wait_for(self.title(), &url, limit)
    }

    fn set_alarm(&self, dir: &Path, ports: &BrokerPorts, alarm: Alarm, on: bool) -> Result<()> {
        control(
            dir,
            ports,
            &match (alarm, on) {
                (Alarm::Memory, true) => ["set_vm_memory_high_watermark", "0"],
                (Alarm::Memory, false) => ["set_vm_memory_high_watermark", "0.4"],
                (Alarm::Disk, true) => ["set_disk_free_limit", "1000000000000000"],
                (Alarm::Disk, false) => ["set_disk_free_limit", "50000000"],
            },
        )
    }

    fn close_connections(&self, dir: &Path, ports: &BrokerPorts) -> Result<()> {
        // The management API lists new connections only after some seconds.
        control(dir, ports, &["close_all_connections", "a fault"])
    }

    fn create_namespace(&self, given: &Address, name: &str) -> Result<Address> {
        management::create_vhost(given, name)
    }

    fn remove_namespace(&self, address: &Address) -> Result<()> {
        management::delete_vhost(address)
    }

    fn connect(&self, address: &Address) -> Box<dyn Broker> {
        Box::new(Management::new(address))
    }
}

/// Runs `rabbitmqctl` against this broker.
fn control(dir: &Path, ports: &BrokerPorts, args: &[&str]) -> Result<()> {
    let mut command = command(dir, ports, &program("rabbitmqctl")?)?;
    let output = command.args(args).stdin(Stdio::null()).output().context("cannot run rabbitmqctl")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("rabbitmqctl {} failed: {}", args.join(" "), String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

/// A program of RabbitMQ with the environment of this broker.
fn command(dir: &Path, ports: &BrokerPorts, program: &Path) -> Result<Command> {
    let home = dir.join("rabbitmq");
    let mut command = Account::for_servers(&home)?.server(program, "TERM");
    command
        .current_dir(&home)
        .env("HOME", &home)
        .env("ERL_EPMD_PORT", own_ports(ports)[0].to_string())
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

/// Of Erlang's port mapper, and of its node.
fn own_ports(ports: &BrokerPorts) -> [u16; 2] {
    ports.internal[..].try_into().unwrap_or_default()
}

fn configuration(ports: &BrokerPorts) -> String {
    let [client, management, metrics] =
        [Some(ports.client), ports.management, ports.metrics].map(Option::unwrap_or_default);
    format!(
        "listeners.tcp.1 = 127.0.0.1:{client}\n\
         management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
         prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {metrics}\n\
         log.file = false\nlog.console = true\nlog.console.level = info\n\
         raft.wal_max_size_bytes = 67108864\n"
    )
}

/// The scripts themselves: the wrappers that Debian puts on PATH insist on their own user and folders.
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
