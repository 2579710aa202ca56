//! After the load: waits until everything that was accepted has ended, and in async mode until the broker holds
//! nothing more. Gives up at a deadline; what is then still open is a result, not an error.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::join;
use super::journal::Journal;
use super::progress::Phase;
use super::samples::Answer;
use crate::local::{Stack, http, signals};

#[derive(Clone, Debug, Default, Serialize)]
pub struct Drain {
    pub seconds: f64,
    /// Accepted workflows without all of their final effects at the end of the wait.
    pub open: u64,
    /// Messages still in queues, and messages set aside as undeliverable.
    pub queued: u64,
    pub dead: u64,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
    #[serde(default)]
    messages: u64,
}

pub fn wait(
    stack: &mut Stack,
    journal: &mut Journal,
    answers: &[Answer],
    limit: Duration,
    phase: &mut Phase,
) -> Result<Drain> {
    let started = Instant::now();
    let agent = http::agent(Duration::from_secs(5));
    let mut drain = Drain::default();
    loop {
        stack.check()?;
        journal.poll()?;
        drain.open = join::open(answers, &journal.entries);
        // The broker counts only every few seconds: ask it when the journals say that all is done.
        if drain.open == 0 {
            (drain.queued, drain.dead) = queues(stack, &agent)?;
        }
        drain.seconds = started.elapsed().as_secs_f64();
        if (drain.open == 0 && drain.queued == 0) || started.elapsed() > limit {
            return Ok(drain);
        }
        phase.tick(&format!("{} workflows open, {} messages queued", drain.open, drain.queued));
        signals::pause(Duration::from_millis(250))?;
    }
}

/// Messages in all queues of the stack: waiting or unacknowledged, and dead.
fn queues(stack: &Stack, agent: &Agent) -> Result<(u64, u64)> {
    let Some(management) = stack.management_url() else { return Ok((0, 0)) };
    let url = format!("{management}/api/queues/{}?columns=name,messages", stack.vhost());
    let (_, body) = http::get(agent, &url).context("cannot ask RabbitMQ for its queues")?;
    let queues: Vec<Queue> =
        serde_json::from_str(&body).context("RabbitMQ's list of queues cannot be read")?;
    let sum = |dead: bool| {
        queues.iter().filter(|queue| queue.name.ends_with(".dlq") == dead).map(|q| q.messages).sum()
    };
    Ok((sum(false), sum(true)))
}
