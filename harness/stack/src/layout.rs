//! What a stack is made of: its services with their programs, logins and addresses, and its ports.

use contract::Service;

use super::ports::Ports;
use super::{Mode, postgres};

#[derive(Clone)]
pub struct Layout {
    /// Of its folder, and for people.
    pub name: String,
    pub mode: Mode,
    /// In the order of the ports of the services.
    pub members: Vec<Member>,
    /// Without an offset.
    pub ports: Ports,
    pub database: &'static str,
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
    pub login: &'static str,
    /// By which its callers know its address in sync mode.
    pub url_variable: String,
}

impl Layout {
    /// One mode of the study.
    pub fn study(mode: Mode) -> Self {
        let members = Service::ALL.map(|service| Member {
            name: service.name(),
            program: service.name(),
            login: service.name(),
            url_variable: service.url_variable(),
        });
        Self {
            name: mode.to_string(),
            mode,
            members: members.into(),
            ports: Ports::unmoved(mode),
            database: postgres::DATABASE,
            env: Vec::new(),
        }
    }

    /// The member called `name`, and its place.
    pub fn find(&self, name: &str) -> Option<(usize, &Member)> {
        self.members.iter().enumerate().find(|(_, member)| member.name == name)
    }

    pub(super) fn logins(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.login).collect()
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.name).collect()
    }
}
