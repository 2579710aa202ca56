//! What handlers take and give: extractors whose rejections are problems, and answers that can be stored and repeated.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use garde::Validate;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::email;
use crate::error::{ApiError, FieldError, PROBLEM_JSON};

/// Request bodies up to this many bytes are read.
pub const BODY_LIMIT: usize = 64 * 1024;
/// A client that sends its body slower than this is answered 408: it would hold a task and a connection for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, parsed and validated. 400 if it is no JSON, 408 if it comes too slowly, 413
/// if it is too large, 422 if a field is wrong.
/// The content type is not looked at: the path says what the body must be.
pub struct Json<T>(pub T);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        parse(&body(request, state).await?).map(Json)
    }
}

/// Like [`Json`], for a body that may be missing.
pub struct OptionalJson<T>(pub T);

impl<S, T> FromRequest<S> for OptionalJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()> + Default,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = body(request, state).await?;
        if bytes.is_empty() { Ok(OptionalJson(T::default())) } else { parse(&bytes).map(OptionalJson) }
    }
}

/// The query string, parsed and validated; else 422.
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query: axum::extract::Query<T> = axum::extract::Query::try_from_uri(&parts.uri)
            .map_err(|rejection| ApiError::invalid("query", rejection.body_text()))?;
        valid(query.0).map(Query)
    }
}

/// The variable part of a path; 422 if it is not of the type.
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|path: axum::extract::Path<T>| Path(path.0))
            .map_err(|rejection| ApiError::invalid("path", rejection.body_text()))
    }
}

/// How many rows a list shows, newest first.
#[derive(Clone, Copy, Debug, Deserialize, Validate, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// 1 to 1000
    #[serde(default = "Page::default_limit")]
    #[garde(range(min = 1, max = 1000))]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: i64,
}

impl Page {
    /// What a list shows when it is not told.
    pub fn default_limit() -> i64 {
        100
    }
}

/// An answer as data, so that it can be stored under an idempotency key and given again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    body: Value,
    #[serde(skip)]
    replayed: bool,
}

impl Answer {
    /// # Errors
    /// When the body cannot be represented as JSON.
    pub fn new(status: StatusCode, body: impl Serialize) -> Result<Answer, ApiError> {
        Ok(Answer {
            status: status.as_u16(),
            location: None,
            body: serde_json::to_value(body)?,
            replayed: false,
        })
    }

    /// Where the thing can be looked at.
    pub fn at(mut self, location: String) -> Answer {
        self.location = Some(location);
        self
    }

    pub(crate) fn replayed(mut self) -> Answer {
        self.replayed = true;
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body)).into_response();
        let headers = response.headers_mut();
        if status.is_client_error() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        }
        if let Some(location) = self.location.and_then(|l| HeaderValue::try_from(l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if self.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// An e-mail address; [`email`] says which texts are one.
///
/// # Errors
/// When the text is none.
pub fn is_email(text: &str, _: &()) -> garde::Result {
    email::check(text).map_err(|defect| garde::Error::new(format!("is no e-mail address: it {defect}")))
}

/// PostgreSQL's text cannot hold the character NUL: refuse it as input.
///
/// # Errors
/// When the text holds one.
pub fn no_nul(text: &str, _: &()) -> garde::Result {
    if text.contains('\0') { Err(garde::Error::new("must not contain the character NUL")) } else { Ok(()) }
}

/// [`no_nul`] for text that may be missing.
///
/// # Errors
/// When the text holds one.
pub fn no_nul_opt(text: &Option<String>, context: &()) -> garde::Result {
    text.as_deref().map_or(Ok(()), |text| no_nul(text, context))
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    if announced
        .and_then(|bytes| bytes.to_str().ok()?.parse().ok())
        .is_some_and(|bytes: u64| bytes > BODY_LIMIT as u64)
    {
        return Err(ApiError::TooLarge);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state));
    read.await.map_err(|_| ApiError::TooSlow)?.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
        _ => ApiError::Malformed(rejection.body_text()),
    })
}

fn parse<T: DeserializeOwned + Validate<Context = ()>>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take an array for a struct, its fields in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => Err(ApiError::invalid("body", "must be an object")),
            Err(syntax) => Err(ApiError::Malformed(syntax.to_string())),
        };
    }
    serde_json::from_slice(bytes).map_err(|error| rejected::<T>(bytes, &error)).and_then(valid)
}

fn valid<T: Validate<Context = ()>>(value: T) -> Result<T, ApiError> {
    value.validate().map_err(|report| {
        let errors = report
            .iter()
            .map(|(path, error)| FieldError { field: path.to_string(), message: error.to_string() });
        ApiError::Invalid(errors.collect())
    })?;
    Ok(value)
}

/// Why a body was not taken. Only here, off the usual path, the body is read again for the field's name.
fn rejected<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    if let Err(syntax) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return ApiError::Malformed(syntax.to_string());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let path = serde_path_to_error::deserialize::<_, T>(&mut reader).err().map(|e| e.path().to_string());
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    // serde names a missing or unknown field in the text alone.
    let named =
        || message.contains("field `").then(|| message.split('`').nth(1)).flatten().map(str::to_owned);
    let field = path.filter(|p| p != ".").or_else(named).unwrap_or_else(|| "body".into());
    ApiError::invalid(&field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[garde(range(min = 1))]
        #[allow(dead_code)]
        product_id: i64,
        #[serde(default)]
        #[garde(custom(no_nul_opt))]
        #[allow(dead_code)]
        note: Option<String>,
    }

    fn refusal(body: &str) -> (u16, String) {
        let error = parse::<Order>(body.as_bytes()).unwrap_err();
        let field =
            if let ApiError::Invalid(errors) = &error { errors[0].field.clone() } else { String::new() };
        (error.status().as_u16(), field)
    }

    #[test]
    fn a_body_is_refused_with_the_field_that_is_wrong() {
        assert_eq!(refusal(r#"{"product_id":"1"}"#), (422, "product_id".into()));
        assert_eq!(refusal(r#"{"product_id":1.5}"#), (422, "product_id".into()));
        assert_eq!(refusal(r#"{"product_id":99999999999999999999}"#), (422, "product_id".into()));
        assert_eq!(refusal(r#"{"product_id":0}"#), (422, "product_id".into()));
        assert_eq!(refusal(r#"{"product_id":1,"note":"a\u0000b"}"#), (422, "note".into()));
        assert_eq!(refusal("{}"), (422, "product_id".into()));
        assert_eq!(refusal(r#"{"product_id":1,"colour":1}"#), (422, "colour".into()));
        assert_eq!(refusal(r#"{"product_id":1e999}"#), (422, "product_id".into()));
        assert_eq!(refusal("[1]"), (422, "body".into()));
        assert_eq!(
            refusal(&format!(r#"{{"note":{}{}}}"#, "[".repeat(9000), "]".repeat(9000))),
            (422, "note".into())
        );
    }

    #[test]
    fn what_is_no_json_is_malformed_wherever_the_defect_stands() {
        for body in ["", "{", r#"{"product_id":"1",}"#, r#"{"colour":1,"#, &"[".repeat(200), "\u{0}"] {
            assert_eq!(refusal(body).0, 400, "{body:?}");
        }
    }
}
