//! One mode, up and down again. The order matters: servers first, services when those answer; and back the same way.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::compose::{Compose, Containers};
use super::options::{StackOptions, empty_logs, remove_data, without_path};
use super::ports::Ports;
use super::process::Process;
use super::progress::Step;
use super::services;
use super::state::{self, Entry, Identity, State};
use super::{Layout, Mode, monitoring, not_ours, postgres, rabbitmq, state_folder};

pub(super) const SERVER_LIMIT: Duration = Duration::from_secs(90);
/// What a run that was killed left at work.
const LEFT_OVER_LIMIT: Duration = Duration::from_secs(20);
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How many this process has made: those on given servers must not share a database.
static STACKS: AtomicUsize = AtomicUsize::new(0);

pub struct Stack {
    layout: Layout,
    pub(super) dir: PathBuf,
    pub(super) options: StackOptions,
    pub(super) ports: Ports,
    pub(super) programs: PathBuf,
    pub(super) servers: Vec<Process>,
    pub(super) services: Vec<Process>,
    /// Instead of all these processes.
    containers: Option<Containers>,
    /// Name of the database and, where the servers are given, of the vhost.
    database: String,
    /// Held as long as this lives: one stack per folder.
    _lock: File,
}

impl Stack {
    /// Own servers and ten services, all ready. Tells on stderr how far it is.
    pub fn start(mode: Mode, options: &StackOptions) -> Result<Self> {
        Self::of(Layout::study(mode), options)
    }

    /// The same for any layout.
    pub fn of(layout: Layout, options: &StackOptions) -> Result<Self> {
        let mut stacks = start_layouts(vec![layout], options)?;
        stacks.pop().context("nothing was started")
    }

    /// Claims folder and ports; nothing runs yet.
    fn claim(layout: Layout, options: &StackOptions) -> Result<Self> {
        let (name, mode) = (&layout.name, layout.mode);
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => state_folder()?.join(name),
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let lock = File::create(dir.join(state::LOCK)).with_context(|| not_ours(&dir))?;
        if lock.try_lock().is_err() {
            bail!("{name} is running already: see `./study status`, end it with `./study down`");
        }
        if let Some(state) = State::read(&dir)?.filter(State::alive) {
            // A process ends with whoever started it, but finishes what it has begun; a container does not end.
            let done = state
                .compose
                .as_ref()
                .map_or_else(|| state.ends_within(LEFT_OVER_LIMIT), Compose::remove_left_over)?;
            let left = if state.compose.is_some() { "containers" } else { "processes" };
            if !done {
                bail!(
                    "{left} of an earlier {} run are still there: end them with `./study down`",
                    state.name
                );
            }
        }
        State::remove(&dir);
        if options.fresh {
            remove_data(&dir)?;
        }
        fs::create_dir_all(dir.join("logs"))?;
        empty_logs(&dir.join("logs"))?;
        let (mut containers, mut database) = (None, layout.database.to_owned());
        let ports = match &options.docker {
            Some(project) => {
                let (claimed, ports) = Containers::claim(project, mode, options, &dir)?;
                database.clone_from(&claimed.database);
                containers = Some(claimed);
                ports
            }
            None if options.given.is_some() || options.servers_only => Ports::free(mode)?,
            None if options.monitoring => {
                Ports::with_monitoring(mode, options.port_offset, 1 + usize::from(monitoring::has_grafana()))?
            }
            None => layout.ports.moved(options.port_offset)?,
        };
        let programs = match &options.programs {
            Some(programs) => programs.clone(),
            None => std::env::current_exe()?.parent().context("no folder of binaries")?.to_owned(),
        };
        if options.given.is_some() {
            let count = STACKS.fetch_add(1, Ordering::Relaxed);
            database = format!("study_{}_{}_{count}", name.replace('/', "_"), std::process::id());
        }
        let options = options.clone();
        let (servers, services) = (Vec::new(), Vec::new());
        Ok(Self {
            layout,
            dir,
            options,
            ports,
            programs,
            servers,
            services,
            containers,
            database,
            _lock: lock,
        })
    }

