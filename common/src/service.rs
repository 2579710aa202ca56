//! What stands around a service: `main`, the server with its limits, health, and the order of the shutdown.

mod http;

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::bus::consume::{Consumers, Subscription};
use crate::config::{self, Command, Settings};
use crate::db::{Db, Keeper};
use crate::events::{Event, Route};
use crate::mode::Mode;
use crate::tasks::{Tasks, every};
use crate::{idempotency, inbox, journal, metrics, telemetry};

/// Longest wait for running requests and events at shutdown: more than the longest job.
const GRACE: Duration = Duration::from_secs(60);

/// What a service is, for `/`, `/health` and the logs.
#[derive(Clone, Copy)]
pub struct About {
    pub name: &'static str,
    pub version: &'static str,
    pub description: &'static str,
    pub scenarios: &'static [&'static str],
    /// Of the service's own schema; `None` for a service without a database.
    pub migrations: Option<&'static Migrator>,
    /// The modes this binary was built with.
    pub modes: &'static [Mode],
}

/// What a service is given to work with.
#[derive(Clone)]
pub struct Deps {
    db: Option<Db>,
    #[cfg(feature = "http")]
    pub http: crate::client::Http,
    #[cfg(feature = "amqp")]
    pub bus: crate::bus::Bus,
    #[cfg(feature = "amqp")]
    outbox: Option<crate::outbox::Outbox>,
}

impl Deps {
    /// The service's schema.
    ///
    /// # Panics
    /// In a service that declares no migrations.
    #[expect(
        clippy::expect_used,
        reason = "a service without migrations has no schema: a defect of its wiring"
    )]
    pub fn db(&self) -> Db {
        self.db.clone().expect("About::migrations is set")
    }

    /// The service's outbox.
    ///
    /// # Panics
    /// In a service that declares no migrations, and in sync mode.
    #[cfg(feature = "amqp")]
    #[expect(clippy::expect_used, reason = "as Deps::db; and only messaging.rs asks for it")]
    pub fn outbox(&self) -> crate::outbox::Outbox {
        self.outbox.clone().expect("About::migrations is set")
    }
}

type Periodic = Box<dyn FnOnce(CancellationToken) -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// A service in one mode: what it serves, publishes, consumes, and does from time to time.
pub struct Service {
    routes: OpenApiRouter,
    publishes: Vec<Route>,
    subscriptions: Vec<Subscription>,
    periodic: Vec<(&'static str, Periodic)>,
    needs_broker: bool,
}

impl Service {
    pub fn new(routes: OpenApiRouter) -> Service {
        Service { routes, publishes: vec![], subscriptions: vec![], periodic: vec![], needs_broker: false }
    }

    /// Declares the way of `E` on the broker, so that nothing published before the first consumer comes is lost.
    pub fn publishes<E: Event>(mut self) -> Service {
        self.publishes.push(E::ROUTE);
        self
    }

    pub fn consumes<S: Clone + Send + Sync + 'static>(mut self, consumers: Consumers<S>) -> Service {
        self.subscriptions.extend(consumers.into_subscriptions());
        self
    }

    /// Nothing can be accepted without the broker: not ready until it is connected.
    pub fn needs_broker(mut self) -> Service {
        self.needs_broker = true;
        self
    }

    /// Runs `work` every `period`.
    pub fn every<F, E>(
        mut self,
        period: Duration,
        name: &'static str,
        work: impl FnMut() -> F + Send + 'static,
    ) -> Service
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.periodic.push((name, Box::new(move |stop| Box::pin(every(period, name, stop, work)))));
        self
    }
}

/// `main` of every service: settings, logs, database, the mode's `service`, serve.
pub async fn main<Own: Args>(about: About, build: impl FnOnce(Mode, Deps, Own) -> Service) -> ExitCode {
    let cli = match config::parse::<Own>(about.name) {
        Ok(cli) => cli,
        Err((text, code)) => {
            print(&text, code);
            return ExitCode::from(code);
        }
    };
    if matches!(cli.command, Some(Command::Healthcheck)) {
        return http::healthcheck(cli.base.listen_addr);
    }
    match start(about, &cli.base, |mode, deps| build(mode, deps, cli.own)).await {
        Ok(running) => match running.until(signal()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(cause = format!("{error:#}"), "service ended");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            print(&format!("{}: {error:#}", about.name), 2);
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "help, and errors before logging has started")]
fn print(text: &str, code: u8) {
    if code == 0 { println!("{}", text.trim_end()) } else { eprintln!("{}", text.trim_end()) }
}

/// SIGTERM or Ctrl-C.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be received");
        }
    }
}

/// A service that serves.
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    db: Option<Db>,
    /// Requests, consumers, periodic work.
    intake: (Tasks, CancellationToken),
    /// The relay: after the intake has ended, so that its last events are sent.
    relay: (Tasks, CancellationToken),
    /// Publisher and keeper: after the relay.
    ground: (Tasks, CancellationToken),
}

