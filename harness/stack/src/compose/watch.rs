//! The state of containers (`docker compose ps`), and events of the engine about containers that end. Polling would take
//! processor time from what is measured.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::run_as::Account;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    pub service: String,
    /// `running`, `exited`, `restarting`...
    pub state: String,
    /// Empty without a health check.
    #[serde(default)]
    pub health: String,
    #[serde(default)]
    pub exit_code: i64,
}

impl Container {
    /// It runs and is not unhealthy.
    pub fn well(&self) -> bool {
        self.state == "running" && self.health != "unhealthy"
    }

    pub fn condition(&self) -> String {
        match (self.state.as_str(), self.health.as_str()) {
            ("running", "") => "running".to_owned(),
            ("running", health) => health.to_owned(),
            ("exited", _) => format!("ended (exit code {})", self.exit_code),
            (state, _) => state.to_owned(),
        }
    }
}

/// A list, or one object on each line, depending on the version of compose.
pub(super) fn parse_ps(text: &str) -> Result<Vec<Container>> {
    let mut containers = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.context("docker compose ps cannot be read")? {
            Value::Array(values) => containers.extend(values),
            value => containers.push(value),
        }
    }
    containers
        .into_iter()
        .map(|value| serde_json::from_value(value).context("docker compose ps cannot be read"))
        .collect()
}

/// A container that ended, whether or not it was started again.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    pub service: String,
    pub exit_code: String,
}

/// The engine's events about one project, until it is dropped.
pub struct Watch {
    child: Child,
    /// In a mutex, because a stack is shared between threads.
    news: Mutex<Receiver<Death>>,
}

impl Watch {
    /// `since`: Unix time from which events count, also before this call.
    pub fn start(project: &str, since: u64) -> Result<Self> {
        let mut command = Account::CALLER.command(Path::new("docker"), "KILL");
        command.args(["events", "--since", &since.to_string(), "--format", "{{json .}}"]);
        for filter in [
            "type=container",
            "event=die",
            &format!("label=com.docker.compose.project={project}"),
            // Not the containers of `docker compose run`, which are expected to end.
            "label=com.docker.compose.oneoff=False",
        ] {
            command.args(["--filter", filter]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().context("cannot run docker events")?;
        let output = child.stdout.take().context("docker events has no standard output")?;
        let (sender, news) = channel();
        let read = move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if parse_event(&line).is_some_and(|death| sender.send(death).is_err()) {
                    break;
                }
            }
        };
        let watch = Self { child, news: Mutex::new(news) };
        std::thread::Builder::new().name("events".into()).spawn(read)?;
        Ok(watch)
    }

    /// The next end since the last call.
    pub fn take(&mut self) -> Result<Option<Death>> {
        match self.news.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(death) => Ok(Some(death)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                bail!("the Docker engine tells nothing any more: has it ended?")
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            eprintln!("study: docker events (pid {}) cannot be ended", self.child.id());
        }
    }
}

fn parse_event(line: &str) -> Option<Death> {
    let event: Value = serde_json::from_str(line).ok()?;
    let attributes = &event["Actor"]["Attributes"];
    let text = |name: &str| attributes[name].as_str().map(ToOwned::to_owned);
    Some(Death {
        service: text("com.docker.compose.service")?,
        exit_code: text("exitCode").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_come_as_lines_or_as_a_list() {
        let one = r#"{"Service":"userservice","State":"running","Health":"healthy","ExitCode":0,"Name":"x"}"#;
        let other = r#"{"Service":"gateway","State":"exited","Health":"","ExitCode":137}"#;
        let lines = parse_ps(&format!("{one}\n{other}\n")).unwrap();
        assert_eq!(lines, parse_ps(&format!("[{one},{other}]")).unwrap());
        let conditions: Vec<String> = lines.iter().map(Container::condition).collect();
        assert_eq!(conditions, ["healthy", "ended (exit code 137)"]);
        assert_eq!([lines[0].well(), lines[1].well()], [true, false]);
        assert!(parse_ps("").unwrap().is_empty() && parse_ps("rubbish").is_err());
    }

    #[test]
    fn an_event_names_the_service_and_how_it_ended() {
        let line = r#"{"status":"die","id":"3f","Type":"container","Action":"die","Actor":{"ID":"3f","Attributes":
            {"com.docker.compose.project":"p","com.docker.compose.service":"userservice","exitCode":"137"}}}"#;
        let death = Death { service: "userservice".into(), exit_code: "137".into() };
        assert_eq!(parse_event(line), Some(death));
        assert_eq!(parse_event("{}"), None);
    }
}
