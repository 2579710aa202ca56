//! Settings that every service has, from the environment or the command line; `--help` lists them with their defaults.
//! Here: `COMM_MODE`, `LISTEN_ADDR`, `JOURNAL_DIR`, `DATABASE_URL` or `POSTGRES_*`, `DB_*`, `AMQP_URL` or `RABBITMQ_*`,
//! `KAFKA_BOOTSTRAP`, `KAFKA_PREFIX`, `*_SERVICE_URL`, `CALL_TIMEOUT_MS`, `CONSUMER_PREFETCH`, `OUTBOX_MAX_*`, `LOG_FORMAT`, `RUST_LOG`,
//! and with the feature `otel` `OTEL_EXPORTER_OTLP_ENDPOINT`.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use contract::Service;

use crate::Mode;

pub(crate) mod address;
pub use address::http as http_url;

/// The command line of a service: the common settings and its own.
#[derive(Parser)]
#[command(version, next_line_help = false, max_term_width = 110)]
pub struct Cli<Own: Args> {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub base: Settings,
    #[command(flatten)]
    pub own: Own,
}

/// For a service without settings of its own.
#[derive(Args)]
pub struct NoSettings {}

#[derive(Clone, Copy, Subcommand)]
pub enum Command {
    /// Run the service (default)
    Serve,
    /// Ask the running service at LISTEN_ADDR whether it is ready; exit code 0 if so
    Healthcheck,
}

#[derive(Args, Clone, Debug)]
// clap names a group after the struct, and a service's own settings are called the same.
#[group(skip)]
pub struct Settings {
    /// Architecture to run in; needed where the binary was built with both
    #[arg(long, env, global = true)]
    pub comm_mode: Option<Mode>,
    /// Address to serve on
    #[arg(long, env, global = true, default_value = "127.0.0.1:8000")]
    pub listen_addr: SocketAddr,
    /// Folder for the journal of final effects; none is written if not set
    #[arg(long, env, global = true)]
    pub journal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub broker: BrokerSettings,
    #[command(flatten)]
    pub peers: PeerSettings,
    #[command(flatten)]
    pub log: LogSettings,
    #[cfg(feature = "otel")]
    #[command(flatten)]
    pub otel: OtelSettings,
    #[cfg(feature = "failpoints")]
    #[command(flatten)]
    pub failpoint: crate::failpoint::FailpointSettings,
}

#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE; or give POSTGRES_HOST and the like
    #[arg(long, env, hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    #[arg(long, env, global = true)]
    pub postgres_host: Option<String>,
    #[arg(long, env, global = true, default_value_t = 5432, value_parser = clap::value_parser!(u16).range(1..))]
    pub postgres_port: u16,
    #[arg(long, env, global = true, default_value = "postgres")]
    pub postgres_user: String,
    #[arg(long, env, hide_env_values = true, global = true, default_value = "")]
    pub postgres_password: String,
    #[arg(long, env, global = true, default_value = "microservices_db")]
    pub postgres_db: String,
    /// Schema of this service; its name if not set
    #[arg(long, env, global = true, value_parser = schema)]
    pub db_schema: Option<String>,
    /// Connections for requests and consumers; the outbox has up to four more of its own
    #[arg(long, env, global = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub db_pool_size: u32,
}

#[derive(Args, Clone, Debug)]
pub struct BrokerSettings {
    #[command(flatten)]
    pub amqp: AmqpSettings,
    #[command(flatten)]
    pub kafka: KafkaSettings,
    /// Events that one queue's consumer works on at once
    #[arg(long, env, global = true, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub consumer_prefetch: u16,
    /// Events that may wait in the outbox, for the broker or for one destination, before new work for it is refused with 503
    #[arg(long, env, global = true, default_value_t = 100_000)]
    pub outbox_max_rows: i64,
    /// Seconds that an event may wait in the outbox before new work for its destination is refused with 503
    #[arg(long, env, global = true, default_value_t = 600)]
    pub outbox_max_age_seconds: u32,
}

