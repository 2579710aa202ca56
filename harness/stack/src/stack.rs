//! Start and stop of one mode: servers first, services when the servers answer; the reverse at the end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::broker::{Address, Broker, BrokerPorts};
use super::compose::{Compose, Containers, Login};
use super::http::without_path;
use super::options::{StackOptions, empty_logs, remove_data};
use super::ports::Ports;
use super::process::Process;
use super::progress::Step;
use super::services;
use super::state::{self, Entry, Identity, State};
use super::{Layout, Mode, monitoring, not_ours, postgres, state_folder};

/// To start, and to end.
pub const SERVER_LIMIT: Duration = Duration::from_secs(90);
/// For processes of an earlier run that was killed.
const LEFT_OVER_LIMIT: Duration = Duration::from_secs(20);
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How many stacks this process has made. Those on given servers must not share a database.
static STACKS: AtomicUsize = AtomicUsize::new(0);

pub struct Stack {
    layout: Layout,
    pub(super) dir: PathBuf,
    pub(super) options: StackOptions,
    pub(super) ports: Ports,
    pub(super) programs: PathBuf,
    pub(super) servers: Vec<Process>,
    pub(super) services: Vec<Process>,
    /// Instead of processes.
    containers: Option<Containers>,
    /// Name of the database and, where the servers are given, of the broker's namespace.
    database: String,
    /// Unknown on given servers until the namespace exists.
    broker: Option<Address>,
    /// Held during the lifetime: one stack per folder.
    _lock: File,
}