    /// Servers and services at once: compose knows the order.
    fn start_containers(&mut self) -> Result<()> {
        // Noted before anything runs: whatever happens, `down` finds it.
        self.save()?;
        let server = self.database_server();
        let containers = self.containers.as_mut().context("no containers to start")?;
        let step = Step::beside(format!("containers of {}", containers.compose.project));
        containers.up()?;
        if self.options.servers_only {
            postgres::prepare(&server, &self.database, &self.layout.logins())?;
        } else {
            containers.wait(&self.ports.services)?;
        }
        step.done();
        self.save()
    }

    /// Leaves containers to the engine, until `down`.
    pub(super) fn leave(mut self) {
        self.containers.iter_mut().for_each(Containers::leave);
    }

    fn start_servers(&mut self) -> Result<()> {
        if let Some(given) = &self.options.given {
            return given.create_vhost(self.layout.mode, &self.database);
        }
        let logs = self.logs();
        // The broker first: it takes longer, and the database can be initialized meanwhile.
        if let Some(ports) = &self.ports.rabbitmq {
            self.servers.extend(rabbitmq::start(&self.dir, ports, &logs)?);
            self.save()?;
        }
        self.servers.push(postgres::start(
            &self.dir,
            self.ports.postgres,
            logs.join("postgresql.log"),
            !self.options.servers_only,
        )?);
        self.save()
    }

    fn wait_for_servers(&mut self) -> Result<()> {
        // The database is first to answer: only then is its time a true one.
        for server in self.servers.iter_mut().rev() {
            match (server.name.as_str(), &self.ports.rabbitmq) {
                ("postgresql", _) => postgres::wait(server, SERVER_LIMIT)?,
                ("rabbitmq", Some(ports)) => rabbitmq::wait(server, ports, SERVER_LIMIT)?,
                _ => server.check()?,
            }
        }
        postgres::prepare(&self.database_server(), &self.database, &self.layout.logins())
    }

    fn start_services(&mut self) -> Result<()> {
        for service in self.layout.names() {
            let started = self.start_service(service, &[])?;
            self.services.push(started);
        }
        self.save()
    }

    /// A service as all are told, and `more`. It is not yet one of this stack's.
    pub(super) fn start_service(&self, service: &str, more: &[(String, String)]) -> Result<Process> {
        let (place, member) = self
            .layout
            .find(service)
            .with_context(|| format!("there is no service {service}: {}", self.layout.names().join(", ")))?;
        let server = self.database_server();
        let host = server.rsplit_once('@').context("the database URL names no user")?.1;
        let amqp_url = self.amqp_url();
        let (logs, database) = (self.logs(), format!("{host}/{}", self.database));
        let setting = services::Setting {
            layout: &self.layout,
            programs: &self.programs,
            logs: &logs,
            database: &database,
            amqp_url: amqp_url.as_deref(),
            journal: self.options.journal.as_deref(),
            env: &self.options.env,
            env_of: &self.options.env_of,
            ports: &self.ports.services,
        };
        let port = self.ports.services.get(place).with_context(|| format!("no port for {service}"))?;
        services::start(member, *port, &setting, more)
    }

