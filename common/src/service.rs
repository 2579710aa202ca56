//! What surrounds a service: `main`, the server with its limits, health, and the order of the shutdown.

#[cfg(feature = "messaging")]
mod broker;
mod http;

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use contract::Effect;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;

use crate::Mode;
use crate::config::{self, Command, Settings};
use crate::db::{Db, DbMonitor};
use crate::otel::Spans;
use crate::tasks::{Tasks, every};
use crate::{effects, environment, idempotency, journal, metrics, telemetry};

/// Longest wait for running requests and events at shutdown: more than the longest job.
const GRACE: Duration = Duration::from_secs(60);

/// What a service is, for `/`, `/health` and the logs.
#[derive(Clone, Copy)]
pub struct About {
    pub name: &'static str,
    pub version: &'static str,
    pub description: &'static str,
    pub scenarios: &'static [&'static str],
    /// Final effects that happen here.
    pub effects: &'static [Effect],
    /// Of the service's own schema; `None` for a service without a database.
    pub migrations: Option<&'static Migrator>,
    /// The modes this binary was built with.
    pub modes: &'static [Mode],
}

/// The dependencies of a service.
#[derive(Clone)]
pub struct Deps {
    db: Option<Db>,
    #[cfg(feature = "http")]
    pub http: crate::client::Http,
    #[cfg(feature = "messaging")]
    pub bus: crate::bus::Bus,
    #[cfg(feature = "messaging")]
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
    #[cfg(feature = "messaging")]
    #[expect(clippy::expect_used, reason = "as Deps::db; and only messaging.rs asks for it")]
    pub fn outbox(&self) -> crate::outbox::Outbox {
        self.outbox.clone().expect("About::migrations is set")
    }
}

