//! Kafka: its server as a process of a stack (here), its topics and groups (`topics`) through its protocol (`connection`, `records`).
//! One node is broker and controller. Everything listens on loopback.

mod connection;
mod records;
mod topics;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::broker::{Address, Alarm, Broker, BrokerPorts, Server};
use super::process::{self, Process};
use super::run_as::Account;
use super::{signals, state_folder};
use connection::Connection;
use topics::Topics;

/// The file that pins Kafka's version.
const POM: &str = include_str!("../kafka/pom.xml");
/// Of every stack: a stack reaches no other node.
const CLUSTER: &str = "c3R1ZHktb25lLW5vZGUtMQ";
/// The folder with Kafka's jars, instead of the one that the script `study` fills.
pub const LIBS: &str = "KAFKA_LIBS";
/// The services' setting that holds `host:port` of the server.
pub const BOOTSTRAP: &str = "KAFKA_BOOTSTRAP";
/// The services' setting that stands before the names of all topics and groups.
pub const PREFIX: &str = "KAFKA_PREFIX";

#[derive(Debug)]
pub struct Kafka;

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn title(&self) -> &'static str {
        "Kafka"
    }

    fn helpers(&self) -> &'static [&'static str] {
        &[]
    }

    fn settings(&self, address: &Address) -> Vec<(&'static str, String)> {
        vec![(BOOTSTRAP, address.client_url.clone()), (PREFIX, address.namespace.clone())]
    }

    fn port_names(&self) -> &'static [&'static str] {
        &["clients", "controller"]
    }

    fn internal_ports(&self) -> &'static [u16] {
        &[25675]
    }

    fn container_ports(&self) -> &'static [(u16, &'static str)] {
        &[(9094, "KAFKA_PORT")]
    }

    fn container_login(&self) -> Option<[(&'static str, &'static str); 2]> {
        None
    }

    fn local_login(&self) -> &'static str {
        ""
    }

    fn address(&self, _: &str, ports: &BrokerPorts) -> Address {
        let url = format!("127.0.0.1:{}", ports.client);
        Address { admin_url: url.clone(), client_url: url, namespace: String::new() }
    }

    fn start(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Vec<Process>> {
        let home = dir.join(self.name());
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let account = Account::for_servers(&home)?;
        account.own(&home)?;
        let properties = home.join("server.properties");
        fs::write(&properties, configuration(ports, &home))?;
        account.own(&properties)?;
        if !home.join("data/meta.properties").exists() {
            format(&home)?;
        }
        Ok(vec![self.restart(dir, ports, logs)?])
    }

    fn restart(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Process> {
        let mut command = java(&dir.join(self.name()), "kafka.Kafka")?;
        command.arg("server.properties");
        Process::spawn(self.name(), ports.client, logs.join("kafka.log"), Signal::TERM, &mut command)
    }

    /// Until it answers a request: it opens the port of its clients some seconds earlier.
    fn wait(&self, process: &mut Process, ports: &BrokerPorts, limit: Duration) -> Result<()> {
        let address = self.address("", ports).client_url;
        let deadline = Instant::now() + limit;
        while let Err(error) = Connection::open(&address).and_then(|mut server| server.topics()) {
            process.check()?;
            if Instant::now() > deadline {
                let end = process::tail(&process.log, 12);
                bail!("Kafka is not ready after {limit:?} ({error:#}); its log ends:{end}");
            }
            signals::pause(Duration::from_millis(50))?;
        }
        process.ready_after = Some(process.started.elapsed());
        Ok(())
    }

    fn set_alarm(&self, _: &Path, _: &BrokerPorts, _: Alarm, _: bool) -> Result<()> {
        bail!("Kafka has no alarm that makes it refuse messages")
    }

    fn close_connections(&self, _: &Path, _: &BrokerPorts) -> Result<()> {
        bail!("Kafka cannot be told to close the connections of its clients")
    }

    fn create_namespace(&self, given: &Address, name: &str) -> Result<Address> {
        Ok(Address { namespace: format!("{name}-"), ..given.clone() })
    }

    fn remove_namespace(&self, address: &Address) -> Result<()> {
        Topics::new(address).remove_all()
    }

    fn connect(&self, address: &Address) -> Box<dyn Broker> {
        Box::new(Topics::new(address))
    }
}

/// The version that the POM pins.
fn version() -> &'static str {
    let dependency = POM.rsplit_once("<artifactId>kafka_2.13</artifactId>").map_or("", |(_, rest)| rest);
    dependency.split(['<', '>']).nth(2).unwrap_or_default()
}

/// The folder with Kafka's jars.
///
/// # Errors
/// One line, when there are none.
pub fn libs() -> Result<PathBuf> {
    let folder = match std::env::var_os(LIBS) {
        Some(folder) => PathBuf::from(folder),
        None => state_folder()?.join("kafka").join(version()),
    };
    if !folder.is_dir() {
        bail!("Kafka is not there (no {}): ./study up stream fetches it", folder.display());
    }
    Ok(folder)
}

