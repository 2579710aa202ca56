//! A message as the management API shows and takes it.

use contract::headers::{ATTEMPT, FIRST_FAILED_AT, REASON};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::broker::DeadLetter;

/// Headers that a consumer adds to an event that failed.
const FAILURE_HEADERS: [&str; 3] = [ATTEMPT, REASON, FIRST_FAILED_AT];
/// Headers that the broker adds: how often it delivered the message, and where it dead-lettered it.
const BROKER_HEADERS: [&str; 9] = [
    "x-delivery-count",
    "x-acquired-count",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Message {
    /// The exchange it came through, empty for the default one.
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// Messages behind this one in its queue.
    #[serde(rename = "message_count")]
    pub(super) behind: usize,
    /// `[]` where it has none.
    properties: Value,
    /// Base64.
    payload: String,
}

impl Message {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)?.as_str()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.properties.get("headers")?.get(name)?.as_str()
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.property("message_id")
    }

    /// What distinguishes it from other messages: without the counts that the broker keeps.
    pub(super) fn identity(&self) -> (Option<String>, String) {
        (self.id().map(str::to_owned), self.payload.clone())
    }

    /// The same message as it was before it failed.
    pub(super) fn renewed(&self) -> Self {
        self.without(|name| FAILURE_HEADERS.contains(&name) || BROKER_HEADERS.contains(&name))
    }

    /// The same message for the same queue.
    pub(super) fn unchanged(&self) -> Self {
        self.without(|name| BROKER_HEADERS[..2].contains(&name))
    }

    fn without(&self, dropped: impl Fn(&str) -> bool) -> Self {
        let mut message = self.clone();
        if let Some(Value::Object(headers)) = message.properties.get_mut("headers") {
            headers.retain(|name, _| !dropped(name));
        }
        message
    }

    /// As the management API takes it, to publish it under this routing key.
    pub(super) fn publish(&self, routing_key: &str) -> Value {
        let properties =
            if self.properties.is_object() { self.properties.clone() } else { Map::new().into() };
        json!({"routing_key": routing_key, "properties": properties,
               "payload": self.payload, "payload_encoding": "base64"})
    }
}

impl From<&Message> for DeadLetter {
    fn from(message: &Message) -> Self {
        let headers = Self::from_headers(|name| message.header(name).map(str::to_owned));
        // The broker dead-letters by itself what exceeds a limit.
        let by_broker = || match message.header("x-first-death-reason") {
            Some("delivery_limit") => Some("delivered too often without ever being acknowledged".to_owned()),
            reason => reason.map(str::to_owned),
        };
        Self {
            id: message.id().map(str::to_owned),
            event: message.property("type").map(str::to_owned),
            reason: headers.reason.or_else(by_broker),
            request_id: headers.request_id.or_else(|| message.property("correlation_id").map(str::to_owned)),
            body: decode(&message.payload),
            ..headers
        }
    }
}

/// Standard base64, as the broker writes it.
fn decode(base64: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in base64.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &Value) -> Message {
        let properties =
            json!({"message_id": "m", "type": "UserRegistered", "delivery_mode": 2, "headers": headers});
        Message {
            exchange: String::new(),
            routing_key: "q.dlq".into(),
            behind: 0,
            properties,
            payload: "eyJhIjoiw6QifQ==".into(),
        }
    }

    #[test]
    fn a_renewed_message_loses_only_the_headers_of_its_failure() {
        let failed = message(
            &json!({"x-attempt": "5", "x-reason": "r", "x-first-failed-at": "1", "x-delivery-count": 3,
            "x-death": [{"count": 1}], "x-request-id": "w", "traceparent": "00-abc-d-01", "x-accepted-at": "7"}),
        );
        let published = failed.renewed().publish("q");
        assert_eq!(published["properties"]["message_id"], "m");
        assert_eq!(
            published["properties"]["headers"],
            json!({"x-request-id": "w", "traceparent": "00-abc-d-01", "x-accepted-at": "7"})
        );
        assert_eq!(published["payload"], "eyJhIjoiw6QifQ==");
        let stays = failed.unchanged().publish("q.dlq");
        assert_eq!(stays["properties"]["headers"]["x-reason"], "r");
    }

    #[test]
    fn a_dead_letter_has_what_its_headers_and_properties_say() {
        let dead = DeadLetter::from(&message(&json!({"x-attempt": "5", "x-first-failed-at": "7",
            "x-first-death-reason": "delivery_limit", "traceparent": "00-abc-d-01", "x-request-id": "w"})));
        assert_eq!((dead.id.as_deref(), dead.event.as_deref()), (Some("m"), Some("UserRegistered")));
        assert_eq!((dead.attempts.as_deref(), dead.first_failed_us), (Some("5"), Some(7)));
        assert_eq!((dead.trace_id.as_deref(), dead.request_id.as_deref()), (Some("abc"), Some("w")));
        assert_eq!(dead.reason.as_deref(), Some("delivered too often without ever being acknowledged"));
        assert_eq!(dead.body, r#"{"a":"ä"}"#.as_bytes());
    }

    #[test]
    fn a_message_without_properties_can_be_read_and_published() {
        let bare = Message { properties: json!([]), ..message(&json!({})) };
        assert_eq!(DeadLetter::from(&bare).id, None);
        assert_eq!(bare.renewed().publish("q")["properties"], json!({}));
    }
}