type Background = Box<dyn FnOnce(CancellationToken) -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// A service in one mode: its routes, events, consumers and periodic work.
pub struct Service {
    routes: OpenApiRouter,
    periodic: Vec<(&'static str, Background)>,
    workers: Vec<(&'static str, Background)>,
    figures: Option<http::Figures>,
    request_limit: Duration,
    #[cfg(feature = "messaging")]
    messaging: broker::Messaging,
}

impl Service {
    pub fn new(routes: OpenApiRouter) -> Service {
        Service {
            routes,
            periodic: Vec::new(),
            workers: Vec::new(),
            figures: None,
            request_limit: http::REQUEST_TIMEOUT,
            #[cfg(feature = "messaging")]
            messaging: broker::Messaging::default(),
        }
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

    /// Answers 503 after this time instead of 30 s, for a service whose requests may wait for longer.
    pub fn request_limit(mut self, limit: Duration) -> Service {
        self.request_limit = limit;
        self
    }

    /// Answers `GET /metrics` with these figures as JSON, unless the request accepts the Prometheus text format.
    pub fn figures<F, T>(mut self, figures: impl Fn() -> F + Send + Sync + 'static) -> Service
    where
        F: Future<Output = Result<T, crate::ApiError>> + Send + 'static,
        T: serde::Serialize + 'static,
    {
        self.figures = Some(http::figures(figures));
        self
    }

    /// Runs `work`, which requests wait for. It is stopped when all requests are answered.
    pub fn worker<F: Future<Output = ()> + Send + 'static>(
        mut self,
        name: &'static str,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Service {
        self.workers.push((name, Box::new(move |stop| Box::pin(work(stop)))));
        self
    }
}

/// `main` of every service: settings, logs, database, the mode's `service`, serve.
pub async fn main<Own: Args>(about: About, build: impl FnOnce(Mode, Deps, Own) -> Service) -> ExitCode {
    if let Err(error) = environment::clear() {
        print(&format!("{}: {error}", about.name), 2);
        return ExitCode::from(2);
    }
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

/// Background tasks that are stopped together.
#[derive(Default)]
struct Stage {
    tasks: Tasks,
    stop: CancellationToken,
}

impl Stage {
    fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(CancellationToken) -> F,
    ) {
        self.tasks.start(name, work(self.stop.clone()));
    }
}

/// The tasks of a process in the order in which they are stopped.
#[derive(Default)]
struct Stages {
    /// Requests, consumers, periodic work.
    ingress: Stage,
    /// The relay, and workers that requests wait for: after `ingress` has ended, so that its last events are sent.
    relay: Stage,
    /// Publisher and database monitor: after the relay.
    infrastructure: Stage,
}

/// A service that serves.
pub struct Running {
    /// The address on which it listens.
    pub addr: SocketAddr,
    db: Option<Db>,
    stages: Stages,
    spans: Spans,
}

/// Starts a service: opens its dependencies without waiting for them, listens, and answers at once.
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
    let spans = Spans::start(about.name, about.version, mode, settings).map_err(anyhow::Error::msg)?;
    #[cfg(feature = "failpoints")]
    crate::failpoint::arm(&settings.failpoint);
    metrics::get().set_build(about.version, mode);
    about.effects.iter().copied().for_each(effects::announce);
    if let Some(dir) = &settings.journal_dir {
        journal::open(dir, about.name).with_context(|| format!("JOURNAL_DIR={}", dir.display()))?;
    }
    let opened = about.migrations.map(|m| Db::open(&settings.database, about.name, m)).transpose();
    let (db, monitor) = opened.map_err(anyhow::Error::msg)?.unzip();
    #[cfg(feature = "messaging")]
    let broker = broker::Broker::new(mode, db.as_ref(), settings, spans.clone());
    let deps = Deps {
        db: db.clone(),
        #[cfg(feature = "http")]
        http: crate::client::Http::new(&settings.peers, spans.clone())?,
        #[cfg(feature = "messaging")]
        bus: broker.bus.clone(),
        #[cfg(feature = "messaging")]
        outbox: broker.outbox.clone(),
    };
    let service = build(mode, deps);
    let listener = http::listen(settings.listen_addr);
    let listener = listener.with_context(|| format!("LISTEN_ADDR={}", settings.listen_addr))?;
    let addr = listener.local_addr()?;

    let mut stages = Stages::default();
    stages.infrastructure.start("log", telemetry::keep);
    if let (Some(monitor), Some(db)) = (monitor, &db) {
        keep(&mut stages.infrastructure, monitor, db);
    }
    let health = http::Health {
        db: db.clone(),
        #[cfg(feature = "messaging")]
        broker: match mode {
            Mode::Sync => broker::Connected::default(),
            Mode::Async | Mode::Stream => broker
                .connect(about.name, service.messaging, settings, db.as_ref(), &mut stages)
                .map_err(anyhow::Error::msg)?,
        },
    };
    for (name, work) in service.periodic {
        stages.ingress.start(name, work);
    }
    for (name, work) in service.workers {
        stages.relay.start(name, work);
    }
    let tasks = TaskTracker::new();
    let requests = http::Requests { tasks: tasks.clone(), limit: service.request_limit };
    let app = http::app(about, mode, service.routes, service.figures, health, spans.clone(), requests);
    stages.ingress.start("server", |stop| http::serve(listener, app, tasks, stop));
    tracing::info!(service = about.name, %mode, version = about.version, %addr, "listening");
    Ok(Running { addr, db, stages, spans })
}

fn keep(infrastructure: &mut Stage, monitor: DbMonitor, db: &Db) {
    infrastructure.start("database monitor", |stop| monitor.run(stop));
    let db = db.clone();
    let prune = move || {
        let db = db.clone();
        async move {
            db.wait_ready().await;
            idempotency::prune(&db).await
        }
    };
    infrastructure.start("key pruning", |stop| every(Duration::from_secs(3600), "key pruning", stop, prune));
}

impl Running {
    /// Serves until `stop`, then ends in order: no new work, running work finished and acknowledged, last events sent,
    /// connections closed, last spans exported.
    ///
    /// # Errors
    /// When a background task ended by itself: the service is no longer complete.
    pub async fn until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Stages { mut ingress, mut relay, mut infrastructure } = self.stages;
        let failed = tokio::select! {
            () = stop => None,
            ended = ingress.tasks.first_to_end() => Some(ended),
            ended = relay.tasks.first_to_end() => Some(ended),
            ended = infrastructure.tasks.first_to_end() => Some(ended),
        };
        tracing::info!("stopping");
        for Stage { mut tasks, stop } in [ingress, relay, infrastructure] {
            stop.cancel();
            if tokio::time::timeout(GRACE, tasks.finish()).await.is_err() {
                tracing::error!("work did not end in time and is cut off");
            }
        }
        if let Some(db) = self.db
            && tokio::time::timeout(GRACE, db.close()).await.is_err()
        {
            tracing::error!("the database does not answer; its connections are cut off");
        }
        journal::flush();
        self.spans.close().await;
        match failed {
            Some(ended) => Err(anyhow::anyhow!("{ended}")),
            None => Ok(()),
        }
    }
}
