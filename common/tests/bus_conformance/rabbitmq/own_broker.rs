//! A RabbitMQ that one test has for itself: it is killed, started again and put under alarm, which the others must not
//! notice. Its data lie in a folder that goes with it.

#![allow(dead_code, reason = "each suite that has a broker for itself uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::process::{bound_to_this_thread, free_port, signal, spawn};
use crate::within;

/// A slow machine that is busy with the other tests.
const START: Duration = Duration::from_secs(120);

pub(crate) struct OwnBroker {
    pub(crate) port: u16,
    home: PathBuf,
    ports: [u16; 2],
    port_mapper: Child,
    broker: Child,
}

impl OwnBroker {
    pub(crate) async fn start() -> OwnBroker {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broker-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&home).expect("a folder for the broker");
        let [port, mapper, node] = [free_port(), free_port(), free_port()];
        let files = [
            ("rabbitmq.conf", format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.console.level = info\n")),
            ("enabled_plugins", "[].\n".into()),
        ];
        for (name, text) in files {
            std::fs::write(home.join(name), text).expect("a file of the broker");
        }
        let mut command = bound_to_this_thread("epmd");
        command.args(["-address", "127.0.0.1", "-port", &mapper.to_string()]);
        let port_mapper = spawn(command, &home.join("epmd.log"));
        let broker = spawn(server(&home, [mapper, node]), &home.join("rabbitmq.log"));
        let broker = OwnBroker { port, home, ports: [mapper, node], port_mapper, broker };
        broker.wait().await;
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(crate) fn settings(&self) -> Vec<String> {
        vec![format!("--amqp-url={}", self.url())]
    }

    /// SIGSTOP: it reads and answers nothing, and its connections stay open.
    pub(crate) fn freeze(&self) {
        signal("STOP", self.broker.id());
    }

    /// SIGKILL: nothing is written any more.
    pub(crate) fn kill(&mut self) {
        self.broker.kill().expect("it can be killed");
        self.broker.wait().expect("it ends");
    }

    /// Starts it again on the data that it left.
    pub(crate) async fn restart(&mut self) {
        self.broker = spawn(server(&self.home, self.ports), &self.home.join("rabbitmq.log"));
        self.wait().await;
    }

    /// Raises the memory alarm.
    pub(crate) fn raise_alarm(&self) {
        self.control(&["set_vm_memory_high_watermark", "0"]);
    }

    pub(crate) fn clear_alarm(&self) {
        self.control(&["set_vm_memory_high_watermark", "0.9"]);
    }

    /// From now on a new channel is closed when a delivery is not acknowledged within this time.
    pub(crate) fn limit_handling(&self, limit: Duration) {
        let limit = limit.as_millis();
        self.control(&[
            "eval",
            &format!(
                "application:set_env(rabbit, consumer_timeout, {limit}),
                 application:set_env(rabbit, channel_tick_interval, 500)."
            ),
        ]);
    }

    /// From now on a new channel is closed by a message of more bytes.
    pub(crate) fn limit_messages(&self, bytes: u32) {
        self.control(&["eval", &format!("application:set_env(rabbit, max_message_size, {bytes}).")]);
    }

    /// The queue takes and confirms nothing, without an error, as when its leader is lost.
    pub(crate) fn suspend_queue(&self, queue: &str) {
        self.control(&["eval", &format!("sys:suspend('%2F_{queue}').")]);
    }

    pub(crate) fn resume_queue(&self, queue: &str) {
        self.control(&["eval", &format!("sys:resume('%2F_{queue}').")]);
    }

    pub(crate) fn close_connections(&self) {
        self.control(&["close_all_connections", "for a test"]);
    }

    /// Connections that were opened so far.
    pub(crate) fn connections_opened(&self) -> usize {
        let log = std::fs::read_to_string(self.home.join("rabbitmq.log")).expect("a log");
        log.matches("accepting AMQP connection").count()
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = Command::new(program("rabbitmqctl"));
        environment(&mut command, &self.home, self.ports);
        let ended = command.args(["-n", NODE]).args(arguments).output().expect("rabbitmqctl runs");
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Waits until it speaks AMQP. A successful connect is not enough: a client that connects to a free local port can connect to
    /// itself.
    async fn wait(&self) {
        let speaks = async || {
            let mut first = [0_u8; 1];
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else { return false };
            stream.write_all(b"AMQP\x00\x00\x09\x01").await.is_ok()
                && matches!(
                    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut first)).await,
                    Ok(Ok(_))
                )
                && first == [1]
        };
        within(START, &format!("a broker that writes to {}", self.home.display()), speaks).await;
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        for process in [&mut self.broker, &mut self.port_mapper] {
            process.kill().ok();
            process.wait().ok();
        }
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.home).ok();
        }
    }
}

const NODE: &str = "conformance@localhost";

fn server(home: &Path, ports: [u16; 2]) -> Command {
    let mut command = bound_to_this_thread(program("rabbitmq-server"));
    environment(&mut command, home, ports);
    command
}

/// Nothing of it is shared with a broker of the system.
fn environment(command: &mut Command, home: &Path, [mapper, node]: [u16; 2]) {
    command
        .env("HOME", home)
        // The start script then becomes the broker instead of staying in front of it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_DIST_PORT", node.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_LOGS", "-");
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
}

/// The real scripts: those that Debian puts on PATH insist on their own user and folders.
fn program(name: &str) -> PathBuf {
    ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| name.into())
}