impl Stack {
    /// Own servers and ten services, all ready. Reports its progress on stderr.
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
            // A process ends after its supervisor, when its running work is done; a container does not end.
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
                layout.moved(options.port_offset, 1 + usize::from(monitoring::has_grafana()))?
            }
            None => layout.moved(options.port_offset, 0)?,
        };
        let programs = match &options.programs {
            Some(programs) => programs.clone(),
            None => std::env::current_exe()?.parent().context("no folder of binaries")?.to_owned(),
        };
        if options.given.is_some() {
            let count = STACKS.fetch_add(1, Ordering::Relaxed);
            database = format!("study_{}_{}_{count}", name.replace('/', "_"), std::process::id());
        }
        let broker = ports.broker.as_ref().filter(|_| options.given.is_none()).map(|ports| {
            let login = containers.as_ref().and_then(|containers| containers.broker.as_ref());
            let login = login.map_or_else(|| ports.server.local_login().to_owned(), Login::in_url);
            ports.server.address(&login, ports)
        });
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
            broker,
            _lock: lock,
        })
    }

    /// Servers and services at once: compose knows the order.
    fn start_containers(&mut self) -> Result<()> {
        // Saved before anything runs, so that `down` finds it in any case.
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
            let create = |ports: &BrokerPorts| ports.server.create_namespace(&given.broker, &self.database);
            self.broker = self.ports.broker.as_ref().map(create).transpose()?;
            return Ok(());
        }
        let logs = self.logs();
        // The broker first: it takes longer, and the database can be initialized meanwhile.
        if let Some(ports) = &self.ports.broker {
            self.servers.extend(ports.server.start(&self.dir, ports, &logs)?);
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
        // The database answers first: the broker's wait would add to its time otherwise.
        for process in self.servers.iter_mut().rev() {
            match &self.ports.broker {
                _ if process.name == "postgresql" => postgres::wait(process, SERVER_LIMIT)?,
                Some(ports) if process.name == ports.server.name() => {
                    ports.server.wait(process, ports, SERVER_LIMIT)?;
                }
                _ => process.check()?,
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

    /// Starts a service with `more` environment. The caller adds it to the stack.
    pub(super) fn start_service(&self, service: &str, more: &[(String, String)]) -> Result<Process> {
        let (place, member) = self
            .layout
            .find(service)
            .with_context(|| format!("there is no service {service}: {}", self.layout.names().join(", ")))?;
        let server = self.database_server();
        let host = server.rsplit_once('@').context("the database URL names no user")?.1;
        let (logs, database) = (self.logs(), format!("{host}/{}", self.database));
        let broker = self.ports.broker.as_ref().zip(self.broker.as_ref());
        let setting = services::Setting {
            layout: &self.layout,
            programs: &self.programs,
            logs: &logs,
            database: &database,
            broker: broker.map(|(ports, address)| ports.server.settings(address)),
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
            monitoring::Place { layout: &self.layout, dir: &self.dir, logs: &logs, ports: &self.ports };
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

    /// Of the superuser.
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

    /// `None` in a mode without a broker.
    pub fn broker(&self) -> Option<Box<dyn Broker>> {
        Some(self.ports.broker.as_ref()?.server.connect(self.broker.as_ref()?))
    }

    pub fn broker_address(&self) -> Option<&Address> {
        self.broker.as_ref()
    }

    /// The broker's URL for clients.
    pub fn amqp_url(&self) -> Option<String> {
        self.broker.as_ref().map(|broker| broker.client_url.clone())
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// `(name, pid)` of every process, servers first.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.servers
            .iter()
            .chain(&self.services)
            .map(|process| (process.name.clone(), process.pid()))
            .collect()
    }

    /// The name of the broker's process.
    pub(super) fn broker_name(&self) -> Option<&'static str> {
        self.ports.broker.as_ref().map(|ports| ports.server.name())
    }

    /// Name and port of the services, the database and the broker.
    pub fn server_ports(&self) -> Vec<(&'static str, u16)> {
        let services = self.layout.names().into_iter().zip(self.ports.services.iter().copied());
        let broker = self.broker_name().zip(self.ports.broker.as_ref().map(|ports| ports.client));
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
            broker: self.broker.clone(),
            broker_metrics_port: self.ports.broker.as_ref().and_then(|ports| ports.metrics),
        })
    }

    pub(super) fn save(&self) -> Result<()> {
        self.state()?.write(&self.dir)
    }

    /// Ends the services, which complete their running work, then broker and database.
    pub fn stop(mut self) -> Result<()> {
        self.services.iter_mut().for_each(Process::ask_to_stop);
        let limit = self.options.service_limit();
        self.services.iter_mut().for_each(|service| service.wait_or_kill(limit));
        self.containers.as_mut().map_or(Ok(()), |containers| containers.end(false))?;
        self.end()
    }

    /// Kills the services that still run, and ends the servers.
    fn end(&mut self) -> Result<()> {
        self.services.clear();
        self.containers.as_mut().map_or(Ok(()), |containers| containers.end(true))?;
        if self.options.fresh {
            // The data are removed below.
            self.servers.iter_mut().for_each(Process::kill);
        } else {
            // A broker needs its helpers until it has ended.
            let helpers = self.ports.broker.as_ref().map_or(&[][..], |ports| ports.server.helpers());
            let (helpers, others): (Vec<_>, Vec<_>) =
                self.servers.drain(..).partition(|server| helpers.contains(&server.name.as_str()));
            for mut servers in [others, helpers] {
                servers.iter_mut().for_each(Process::ask_to_stop);
                servers.iter_mut().for_each(|server| server.wait_or_kill(SERVER_LIMIT));
            }
        }
        self.servers.clear();
        State::remove(&self.dir);
        if let Some(given) = self.options.given.take() {
            postgres::drop_database(without_path(&given.database_url), &self.database)?;
            if let (Some(ports), Some(address)) = (&self.ports.broker, self.broker.take()) {
                ports.server.remove_namespace(&address)?;
            }
        }
        if self.options.fresh { remove_data(&self.dir) } else { Ok(()) }
    }
}

/// After an error, the running work of the services is not waited for.
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

/// Starts several modes together: each step for all of them before the next step, so that their waits overlap.
pub fn start_all(modes: &[Mode], options: &StackOptions) -> Result<Vec<Stack>> {
    start_layouts(modes.iter().copied().map(Layout::study).collect(), options)
}

/// The same for any layouts.
pub fn start_layouts(layouts: Vec<Layout>, options: &StackOptions) -> Result<Vec<Stack>> {
    let mut stacks: Vec<Stack> =
        layouts.into_iter().map(|layout| Stack::claim(layout, options)).collect::<Result<_>>()?;
    if options.given.is_none() && !options.servers_only {
        for stack in &stacks {
            stack.layout.check(&stack.ports)?;
        }
    }
    if options.docker.is_some() {
        stacks.iter_mut().try_for_each(Stack::start_containers)?;
        return Ok(stacks);
    }
    let mut servers = vec!["PostgreSQL"];
    servers.extend(
        stacks.iter().filter_map(|stack| stack.ports.broker.as_ref()).map(|ports| ports.server.title()),
    );
    servers.dedup();
    let step = Step::start(servers.join(" and "));
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