/// Starts a service: opens what it needs without waiting for it, listens, and answers at once.
///
/// # Errors
/// When a setting is missing or wrong, or the address is taken.
pub async fn start(
    about: About,
    settings: &Settings,
    build: impl FnOnce(Mode, Deps) -> Service,
) -> anyhow::Result<Running> {
    let mode = Mode::choose(settings.comm_mode, about.modes).map_err(anyhow::Error::msg)?;
    telemetry::init(&settings.log).map_err(anyhow::Error::msg)?;
    metrics::get().set_build(about.version, mode);
    if let Some(dir) = &settings.journal_dir {
        journal::open(dir, about.name).with_context(|| format!("JOURNAL_DIR={}", dir.display()))?;
    }
    let opened = about.migrations.map(|m| Db::open(&settings.database, about.name, m)).transpose();
    let (db, keeper) = opened.map_err(anyhow::Error::msg)?.unzip();
    let stops = [CancellationToken::new(), CancellationToken::new(), CancellationToken::new()];
    let [stop_intake, stop_relay, stop_ground] = stops.clone();
    let (mut intake, mut relay, mut ground) = (Tasks::default(), Tasks::default(), Tasks::default());

    #[cfg(feature = "amqp")]
    let (bus, line) = crate::bus::Bus::new();
    #[cfg(feature = "amqp")]
    let (outbox, relaying) = match (&db, mode) {
        (Some(db), Mode::Async) => {
            Some(crate::outbox::Outbox::new(db.clone(), bus.clone(), &settings.broker)).unzip()
        }
        _ => (None, None),
    };
    let deps = Deps {
        db: db.clone(),
        #[cfg(feature = "http")]
        http: crate::client::Http::new(&settings.peers)?,
        #[cfg(feature = "amqp")]
        bus: bus.clone(),
        #[cfg(feature = "amqp")]
        outbox,
    };
    let service = build(mode, deps);
    let listener = TcpListener::bind(settings.listen_addr).await;
    let listener = listener.with_context(|| format!("LISTEN_ADDR={}", settings.listen_addr))?;
    let addr = listener.local_addr()?;

    let mut health = http::Health { db: db.clone(), ..Default::default() };
    if let (Some(keeper), Some(db)) = (keeper, &db) {
        keep(&mut ground, keeper, db, stop_ground.clone());
    }
    #[cfg(feature = "amqp")]
    if mode == Mode::Async {
        let amqp = crate::bus::amqp::Amqp {
            url: settings.broker.url().map_err(anyhow::Error::msg)?,
            service: about.name,
            publishes: service.publishes.into(),
            subscriptions: service.subscriptions.into(),
            prefetch: settings.broker.consumer_prefetch,
        };
        if !amqp.subscriptions.is_empty() {
            let (connected, consuming) = tokio::sync::watch::channel(false);
            health.consuming = Some(consuming);
            intake.start(
                "consumers",
                amqp.clone().consumer(bus.clone(), db.clone(), connected, stop_intake.clone()),
            );
        }
        health.publisher = service.needs_broker.then(|| bus.clone());
        ground.start("publisher", amqp.publisher(line, stop_ground.clone()));
        if let Some(relaying) = relaying {
            relay.start("outbox relay", relaying.run(stop_relay));
        }
    }
    for (name, work) in service.periodic {
        intake.start(name, work(stop_intake.clone()));
    }
    let app = http::app(about, mode, service.routes, health);
    intake.start("server", http::serve(listener, app, stop_intake));
    tracing::info!(service = about.name, %mode, version = about.version, %addr, "listening");
    let [stop_intake, stop_relay, stop_ground] = stops;
    Ok(Running {
        addr,
        db,
        intake: (intake, stop_intake),
        relay: (relay, stop_relay),
        ground: (ground, stop_ground),
    })
}

fn keep(ground: &mut Tasks, keeper: Keeper, db: &Db, stop: CancellationToken) {
    ground.start("database keeper", keeper.run(stop.clone()));
    let db = db.clone();
    let prune = move || {
        let db = db.clone();
        async move {
            db.wait_ready().await;
            idempotency::prune(db.relay()).await?;
            inbox::prune(db.relay()).await
        }
    };
    ground.start("pruning", every(Duration::from_secs(3600), "pruning", stop, prune));
}

impl Running {
    /// Serves until `stop`, then ends in order: no new work, running work finished and acknowledged, last events sent,
    /// connections closed.
    ///
    /// # Errors
    /// When a background task ended on its own: the service is not whole any more.
    pub async fn until(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let failed = tokio::select! {
            () = stop => None,
            ended = self.intake.0.first_to_end() => Some(ended),
            ended = self.relay.0.first_to_end() => Some(ended),
            ended = self.ground.0.first_to_end() => Some(ended),
        };
        tracing::info!("stopping");
        for (mut tasks, stop) in [self.intake, self.relay, self.ground] {
            stop.cancel();
            if tokio::time::timeout(GRACE, tasks.finish()).await.is_err() {
                tracing::error!("work did not end in time and is cut off");
            }
        }
        if let Some(db) = self.db {
            db.close().await;
        }
        journal::flush();
        match failed {
            Some(ended) => Err(anyhow::anyhow!("{ended}")),
            None => Ok(()),
        }
    }
}