    /// Waits until each service that was started answers.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        services::wait(&mut self.services, READY_LIMIT)?;
        self.save()
    }

    fn start_monitoring(&mut self) -> Result<()> {
        let logs = self.logs();
        let place =
            monitoring::Place { mode: self.layout.mode, dir: &self.dir, logs: &logs, ports: &self.ports };
        self.servers.extend(monitoring::start(&place)?);
        self.save()
    }

    pub fn mode(&self) -> Mode {
        self.layout.mode
    }

    /// `http://127.0.0.1:PORT` of a service by its full name.
    pub fn url(&self, service: &str) -> String {
        let port = self.layout.find(service).and_then(|(place, _)| self.ports.services.get(place));
        format!("http://127.0.0.1:{}", port.copied().unwrap_or(0))
    }

    /// The superuser's, for whoever checks what all ten stored.
    pub fn database_url(&self) -> String {
        format!("{}/{}", self.database_server(), self.database)
    }

    /// Without the database.
    pub fn database_server(&self) -> String {
        let port = self.ports.postgres;
        match (&self.options.given, &self.containers) {
            (Some(given), _) => without_path(&given.database_url).to_owned(),
            (_, Some(containers)) => format!("postgres://{}@127.0.0.1:{port}", containers.postgres.in_url()),
            _ => {
                let url = postgres::url(postgres::SUPERUSER, postgres::SUPERUSER, port, "");
                without_path(&url).to_owned()
            }
        }
    }

    /// Of the broker in a container, as it stands in a URL.
    fn broker_login(&self) -> Option<String> {
        Some(self.containers.as_ref()?.rabbitmq.as_ref()?.in_url())
    }

    pub fn amqp_url(&self) -> Option<String> {
        let ports = self.ports.rabbitmq.as_ref()?;
        Some(match (&self.options.given, self.broker_login()) {
            (Some(given), _) => format!("{}/{}", without_path(&given.amqp_url), self.database),
            (_, Some(login)) => format!("amqp://{login}@127.0.0.1:{}/%2f", ports.amqp),
            _ => rabbitmq::url(ports.amqp),
        })
    }

    /// Base of RabbitMQ's management API, with the login in it.
    pub fn management_url(&self) -> Option<String> {
        let ports = self.ports.rabbitmq.as_ref()?;
        Some(match (&self.options.given, self.broker_login()) {
            (Some(given), _) => given.management_url.clone(),
            (_, Some(login)) => format!("http://{login}@127.0.0.1:{}", ports.management),
            _ => rabbitmq::management_url(ports.management),
        })
    }

    /// The vhost of the ten services, as the management API wants it in a path.
    pub fn vhost(&self) -> &str {
        if self.options.given.is_some() { &self.database } else { "%2F" }
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// `(name, pid)` of everything that runs, servers first: for whoever measures or disturbs it.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.servers
            .iter()
            .chain(&self.services)
            .map(|process| (process.name.clone(), process.pid()))
            .collect()
    }

    /// Where the ten services, the database and the broker listen, by the name of each.
    pub fn server_ports(&self) -> Vec<(&'static str, u16)> {
        let services = self.layout.names().into_iter().zip(self.ports.services.iter().copied());
        let broker = self.ports.rabbitmq.iter().map(|ports| ("rabbitmq", ports.amqp));
        services.chain([("postgresql", self.ports.postgres)]).chain(broker).collect()
    }

    /// An error if anything has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.containers.as_mut().map_or(Ok(()), Containers::check)?;
        self.servers.iter_mut().chain(&mut self.services).try_for_each(Process::check)
    }

    pub fn state(&self) -> Result<State> {
        let entry = |process: &Process, service: bool| {
            Some(Entry {
                name: process.name.clone(),
                service,
                identity: Identity::of(process.pid())?,
                port: process.port,
                log: process.log.clone(),
                ready_after_ms: process.ready_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
                stop_signal: process.stop_signal().as_raw(),
            })
        };
        let servers = self.servers.iter().filter_map(|process| entry(process, false));
        let services = self.services.iter().filter_map(|process| entry(process, true));
        Ok(State {
            name: self.layout.name.clone(),
            mode: self.layout.mode,
            supervisor: Identity::of(std::process::id()).context("/proc is not readable")?,
            ready: match &self.containers {
                Some(containers) => containers.ready,
                None => {
                    !self.services.is_empty()
                        && self.services.iter().all(|service| service.ready_after.is_some())
                }
            },
            processes: servers.chain(services).collect(),
            compose: self.containers.as_ref().map(|containers| containers.compose.clone()),
            database_url: self.database_url(),
            management_url: self.management_url(),
            prometheus_port: self.ports.rabbitmq.as_ref().map(|ports| ports.prometheus),
        })
    }

    pub(super) fn save(&self) -> Result<()> {
        self.state()?.write(&self.dir)
    }

    /// Ends the services, which finish what they have begun, then broker and database.
    pub fn stop(mut self) -> Result<()> {
        self.services.iter_mut().for_each(Process::ask_to_stop);
        let limit = self.options.service_limit();
        self.services.iter_mut().for_each(|service| service.wait_or_kill(limit));
        self.containers.as_mut().map_or(Ok(()), |containers| containers.end(false))?;
        self.end()
    }

    /// By force what is left of the services.
    fn end(&mut self) -> Result<()> {
        self.services.clear();
        self.containers.as_mut().map_or(Ok(()), |containers| containers.end(true))?;
        if self.options.fresh {
            // Nobody reads these data again.
            self.servers.iter_mut().for_each(Process::kill);
        } else {
            // The port mapper last: the broker says goodbye to it.
            let (mapper, others): (Vec<_>, Vec<_>) =
                self.servers.drain(..).partition(|server| server.name == "epmd");
            for mut servers in [others, mapper] {
                servers.iter_mut().for_each(Process::ask_to_stop);
                servers.iter_mut().for_each(|server| server.wait_or_kill(SERVER_LIMIT));
            }
        }
        self.servers.clear();
        State::remove(&self.dir);
        if let Some(given) = self.options.given.take() {
            given.clean(self.layout.mode, &self.database)?;
        }
        if self.options.fresh { remove_data(&self.dir) } else { Ok(()) }
    }
}

