//! Calls a peer over HTTP: one client per process, limits on connecting and on the whole call, and an error that says
//! whether the peer refused, failed, or could not be asked. What travels along is in [`Context`].

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use contract::{Failpoint, Service};
use serde::Serialize;
use serde_json::Value;

use crate::api::Call;
use crate::config::PeerSettings;
use crate::context::{ACCEPTED_AT, Context, REQUEST_ID, TRACEPARENT};
use crate::otel::Spans;
use crate::{ApiError, failpoint};

/// Shorter than the server's limit on idle connections (5 s), so that no call meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A reply has a few hundred bytes. One that does not end would fill the memory within the time limit of the call.
const REPLY_LIMIT: usize = 64 * 1024;

/// Calls other services. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    peers: HashMap<Service, String>,
    spans: Spans,
}

/// A server that a service knows by a setting of its own.
#[derive(Clone, Debug)]
pub struct Server {
    /// For errors and logs.
    name: &'static str,
    url: String,
    /// For one call.
    limit: Duration,
}

impl Server {
    pub fn new(name: &'static str, url: &str, limit: Duration) -> Server {
        Server { name, url: url.trim_end_matches('/').to_owned(), limit }
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer understood and said no (4xx); `body` says why.
    #[error("{peer} refused with {status}")]
    Refused { peer: &'static str, status: StatusCode, body: Value },
    /// Nothing was answered in time: whether it took effect is not known.
    #[error("{peer} did not answer in time")]
    Timeout { peer: &'static str },
    /// It failed (5xx), cannot be reached, or answered what cannot be read.
    #[error("{peer}: {cause}")]
    Failed { peer: &'static str, cause: String },
}

impl Http {
    /// # Errors
    /// When the client cannot be built.
    pub(crate) fn new(peers: &PeerSettings, spans: Spans) -> anyhow::Result<Http> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .timeout(peers.call_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_proxy()
            // A call goes to its peer and nowhere else; a POST that is sent on as a GET would look like a success.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let without_slash = |(peer, url): (&Service, &String)| (*peer, url.trim_end_matches('/').to_owned());
        let peers = peers.urls.iter().map(without_slash).collect();
        Ok(Http { client, peers, spans })
    }

    /// Sends `request` to its peer and waits for the reply.
    ///
    /// # Errors
    /// [`CallError`]; after a timeout it is not known whether the call took effect.
    pub async fn call<C: Call>(&self, request: &C) -> Result<C::Reply, CallError> {
        let (peer, base) = (C::CALL.peer.name(), &self.peers[&C::CALL.peer]);
        let response = self.send(peer, base, C::PATH, request, None).await?;
        match response.status() {
            status if status.is_success() => {
                let body = read(response).await.map_err(failed(peer))?.ok_or_else(|| too_large(peer))?;
                let unreadable =
                    |error: serde_json::Error| CallError::Failed { peer, cause: error.to_string() };
                serde_json::from_slice(&body).map_err(unreadable)
            }
            status if status.is_client_error() => {
                let body = read(response).await.ok().flatten();
                let body = body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or(Value::Null);
                Err(CallError::Refused { peer, status, body })
            }
            status => Err(CallError::Failed { peer, cause: format!("answered {status}") }),
        }
    }

    /// Sends `request` to the path of a server and waits for its answer, whatever the status. A body that is no JSON is a string.
    ///
    /// # Errors
    /// [`CallError::Timeout`] without an answer within `limit`, [`CallError::Failed`] if the server cannot be reached.
    pub async fn ask(
        &self,
        server: &Server,
        path: &'static str,
        request: &(impl Serialize + Sync),
    ) -> Result<(StatusCode, Value), CallError> {
        let peer = server.name;
        let response = self.send(peer, &server.url, path, request, Some(server.limit)).await?;
        let status = response.status();
        let body = read(response).await.map_err(failed(peer))?.ok_or_else(|| too_large(peer))?;
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }

    /// Sends a request in the current workflow, within `limit` or within the limit of all calls.
    async fn send(
        &self,
        peer: &'static str,
        base: &str,
        path: &'static str,
        request: &(impl Serialize + Sync),
        limit: Option<Duration>,
    ) -> Result<reqwest::Response, CallError> {
        let mut context = Context::current();
        let url = format!("{base}{path}");
        let hop = self.spans.calling(&url, path, &mut context);
        failpoint::pass(Failpoint::BeforeCall);
        let mut sending = self
            .client
            .post(url)
            .header(REQUEST_ID, context.workflow)
            .header(TRACEPARENT, context.traceparent)
            .header(ACCEPTED_AT, context.accepted_us)
            .json(request);
        if let Some(limit) = limit {
            sending = sending.timeout(limit);
        }
        let answer = sending.send().await;
        hop.called(match &answer {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) if error.is_timeout() => Err("timeout"),
            Err(_) => Err("connection"),
        });
        let response = answer.map_err(failed(peer))?;
        failpoint::pass(Failpoint::AfterCall);
        Ok(response)
    }
}

fn failed(peer: &'static str) -> impl Fn(reqwest::Error) -> CallError {
    move |error| {
        if error.is_timeout() && !error.is_connect() {
            CallError::Timeout { peer }
        } else {
            CallError::Failed { peer, cause: format!("{:#}", anyhow::Error::from(error.without_url())) }
        }
    }
}

/// The body of a reply, within the time limit of the call; `None` if it is too large.
async fn read(mut response: reqwest::Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > REPLY_LIMIT {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn too_large(peer: &'static str) -> CallError {
    CallError::Failed { peer, cause: format!("its reply is larger than {} KB", REPLY_LIMIT / 1024) }
}

impl CallError {
    /// The `detail` of the problem with which the peer refused.
    pub fn detail(&self) -> Option<&str> {
        match self {
            CallError::Refused { body, .. } => body["detail"].as_str(),
            _ => None,
        }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> ApiError {
        tracing::warn!(%error, "call failed");
        match error {
            CallError::Timeout { peer } => ApiError::UpstreamTimeout(peer),
            CallError::Refused { peer, .. } | CallError::Failed { peer, .. } => ApiError::Upstream(peer),
        }
    }
}
