//! What a stack is made of: its services with their programs, logins and addresses, and its ports.

use anyhow::Result;
use contract::{Service, campus};

use super::broker::{BrokerPorts, Server};
use super::ports::Ports;
use super::{Mode, modes, postgres};

#[derive(Clone)]
pub struct Layout {
    /// Of its folder, and for people.
    pub name: String,
    pub mode: Mode,
    /// In the order of the ports of the services.
    pub members: Vec<Member>,
    /// Without an offset, with those of all servers that may observe it.
    pub ports: Ports,
    pub database: &'static str,
    /// The stack of the campus lab that it is, with its ports.
    pub campus: Option<(campus::Stack, campus::Ports)>,
    /// Environment of all its services, beside what every stack has.
    pub env: Vec<(String, String)>,
}

/// A service of a stack.
#[derive(Clone)]
pub struct Member {
    /// Of the process and its log.
    pub name: &'static str,
    /// The binary.
    pub program: &'static str,
    /// Login and schema in the database.
    pub login: String,
    /// By which its callers know its address in sync mode.
    pub url_variable: Option<String>,
}

impl Layout {
    /// One mode of the study.
    pub fn study(mode: Mode) -> Self {
        let members = Service::ALL.map(|service| Member {
            name: service.name(),
            program: service.name(),
            login: service.name().to_owned(),
            url_variable: Some(service.url_variable()),
        });
        Self {
            name: mode.to_string(),
            mode,
            members: members.into(),
            ports: Ports { monitoring: mode.ports().monitoring.into(), ..Ports::unmoved(mode) },
            database: postgres::DATABASE,
            campus: None,
            env: Vec::new(),
        }
    }

    /// A stack of the campus lab, with its own ports or those of the public labs.
    pub fn campus(stack: campus::Stack, lab_ports: bool) -> Self {
        let members = stack.services().iter().map(|&service| Member {
            name: stack.container(service),
            program: service.program(),
            login: service.schema(),
            url_variable: service.url_variable().map(ToOwned::to_owned),
        });
        let of_stack = if lab_ports { stack.lab_ports() } else { stack.ports() };
        // The servers' other ports follow those of the services.
        let more = stack.ports().first_service + 5;
        let internal = [more + 1, more + 2];
        let broker = |(server, ports): (&'static dyn Server, contract::BrokerPorts)| {
            let internal = &internal[..server.internal_ports().len()];
            BrokerPorts::of(server, ports, internal)
        };
        let ports = Ports {
            postgres: more,
            broker: modes::broker(stack.mode()).zip(of_stack.broker).map(broker),
            services: stack.services().iter().map(|service| of_stack.service(*service)).collect(),
            monitoring: campus::MONITORING.into(),
        };
        let profile =
            stack.profile().map(|profile| (campus::PROFILE.to_owned(), profile.as_str().to_owned()));
        Self {
            name: Self::campus_name(stack),
            mode: stack.mode(),
            members: members.collect(),
            ports,
            database: "campus",
            campus: Some((stack, of_stack)),
            env: profile.into_iter().collect(),
        }
    }

    /// The name of a stack of the campus lab, which is also its folder below `.study`.
    pub fn campus_name(stack: campus::Stack) -> String {
        format!("campus/{stack}")
    }

    /// The word in the names of the Prometheus configuration and of the board that show it.
    pub(super) fn board(&self) -> &'static str {
        if self.campus.is_some() { "campus" } else { self.mode.as_str() }
    }

    /// The member called `name`, and its place.
    pub fn find(&self, name: &str) -> Option<(usize, &Member)> {
        self.members.iter().enumerate().find(|(_, member)| member.name == name)
    }

    /// Its ports, moved by the offset, with those of the first `monitoring` of [`contract::Monitoring::ALL`].
    ///
    /// # Errors
    /// When a port would lie past 65535.
    pub fn moved(&self, offset: u16, monitoring: usize) -> Result<Ports> {
        let mut ports = self.ports.moved(offset)?;
        ports.monitoring.truncate(monitoring);
        Ok(ports)
    }

    /// Fails if another process listens on one of these ports of the stack.
    pub fn check(&self, ports: &Ports) -> Result<()> {
        ports.check(&self.name, &self.names())
    }

    pub(super) fn logins(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.login.as_str()).collect()
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.name).collect()
    }
}
