//! One request of a client: its answer, or how the connection failed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use ureq::{Agent, Error};

use crate::operation_log::{Operation, Outcome};
use stack::Mode;

/// The checker does not need longer bodies.
const LONGEST_BODY: usize = 4096;

pub struct Client {
    agent: Agent,
    urls: HashMap<&'static str, String>,
}

impl Client {
    pub fn new(mode: Mode, urls: HashMap<&'static str, String>) -> Client {
        // Without events an answer waits for the work of three services.
        let limit = Duration::from_secs(if mode.has_broker() { 5 } else { 15 });
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(limit))
            // A new connection for each request: a refused connection then means that nothing was sent.
            .max_idle_connections(0);
        Client { agent: config.build().new_agent(), urls }
    }

    pub fn ask(&self, operation: &Operation) -> Outcome {
        let base = self.urls.get(operation.service.as_str()).map_or("", String::as_str);
        let url = format!("{base}{}", operation.path);
        let mut request = if operation.put { self.agent.put(&url) } else { self.agent.post(&url) }
            .header("content-type", "application/json")
            .header("x-request-id", operation.workflow());
        if let Some(key) = &operation.key {
            request = request.header("idempotency-key", key);
        }
        let mut response = match request.send(operation.body.to_string()) {
            Ok(response) => response,
            Err(error) => return failure(&error),
        };
        let has = |name: &str| response.headers().contains_key(name);
        let (status, retry_after, replayed) =
            (response.status().as_u16(), has("retry-after"), has("idempotent-replayed"));
        match response.body_mut().read_to_string() {
            Ok(text) => {
                let body = if text.len() > LONGEST_BODY { "" } else { &text };
                let body = serde_json::from_str(body).unwrap_or(Value::Null);
                Outcome::Status { status, retry_after, replayed, body }
            }
            Err(error) => failure(&error),
        }
    }

    /// `None` if it cannot be read.
    pub fn read(&self, service: &str, path: &str) -> Option<String> {
        let url = format!("{}{path}", self.urls.get(service)?);
        let request = self.agent.get(&url).config().timeout_global(Some(Duration::from_secs(1))).build();
        let mut response = request.call().ok()?;
        response.body_mut().read_to_string().ok().filter(|_| response.status().is_success())
    }
}

fn failure(error: &Error) -> Outcome {
    match error {
        Error::Timeout(_) => Outcome::Timeout,
        Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::ConnectionRefused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Outcome::Reset,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Timeout,
            _ => Outcome::Failed { error: error.to_string() },
        },
        other => Outcome::Failed { error: other.to_string() },
    }
}
