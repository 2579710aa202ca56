//! A Kafka that one test has for itself: it is killed and started again, which the others must not notice. Its data lie in a
//! folder that goes with it.

use std::net::SocketAddr;
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
    /// The port whose clients are told to connect to the proxy.
    pub(crate) proxied: u16,
    home: PathBuf,
    broker: Child,
}

impl OwnBroker {
    pub(crate) async fn start() -> OwnBroker {
        OwnBroker::behind(None).await
    }

    pub(crate) async fn behind(proxy: Option<SocketAddr>) -> OwnBroker {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&home).expect("a folder for the broker");
        let [port, proxied, controller] = [free_port(), free_port(), free_port()];
        let direct = format!("127.0.0.1:{port}");
        let advertised = proxy.map_or_else(|| format!("127.0.0.1:{proxied}"), |proxy| proxy.to_string());
        let settings = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{direct},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{direct},PROXIED://{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
",
            home.join("data").display()
        );
        std::fs::write(home.join("server.properties"), settings).expect("a file of the broker");
        let mut format = java(&home, "kafka.tools.StorageTool");
        format.args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c"]).arg(home.join("server.properties"));
        let formatted = spawn(format, &home.join("format.log")).wait().expect("it ends");
        assert!(formatted.success(), "see {}", home.join("format.log").display());
        let broker = spawn(server(&home), &home.join("kafka.log"));
        let broker = OwnBroker { port, proxied, home, broker };
        broker.wait().await;
        broker
    }

    pub(crate) fn settings(&self) -> Vec<String> {
        vec![format!("--kafka-bootstrap=127.0.0.1:{}", self.port)]
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
        self.broker = spawn(server(&self.home), &self.home.join("kafka.log"));
        self.wait().await;
    }

    /// Waits until it answers a request for its API versions.
    async fn wait(&self) {
        let answers = async || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else { return false };
            // Size, key 18, version 0, correlation 7, no client id.
            let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xFF, 0xFF];
            let mut head = [0_u8; 8];
            stream.write_all(&request).await.is_ok()
                && matches!(
                    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await,
                    Ok(Ok(_))
                )
                && head[4..] == [0, 0, 0, 7]
        };
        within(START, &format!("a broker that writes to {}", self.home.display()), answers).await;
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.broker.kill().ok();
        self.broker.wait().ok();
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.home).ok();
        }
    }
}

fn server(home: &Path) -> Command {
    let mut command = java(home, "kafka.Kafka");
    command.arg(home.join("server.properties"));
    command
}

#[expect(clippy::disallowed_methods, reason = "where the tests learn of Kafka's programs")]
fn java(home: &Path, class: &str) -> Command {
    let jars = std::env::var("KAFKA_LIBS").unwrap_or_else(|_| {
        panic!("KAFKA_LIBS is not set: run `./study test`, or set it to a folder with Kafka's jars")
    });
    let mut command = bound_to_this_thread("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{jars}/*"))
        .arg(class)
        .current_dir(home);
    command
}
