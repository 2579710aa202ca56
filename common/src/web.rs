//! What handlers take and give: extractors whose rejections are problems, and answers that can be stored and repeated.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use garde::Validate;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
            .map_err(|rejection| wrong_parameter(&rejection))?;
        valid(query.0).map(Query)
    }
}

/// 422 for a query string that serde did not take.
fn wrong_parameter(rejection: &QueryRejection) -> ApiError {
    let mut causes = anyhow::Chain::new(rejection);
    match causes.find_map(|cause| cause.downcast_ref::<serde_path_to_error::Error<ValueError>>()) {
        Some(error) => wrong_field(&error.path().to_string(), &error.inner().to_string(), "query"),
        None => ApiError::invalid("query", rejection.body_text()),
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
            .map_err(|rejection| {
                // No path has more than one.
                let route = parts.extensions.get::<MatchedPath>().map_or("", |route| route.as_str());
                let name = route.split(['{', '}']).nth(1).unwrap_or("path");
                ApiError::invalid(name, rejection.body_text())
            })
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

/// A response as data, so that it can be stored under an idempotency key and replayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredResponse {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    body: Value,
    #[serde(skip)]
    replayed: bool,
}

impl StoredResponse {
    /// # Errors
    /// When the body cannot be represented as JSON.
    pub fn new(status: StatusCode, body: impl Serialize) -> Result<StoredResponse, ApiError> {
        Ok(StoredResponse {
            status: status.as_u16(),
            location: None,
            body: serde_json::to_value(body)?,
            replayed: false,
        })
    }

    /// Where the thing can be looked at.
    pub fn at(mut self, location: String) -> StoredResponse {
        self.location = Some(location);
        self
    }

    pub(crate) fn replayed(mut self) -> StoredResponse {
        self.replayed = true;
        self
    }
}

impl IntoResponse for StoredResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body)).into_response();
        let headers = response.headers_mut();
        if status.is_client_error() || status.is_server_error() {
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

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let headers = request.headers();
    let codings = headers.get_all(header::CONTENT_ENCODING);
    if codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::Encoded);
    }
    let announced = headers.get(header::CONTENT_LENGTH);
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
    let text = std::str::from_utf8(bytes).map_err(|error| ApiError::Malformed(error.to_string()))?;
    // serde would take an array for a struct, its fields in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        well_formed(text)?;
        return Err(ApiError::invalid("body", "must be an object"));
    }
    serde_json::from_str(text).or_else(|_| read_again(text)).and_then(valid)
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

fn well_formed(text: &str) -> Result<(), ApiError> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| ApiError::Malformed(error.to_string()))?;
    Ok(())
}

/// Takes a body that was not taken at first because of how its integers are written, or says why it is not taken. Off the
/// usual path: the body is read up to three times.
fn read_again<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    well_formed(text)?;
    let plain = plain_integers(text);
    let mut reader = serde_json::Deserializer::from_str(&plain);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let message = error.inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        wrong_field(&error.path().to_string(), message, "body")
    })
}

/// 422 for what serde did not take. `whole` is named where no field can be.
fn wrong_field(path: &str, message: &str, whole: &str) -> ApiError {
    // serde names a missing or unknown field in the text alone.
    let named = || message.contains("field `").then(|| message.split('`').nth(1)).flatten();
    let field = Some(path).filter(|path| *path != ".").or_else(named);
    ApiError::invalid(field.unwrap_or(whole), message)
}

/// The same JSON with every integer written in digits alone. In JSON, and so in JSON Schema, 1.0, 10e-1 and -0 are integers
/// as well, but serde reads a number with a fraction or an exponent as a float.
fn plain_integers(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (between, token) = rest.split_at(at);
        plain.push_str(between);
        let length = if token.starts_with('"') {
            string_length(token)
        } else {
            token.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(token.len())
        };
        let (token, after) = token.split_at(length);
        match integer(token) {
            Some(digits) => plain.push_str(&digits),
            None => plain.push_str(token),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// With its quotes.
fn string_length(json: &str) -> usize {
    let mut escaped = true;
    let end = json.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 1)
}

/// The digits of a number that has no fraction, if they are few enough for an `i64`.
fn integer(number: &str) -> Option<String> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |number| ("-", number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() && !mantissa.is_empty() {
        return Some("0".into());
    }
    // Digits that stay before the point when it is moved.
    let length = digits.len() as i64 - fraction.len() as i64 + i64::from(exponent.parse::<i32>().ok()?);
    let length = usize::try_from(length).ok().filter(|length| (1..=19).contains(length))?;
    let significant = digits.trim_end_matches('0');
    (significant.len() <= length).then(|| format!("{sign}{significant:0<length$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::no_nul_opt;

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
    fn an_integer_is_taken_however_it_is_written() {
        let taken = |number: &str| parse::<Order>(format!(r#"{{"product_id":{number}}}"#).as_bytes());
        for (number, value) in [
            ("1.0", 1),
            ("1e0", 1),
            ("1E+2", 100),
            ("10e-1", 1),
            ("1.20e1", 12),
            ("0.1e1", 1),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807.000", i64::MAX),
            ("922337203685477580.7e1", i64::MAX),
        ] {
            assert_eq!(taken(number).unwrap().product_id, value, "{number}");
        }
        for number in [
            "1.5",
            "15e-1",
            "1e-1",
            "0.0",
            "-0",
            "-0.0e5",
            "-1.0",
            "9223372036854775808.0",
            "1e19",
            "1e99999999999",
            "1e-99999999999",
            "1e2147483647",
        ] {
            let error = taken(number).unwrap_err();
            assert_eq!(error.status().as_u16(), 422, "{number}");
            assert!(error.to_string().starts_with("product_id: "), "{number}: {error}");
        }
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        let same = r#" {"a 1.0":"2.0 \" 3.0 \\","b":[true,false,null,-1.5,0.25,{"e":1e-3}],"c":"-0"} "#;
        assert_eq!(plain_integers(same), same);
        assert_eq!(plain_integers(r#"["\\",1.0,"\"",-2e0]"#), r#"["\\",1,"\"",-2]"#);
    }

    #[test]
    fn a_field_that_is_given_twice_is_refused_also_when_a_number_is_read_again() {
        assert_eq!(refusal(r#"{"product_id":1.0,"product_id":1}"#), (422, "product_id".into()));
    }

    #[test]
    fn a_body_that_is_not_utf_8_is_malformed_wherever_the_byte_stands() {
        #[derive(Debug, Deserialize, Validate)]
        struct Open {}
        for body in
            [&b"{\"note\":\"\xff\"}"[..], b"{\"\xe9\":1}", b"{}\xff", b"\xff\xfe{\0}\0", b"[\"\xc3\"]"]
        {
            for error in [parse::<Order>(body).unwrap_err(), parse::<Open>(body).unwrap_err()] {
                assert_eq!(error.status().as_u16(), 400, "{body:?}");
            }
        }
    }

    #[test]
    fn what_is_no_json_is_malformed_wherever_the_defect_stands() {
        for body in ["", "{", r#"{"product_id":"1",}"#, r#"{"colour":1,"#, &"[".repeat(200), "\u{0}"] {
            assert_eq!(refusal(body).0, 400, "{body:?}");
        }
    }
}