/// The address of RabbitMQ.
#[derive(Args, Clone, Debug)]
pub struct AmqpSettings {
    /// amqp://USER:PASSWORD@HOST:PORT/VHOST; or give RABBITMQ_HOST and the like
    #[arg(long, env, hide_env_values = true, global = true)]
    pub amqp_url: Option<String>,
    #[arg(long, env, global = true)]
    pub rabbitmq_host: Option<String>,
    #[arg(long, env, global = true, default_value_t = 5672, value_parser = clap::value_parser!(u16).range(1..))]
    pub rabbitmq_port: u16,
    #[arg(long, env, global = true, default_value = "guest")]
    pub rabbitmq_user: String,
    #[arg(long, env, hide_env_values = true, global = true, default_value = "guest")]
    pub rabbitmq_password: String,
    #[arg(long, env, global = true, default_value = "%2f")]
    pub rabbitmq_vhost: String,
}

/// The address of Kafka.
#[derive(Args, Clone, Debug)]
pub struct KafkaSettings {
    /// Kafka's HOST:PORT; several are separated by commas
    #[arg(long, env, global = true)]
    pub kafka_bootstrap: Option<String>,
    /// Text before the name of every topic and group
    #[arg(long, env, global = true, default_value = "", value_parser = kafka_prefix)]
    pub kafka_prefix: String,
}

impl KafkaSettings {
    /// The address, checked: librdkafka takes any text and waits for ever.
    ///
    /// # Errors
    /// One line that names the setting.
    #[cfg(feature = "kafka")]
    pub(crate) fn bootstrap(&self) -> Result<String, String> {
        let given = address::given(self.kafka_bootstrap.as_ref()).ok_or("KAFKA_BOOTSTRAP is missing")?;
        let servers = given.split(',').map(|server| {
            let server = server.trim();
            let (host, port) = server.rsplit_once(':').ok_or("an address is HOST:PORT")?;
            address::host(host)?;
            match port.parse::<u16>() {
                Ok(1..) => Ok(server),
                _ => Err("the port is no number from 1 to 65535".to_owned()),
            }
        });
        let servers: Result<Vec<&str>, String> = servers.collect();
        Ok(servers.map_err(|error| format!("KAFKA_BOOTSTRAP: {error}"))?.join(","))
    }
}

/// What Kafka allows in the name of a topic.
fn kafka_prefix(prefix: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !prefix.chars().all(legal) || prefix.len() > 100 {
        return Err("a prefix has up to 100 letters, digits, dots, underscores and hyphens".into());
    }
    Ok(prefix.to_owned())
}

/// Where the other services are, in sync mode: a setting such as `EMAIL_SERVICE_URL` for each service that has callers.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    pub urls: HashMap<Service, String>,
    /// Limit for one call to another service
    pub call_timeout: Duration,
}

const CALL_TIMEOUT: &str = "CALL_TIMEOUT_MS";

/// The services that others call.
fn peers() -> BTreeSet<Service> {
    contract::calls::ALL.iter().map(|call| call.peer).collect()
}

fn setting(variable: String) -> Arg {
    let option = variable.to_lowercase().replace('_', "-");
    Arg::new(variable.clone()).long(option).env(variable.clone()).value_name(variable).global(true)
}

impl Args for PeerSettings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let urls = peers().into_iter().map(|peer| {
            let inside_containers = format!("http://{peer}:{}", Service::CONTAINER_PORT);
            setting(peer.url_variable()).value_parser(address::http).default_value(inside_containers)
        });
        let timeout =
            setting(CALL_TIMEOUT.into()).value_parser(clap::value_parser!(u64)).default_value("10000");
        command.args(urls).arg(timeout.help("Limit for one call to another service"))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        PeerSettings::augment_args(command)
    }
}

