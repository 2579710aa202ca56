//! Calls a peer over HTTP: one client per process, limits on connecting and on the whole call, and an error that tells
//! a refusal, a failure and an unreachable peer apart. [`Context`] has the headers of a call.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use contract::{Failpoint, Service};
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

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer refused the request (4xx); `body` has the reason.
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
        let peer = C::CALL.peer.name();
        let failed = |error: reqwest::Error| {
            if error.is_timeout() && !error.is_connect() {
                CallError::Timeout { peer }
            } else {
                CallError::Failed { peer, cause: format!("{:#}", anyhow::Error::from(error.without_url())) }
            }
        };
        let mut context = Context::current();
        let url = format!("{}{}", self.peers[&C::CALL.peer], C::PATH);
        let hop = self.spans.calling(&url, C::PATH, &mut context);
        failpoint::pass(Failpoint::BeforeCall);
        let answer = self
            .client
            .post(url)
            .header(REQUEST_ID, context.workflow)
            .header(TRACEPARENT, context.traceparent)
            .header(ACCEPTED_AT, context.accepted_us)
            .json(request)
            .send()
            .await;
        hop.called(match &answer {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) if error.is_timeout() => Err("timeout"),
            Err(_) => Err("connection"),
        });
        let response = answer.map_err(failed)?;
        failpoint::pass(Failpoint::AfterCall);
        match response.status() {
            status if status.is_success() => {
                let body = read(response).await.map_err(failed)?.ok_or_else(|| too_large(peer))?;
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