/// After an error: nobody waits for what the services still do.
impl Drop for Stack {
    fn drop(&mut self) {
        let containers = self.containers.as_ref().is_some_and(Containers::started);
        if self.services.is_empty() && self.servers.is_empty() && self.options.given.is_none() && !containers
        {
            return;
        }
        if let Err(error) = self.end() {
            eprintln!("study: {error:#}");
        }
    }
}

/// Several modes at once, each step for all before the next: one waits while the other works.
pub fn start_all(modes: &[Mode], options: &StackOptions) -> Result<Vec<Stack>> {
    start_layouts(modes.iter().copied().map(Layout::study).collect(), options)
}

/// The same for any layouts.
pub fn start_layouts(layouts: Vec<Layout>, options: &StackOptions) -> Result<Vec<Stack>> {
    let mut stacks: Vec<Stack> =
        layouts.into_iter().map(|layout| Stack::claim(layout, options)).collect::<Result<_>>()?;
    if options.given.is_none() && !options.servers_only {
        for stack in &stacks {
            stack.ports.check(&stack.layout)?;
        }
    }
    if options.docker.is_some() {
        stacks.iter_mut().try_for_each(Stack::start_containers)?;
        return Ok(stacks);
    }
    let step = Step::start(if stacks.iter().any(|stack| stack.ports.rabbitmq.is_some()) {
        "PostgreSQL and RabbitMQ"
    } else {
        "PostgreSQL"
    });
    stacks.iter_mut().try_for_each(Stack::start_servers)?;
    stacks.iter_mut().try_for_each(Stack::wait_for_servers)?;
    step.done();
    if options.servers_only {
        return Ok(stacks);
    }
    // Before the services: with the last of them the stack is ready.
    if options.monitoring {
        let grafana = monitoring::has_grafana();
        let step = Step::start(if grafana { "Prometheus and Grafana" } else { "Prometheus" });
        stacks.iter_mut().try_for_each(Stack::start_monitoring)?;
        step.done();
    }
    let names: Vec<&str> = stacks.iter().map(|stack| stack.layout.name.as_str()).collect();
    let step = Step::start(format!("services of {}", names.join(" and ")));
    stacks.iter_mut().try_for_each(Stack::start_services)?;
    stacks.iter_mut().try_for_each(Stack::wait_until_ready)?;
    step.done();
    Ok(stacks)
}