impl FromArgMatches for PeerSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<PeerSettings, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingRequiredArgument);
        let url = |peer: Service| {
            let url: &String = matches.get_one(&peer.url_variable()).ok_or_else(missing)?;
            Ok((peer, url.clone()))
        };
        let timeout: u64 = *matches.get_one(CALL_TIMEOUT).ok_or_else(missing)?;
        let urls = peers().into_iter().map(url).collect::<Result<_, clap::Error>>()?;
        Ok(PeerSettings { urls, call_timeout: Duration::from_millis(timeout) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = PeerSettings::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    #[arg(long, env, global = true, default_value = "json")]
    pub log_format: LogFormat,
    /// Levels by target, such as `info,common=debug`; lapin calls an orderly end an error, and failures are logged here
    #[arg(long, env, global = true, default_value = "info,lapin=off")]
    pub rust_log: String,
}

#[cfg(feature = "otel")]
#[derive(Args, Clone, Debug)]
pub struct OtelSettings {
    /// Collector for spans, OTLP over gRPC without TLS, such as http://localhost:4317; none are exported if not set
    #[arg(long, env, global = true)]
    pub otel_exporter_otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    Json,
    Pretty,
}

impl BrokerSettings {
    /// Age at which the oldest waiting event closes the door.
    pub fn outbox_max_age(&self) -> Duration {
        Duration::from_secs(self.outbox_max_age_seconds.into())
    }
}

/// A schema whose name means the same with quotes and without, as in `search_path`.
fn schema(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    // PostgreSQL keeps names with this beginning for itself, and cuts longer ones off.
    if !first || !name.chars().all(plain) || name.starts_with("pg_") || name.len() > 63 {
        return Err("a schema is called by up to 63 small letters, digits and _, and not pg_...".into());
    }
    Ok(name.to_owned())
}

/// Reads the command line and the environment of a service.
///
/// # Errors
/// The text to print and the exit code: help and version with 0, one line that names the setting with 2.
pub fn parse<Own: Args>(name: &'static str) -> Result<Cli<Own>, (String, u8)> {
    let matches = Cli::<Own>::command().name(name).bin_name(name).try_get_matches();
    matches.and_then(|m| Cli::from_arg_matches(&m)).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (error.to_string(), 0),
        _ => (one_line(name, &error), 2),
    })
}

/// clap's message without its hints on several lines, led by the environment's name for the argument.
fn one_line(service: &str, error: &clap::Error) -> String {
    let first = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => {
            let setting = argument.split(['<', '>']).nth(1).unwrap_or(argument);
            format!("{service}: {setting}: {first}")
        }
        _ => format!("{service}: {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Args)]
    struct Own {
        #[arg(long, env, default_value_t = 500)]
        email_delay_ms: u64,
    }

    fn error_of(args: &[&str]) -> String {
        match Cli::<Own>::try_parse_from(args) {
            Ok(cli) => panic!("accepted, with a delay of {}", cli.own.email_delay_ms),
            Err(error) => one_line("x", &error),
        }
    }

    #[test]
    fn a_malformed_setting_is_named_in_one_line() {
        for (args, name) in
            [(["x", "--email-delay-ms=soon"], "EMAIL_DELAY_MS"), (["x", "--listen-addr=here"], "LISTEN_ADDR")]
        {
            let line = error_of(&args);
            assert!(line.starts_with(&format!("x: {name}: ")) && !line.contains('\n'), "{line}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn the_address_of_kafka_is_checked() {
        let bootstrap = |text: &str| {
            let kafka_bootstrap = Some(text.to_owned());
            KafkaSettings { kafka_bootstrap, kafka_prefix: String::new() }.bootstrap()
        };
        for (given, taken) in [("kafka:9092", "kafka:9092"), ("a:1, [::1]:2", "a:1,[::1]:2")] {
            assert_eq!(bootstrap(given).as_deref(), Ok(taken));
        }
        assert_eq!(bootstrap(""), Err("KAFKA_BOOTSTRAP is missing".into()));
        for wrong in ["kafka", "kafka:", "kafka:0", "kafka:port", ":9092", "a:1,", "kafka://h:1", "a b:1"] {
            assert!(bootstrap(wrong).is_err_and(|error| error.starts_with("KAFKA_BOOTSTRAP: ")), "{wrong}");
        }
        assert!(error_of(&["x", "--kafka-prefix=a/b"]).starts_with("x: KAFKA_PREFIX: "));
    }
}
