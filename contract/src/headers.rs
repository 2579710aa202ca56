//! Names of headers, of HTTP requests and of messages alike.

/// The id of the workflow, kept from the client or made by the first service. In a message: `correlation_id`.
pub const REQUEST_ID: &str = "x-request-id";
/// W3C Trace Context, <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: &str = "traceparent";
/// When the first service accepted the workflow, in microseconds since the Unix epoch.
pub const ACCEPTED_AT: &str = "x-accepted-at";
/// Of a request: repeated requests with one key take effect once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Of an answer that was given before.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// Of a message: when it was made, in microseconds since the Unix epoch.
pub const PUBLISHED_AT: &str = "x-published-at";
/// Of a failed message: how often it was tried.
pub const ATTEMPT: &str = "x-attempt";
/// Of a failed message: why it could not be applied.
pub const REASON: &str = "x-reason";
/// Of a failed message: when it failed first, in microseconds since the Unix epoch.
pub const FIRST_FAILED_AT: &str = "x-first-failed-at";

/// Every header of the contract.
pub const ALL: &[&str] = &[
    REQUEST_ID,
    TRACEPARENT,
    ACCEPTED_AT,
    IDEMPOTENCY_KEY,
    IDEMPOTENT_REPLAYED,
    PUBLISHED_AT,
    ATTEMPT,
    REASON,
    FIRST_FAILED_AT,
];

/// Properties of a message that AMQP has beside the headers. Kafka has headers of the same names.
pub mod properties {
    pub const CONTENT_TYPE: &str = "content_type";
    /// The id of the workflow, as [`REQUEST_ID`](super::REQUEST_ID) in HTTP.
    pub const CORRELATION_ID: &str = "correlation_id";
    pub const MESSAGE_ID: &str = "message_id";
    /// When the message was made, in seconds since the Unix epoch.
    pub const TIMESTAMP: &str = "timestamp";
    /// The name of the event.
    pub const TYPE: &str = "type";
}
