//! How a handler fails, and the one place where a failure becomes a status: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// What a handler answers instead of a result. The text is for the client; causes are logged, never shown.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the body is not JSON.
    #[error("malformed JSON: {0}")]
    Malformed(String),
    /// 400: HTTP does not allow such a request.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 404
    #[error("{0}")]
    NotFound(Cow<'static, str>),
    /// 405
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// 408
    #[error("the body did not come within 10 s")]
    TooSlow,
    /// 409
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 413
    #[error("the body is larger than 64 KB")]
    TooLarge,
    /// 415 with `Accept-Encoding`: the body is compressed.
    #[error("the body must not have a Content-Encoding other than identity")]
    Encoded,
    /// 422: each field and what is wrong with it.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldError>),
    /// 502: another service failed or cannot be reached.
    #[error("{0} failed or cannot be reached")]
    Upstream(&'static str),
    /// 504: another service did not answer in time.
    #[error("{0} did not answer in time")]
    UpstreamTimeout(&'static str),
    /// 503 with `Retry-After`: something this request needs is away, or full.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// 500: a failure that an operator asked for.
    #[error("{0}")]
    Injected(&'static str),
    /// 500
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Path of the field, such as `quantity`; `body` for the whole.
    pub field: String,
    pub message: String,
}

/// RFC 9457. `type` is `about:blank`: the status says all that is general.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(inline, required = false)]
    errors: Vec<FieldError>,
}

/// A body of a service's own, or a [`Problem`] with the same status: for the API document.
#[derive(utoipa::ToSchema, Serialize)]
#[serde(untagged)]
pub enum OrProblem<T> {
    Own(T),
    Problem(Problem),
}

impl ApiError {
    /// One invalid field.
    pub fn invalid(field: &str, message: impl Into<String>) -> ApiError {
        ApiError::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// 404 for a thing by its id.
    pub fn not_found(kind: &str, id: impl std::fmt::Display) -> ApiError {
        ApiError::NotFound(format!("{kind} {id} does not exist").into())
    }

    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::Malformed(_) | ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            ApiError::Conflict(_) => StatusCode::CONFLICT,
            ApiError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::Upstream(_) => StatusCode::BAD_GATEWAY,
            ApiError::UpstreamTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Injected(_) | ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// How long a client should wait; where waiting helps.
    fn retry_after(&self) -> Option<Duration> {
        matches!(self, ApiError::Unavailable(_)).then_some(Duration::from_secs(1))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status(), self.retry_after());
        match &self {
            ApiError::Internal(cause) => tracing::error!(cause = format!("{cause:#}"), "request failed"),
            // What is away is logged once, by what keeps it connected.
            ApiError::Unavailable(_) => {}
            error if status.is_server_error() => {
                tracing::warn!(status = status.as_u16(), %error, "request refused");
            }
            _ => {}
        }
        let encoded = matches!(self, ApiError::Encoded);
        let detail = self.to_string();
        let errors = if let ApiError::Invalid(errors) = self { errors } else { Vec::new() };
        let title = status.canonical_reason().unwrap_or("Error");
        let problem = Problem { kind: "about:blank", title, status: status.as_u16(), detail, errors };
        let body = serde_json::to_vec(&problem).map_or_else(|_| Body::empty(), Body::from);
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if encoded {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(wait) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        response
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> ApiError {
        ApiError::Internal(error.into())
    }
}

fn summary(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    texts.join("; ")
}

/// What any path may answer when it fails, for the API document; all are [`Problem`]s.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code)]
pub enum Problems {
    /// Malformed JSON, or a request without a valid `Host`
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// The body came too slowly
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(#[to_schema] Problem),
    /// No such thing
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// In conflict with what is there
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] Problem),
    /// Body over 64 KB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// A body with a `Content-Encoding`; see `Accept-Encoding`
    #[response(status = 415, content_type = "application/problem+json")]
    Encoded(#[to_schema] Problem),
    /// Invalid fields, parameters or headers, each named in `errors`
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Something that is needed is away or full; see `Retry-After`
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}