/// Makes the empty data folder of a new server.
fn format(home: &Path) -> Result<()> {
    let mut command = java(home, "kafka.tools.StorageTool")?;
    command.args(["format", "--cluster-id", CLUSTER, "--config", "server.properties"]);
    let output = command.stdin(Stdio::null()).output().context("cannot run java")?;
    if !output.status.success() {
        // A later start would take an incomplete folder for a complete one.
        fs::remove_dir_all(home.join("data")).ok();
        let text = [output.stdout, output.stderr].concat();
        bail!("Kafka's data folder cannot be made: {}", String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

/// A program of Kafka that runs in `home`.
fn java(home: &Path, class: &str) -> Result<Command> {
    let java = process::on_path("java")
        .context("Java is not installed (no java on PATH): install the package default-jre-headless")?;
    let mut command = Account::for_servers(home)?.server(&java, "TERM");
    command
        .current_dir(home)
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=WARN", "-cp"])
        .arg(libs()?.join("*"))
        .arg(class);
    Ok(command)
}

fn configuration(ports: &BrokerPorts, home: &Path) -> String {
    let (clients, controller) = (ports.client, ports.internal.first().copied().unwrap_or_default());
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         listeners=CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=CLIENTS://127.0.0.1:{clients}\n\
         listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=CLIENTS\ncontroller.listener.names=CONTROLLER\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=6\n\
         group.initial.rebalance.delay.ms=0\n\
         # Of the 128 MiB that it takes otherwise the few small compacted topics use nothing.\n\
         log.cleaner.dedupe.buffer.size=4194304\n",
        data = home.join("data").display()
    )
}

#[cfg(test)]
mod tests {
    use contract::Mode;
    use contract::events::queues::{CACHE_PRODUCT_UPDATES, SEARCH_PRODUCT_UPDATES};

    use super::*;
    use crate::broker::Redriven;
    use crate::ports::Ports;

    /// A server of its own, which ends with it.
    struct Own {
        dir: PathBuf,
        ports: BrokerPorts,
        process: Process,
    }

    impl Own {
        fn start() -> Self {
            assert!(std::env::var_os(LIBS).is_some(), "{LIBS} is not set: call `./study test`");
            let dir = std::env::temp_dir().join(format!("study-kafka-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let ports = Ports::free(Mode::Stream).unwrap().broker.unwrap();
            let process = Kafka.start(&dir, &ports, &dir).unwrap().pop().unwrap();
            let mut own = Self { dir, ports, process };
            own.wait();
            own
        }

        fn wait(&mut self) {
            Kafka.wait(&mut self.process, &self.ports, Duration::from_secs(90)).unwrap();
        }

        fn kill_and_restart(&mut self) {
            self.process.kill();
            self.process = Kafka.restart(&self.dir, &self.ports, &self.dir).unwrap();
            self.wait();
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            self.process.kill();
            fs::remove_dir_all(&self.dir).ok();
        }
    }

    #[test]
    fn queues_are_counted_read_moved_and_deleted_also_after_the_server_was_killed() {
        let mut own = Own::start();
        let given = Kafka.address("", &own.ports);
        let address = Kafka.create_namespace(&given, "one").unwrap();
        let broker = Kafka.connect(&address);
        let mut server = Connection::open(&given.client_url).unwrap();
        let (search, dead) = (SEARCH_PRODUCT_UPDATES.name, SEARCH_PRODUCT_UPDATES.dead_letters());
        server.create("one-product_updates", 2).unwrap();
        server.create(&format!("one-{dead}"), 3).unwrap();
        server.create("two-product_updates", 1).unwrap();

        for id in ["a", "b", "c"] {
            broker.publish(search, id, "ProductUpdated", r#"{"product_id":1}"#).unwrap();
            broker.publish(&dead, id, "ProductUpdated", "{}").unwrap();
        }
        server.commit(&format!("one-{search}"), "one-product_updates", 2).unwrap();
        let waiting = |broker: &dyn Broker, name: &str| {
            let found = broker.queues().unwrap().into_iter().find(|queue| queue.name == name);
            found.map(|queue| queue.messages)
        };
        assert_eq!(waiting(&*broker, search), Some(1));
        assert_eq!(waiting(&*broker, CACHE_PRODUCT_UPDATES.name), Some(3), "a group of its own");
        assert_eq!(broker.totals().unwrap(), (1 + 3 + 3, 3));
        let rest = broker.peek(search, 10).unwrap();
        assert_eq!((rest.messages.len(), rest.total), (1, 1));
        assert_eq!(rest.messages[0].id.as_deref(), Some("c"));

        own.kill_and_restart();
        assert_eq!(broker.depth(&dead).unwrap(), 3);
        assert_eq!(broker.redrive(&dead, Some("b")).unwrap(), Redriven { moved: 1, put_back: 0 });
        let ids = |queue: &str| -> Vec<String> {
            broker.peek(queue, 10).unwrap().messages.into_iter().filter_map(|message| message.id).collect()
        };
        assert_eq!(ids(&dead), ["c", "a"]);
        assert_eq!(ids(search), ["c", "b"]);
        assert_eq!(broker.redrive(&dead, None).unwrap(), Redriven { moved: 2, put_back: 0 });
        assert_eq!((broker.depth(&dead).unwrap(), broker.depth(search).unwrap()), (0, 4));

        broker.publish(&dead, "d", "ProductUpdated", "{}").unwrap();
        assert!(broker.purge(search).is_err());
        broker.purge(&dead).unwrap();
        assert_eq!(broker.depth(&dead).unwrap(), 0);
        Kafka.remove_namespace(&address).unwrap();
        let mut server = Connection::open(&given.client_url).unwrap();
        let left: Vec<String> = server.topics().unwrap().into_iter().map(|topic| topic.name).collect();
        assert_eq!(left, ["two-product_updates"]);
        assert_eq!(server.groups().unwrap(), [""; 0]);
    }

    #[test]
    fn the_version_is_the_one_of_the_pom() {
        let numbers: Vec<u32> = version().split('.').filter_map(|number| number.parse().ok()).collect();
        assert_eq!(numbers.len(), 3, "{}", version());
    }
}
