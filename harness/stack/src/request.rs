//! A command for a service, or a server, of a running stack, from another terminal. The supervisor owns the processes, so the command
//! goes to it as a file in the stack's folder, and its answer comes back as another.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::atomic_file::write_whole;
use super::state::Identity;
use super::{Stack, not_ours, signals};

const REQUEST: &str = "request.json";
const ANSWER: &str = "answer.json";
/// Longer than a service takes to stop or to get ready.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// SIGTERM: it finishes what it has begun.
    Stop,
    /// Waits until it is ready.
    Start,
    /// SIGKILL.
    Kill,
}

#[derive(Serialize, Deserialize)]
struct Request {
    action: Action,
    service: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// Returns when the supervisor of the stack in `dir` has done it.
pub fn send(dir: &Path, supervisor: Identity, action: Action, service: &str) -> Result<()> {
    let path = dir.join("request.lock");
    let lock = File::create(&path).with_context(|| not_ours(&path))?;
    lock.lock().context("cannot wait for another command")?;
    fs::remove_file(dir.join(ANSWER)).ok();
    let request = Request { action, service: service.to_owned() };
    write_whole(&dir.join(REQUEST), &serde_json::to_string(&request)?)?;
    let answer = signals::poll(Duration::from_millis(20), LIMIT, || {
        if let Ok(text) = fs::read_to_string(dir.join(ANSWER)) {
            return Ok(Some(serde_json::from_str::<Answer>(&text)?));
        }
        ensure!(supervisor.alive(), "the stack ended meanwhile");
        Ok(None)
    })?;
    let answer =
        answer.with_context(|| format!("pid {}, which runs the stack, does not answer", supervisor.pid))?;
    answer.error.map_or(Ok(()), |error| Err(anyhow!(error)))
}

/// Carries out the command that waits for this stack, if there is one.
pub(super) fn carry_out(stack: &mut Stack) {
    let path = stack.dir.join(REQUEST);
    let Ok(text) = fs::read_to_string(&path) else { return };
    fs::remove_file(&path).ok();
    let done =
        serde_json::from_str(&text).context("a damaged command").and_then(|request| done(stack, &request));
    let answer = Answer { error: done.err().map(|error| format!("{error:#}")) };
    let written = serde_json::to_string(&answer).map_err(Into::into);
    if let Err(error) = written.and_then(|text| write_whole(&stack.dir.join(ANSWER), &text)) {
        eprintln!("study: {error:#}");
    }
}

fn done(stack: &mut Stack, request: &Request) -> Result<()> {
    let service = &request.service;
    match request.action {
        Action::Stop => stack.stop_service(service, stack.options.service_limit()).map(drop),
        Action::Kill => stack.kill_service(service),
        Action::Start if stack.pid(service).is_ok() => bail!("{service} runs already"),
        Action::Start if Some(service.as_str()) == stack.broker_name() => stack.start_broker(),
        Action::Start if service == "postgresql" => stack.start_database(),
        Action::Start => {
            stack.start_again(service, &[])?;
            stack.wait_until_ready()
        }
    }
}
