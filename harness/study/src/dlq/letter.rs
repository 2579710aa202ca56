//! One dead-lettered message as the management API shows it: the properties that a consumer wrote when it set the event aside,
//! the body as bytes.

use contract::headers::{ATTEMPT, FIRST_FAILED_AT, REASON, REQUEST_ID, TRACEPARENT};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Written by whoever sets an event aside; without them it is as new.
const NOTES: [&str; 3] = [ATTEMPT, REASON, FIRST_FAILED_AT];
/// Written by the broker: how often it was delivered, and where it died before.
const BROKERS: [&str; 9] = [
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

/// A message of a dead-letter queue.
#[derive(Clone, Debug, Deserialize)]
pub struct Letter {
    /// The exchange it came through, empty for the default one.
    pub exchange: String,
    pub routing_key: String,
    /// Letters that lie behind this one.
    #[serde(rename = "message_count")]
    pub behind: usize,
    /// `[]` where it has none.
    properties: Value,
    /// Base64.
    payload: String,
}

impl Letter {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)?.as_str()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.properties.get("headers")?.get(name)?.as_str()
    }

    pub fn id(&self) -> Option<&str> {
        self.property("message_id")
    }

    pub fn event(&self) -> Option<&str> {
        self.property("type")
    }

    pub fn attempts(&self) -> Option<&str> {
        self.header(ATTEMPT)
    }

    /// Microseconds since the Unix epoch.
    pub fn first_failed_us(&self) -> Option<i64> {
        self.header(FIRST_FAILED_AT)?.parse().ok()
    }

    /// RFC 3339 with microseconds, also where they end in zeros; empty if it is unknown.
    pub fn first_failed_at(&self) -> String {
        let text = |us: i64| {
            let second = OffsetDateTime::from_unix_timestamp(us.div_euclid(1_000_000)).ok()?;
            let second = second.format(&Rfc3339).ok()?;
            Some(format!("{}.{:06}Z", second.trim_end_matches('Z'), us.rem_euclid(1_000_000)))
        };
        self.first_failed_us().and_then(text).unwrap_or_default()
    }

    /// The consumer's words; else why the broker moved it here by itself.
    pub fn reason(&self) -> String {
        let broker = || match self.header("x-first-death-reason") {
            Some("delivery_limit") => "delivered too often without ever being acknowledged",
            Some(reason) => reason,
            None => "",
        };
        self.header(REASON).map_or_else(|| broker().to_owned(), str::to_owned)
    }

    /// Of the W3C trace that the event belongs to.
    pub fn trace_id(&self) -> Option<&str> {
        self.header(TRACEPARENT)?.split('-').nth(1)
    }

    pub fn request_id(&self) -> Option<&str> {
        self.header(REQUEST_ID).or_else(|| self.property("correlation_id"))
    }

    pub fn body(&self) -> Vec<u8> {
        decode(&self.payload)
    }

    /// A few lines for a person; the body only if asked for.
    pub fn describe(&self, body: bool) -> String {
        let lines = [
            ("event", self.event().unwrap_or("-").to_owned()),
            ("attempts", self.attempts().unwrap_or("-").to_owned()),
            ("first failed at", self.first_failed_at()),
            ("reason", self.reason()),
            ("trace id", self.trace_id().unwrap_or("-").to_owned()),
            ("request id", self.request_id().unwrap_or("-").to_owned()),
        ];
        let mut text = format!("\n{}\n", printable(self.id().unwrap_or("(no message id)")));
        for (name, value) in lines {
            text += &format!("  {name:<16}{}\n", printable(&value));
        }
        if body {
            text += &format!("  {:<16}{}\n", "body", printable(&String::from_utf8_lossy(&self.body())));
        }
        text
    }

    /// What tells it from others: a count that the broker keeps must not.
    pub(super) fn identity(&self) -> (Option<String>, String) {
        (self.id().map(str::to_owned), self.payload.clone())
    }

    /// The same message as it was before it ever failed.
    pub(super) fn renewed(&self) -> Self {
        self.without(|name| NOTES.contains(&name) || BROKERS.contains(&name))
    }

    /// The same message to lie here again.
    pub(super) fn unchanged(&self) -> Self {
        self.without(|name| BROKERS[..2].contains(&name))
    }

    fn without(&self, dropped: impl Fn(&str) -> bool) -> Self {
        let mut letter = self.clone();
        if let Some(Value::Object(headers)) = letter.properties.get_mut("headers") {
            headers.retain(|name, _| !dropped(name));
        }
        letter
    }

    /// What the management API wants in order to publish it under this routing key.
    pub(super) fn publish(&self, routing_key: &str) -> Value {
        let properties =
            if self.properties.is_object() { self.properties.clone() } else { Map::new().into() };
        json!({"routing_key": routing_key, "properties": properties,
               "payload": self.payload, "payload_encoding": "base64"})
    }
}

/// On one line, and nothing that a terminal would obey: some of it was written by strangers.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Of standard base64, which the broker wrote.
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

    fn letter(headers: &Value) -> Letter {
        let properties =
            json!({"message_id": "m", "type": "UserRegistered", "delivery_mode": 2, "headers": headers});
        Letter {
            exchange: String::new(),
            routing_key: "q.dlq".into(),
            behind: 0,
            properties,
            payload: "eyJhIjoiw6QifQ==".into(),
        }
    }

    #[test]
    fn a_time_has_six_digits_of_a_second_also_where_they_end_in_zeros() {
        for (us, text) in [(1_500_000, "1970-01-01T00:00:01.500000Z"), (-1, "1969-12-31T23:59:59.999999Z")] {
            assert_eq!(letter(&json!({FIRST_FAILED_AT: us.to_string()})).first_failed_at(), text);
        }
        assert_eq!(letter(&json!({FIRST_FAILED_AT: "soon"})).first_failed_at(), "");
    }

    #[test]
    fn a_renewed_letter_keeps_everything_but_the_marks_of_its_failure() {
        let marked = letter(
            &json!({"x-attempt": "5", "x-reason": "r", "x-first-failed-at": "1", "x-delivery-count": 3,
            "x-death": [{"count": 1}], "x-request-id": "w", "traceparent": "00-abc-d-01", "x-accepted-at": "7"}),
        );
        let published = marked.renewed().publish("q");
        assert_eq!(published["properties"]["message_id"], "m");
        assert_eq!(
            published["properties"]["headers"],
            json!({"x-request-id": "w", "traceparent": "00-abc-d-01", "x-accepted-at": "7"})
        );
        assert_eq!(published["payload"], "eyJhIjoiw6QifQ==");
        let stays = marked.unchanged().publish("q.dlq");
        assert_eq!(stays["properties"]["headers"]["x-reason"], "r");
    }

    #[test]
    fn what_is_shown_tells_what_happened_and_not_to_whom() {
        let shown = letter(
            &json!({"x-attempt": "5", "x-reason": "no\u{1b}[31m", "x-first-failed-at": "1700000000000000",
            "traceparent": "00-abc-d-01", "x-request-id": "w"}),
        );
        let text = shown.describe(false);
        for part in
            ["m\n", "UserRegistered", "5\n", "2023-11-14T22:13:20.000000Z", "no\u{fffd}[31m", "abc\n", "w\n"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("body"), "{text}");
        assert!(shown.describe(true).contains(r#"{"a":"ä"}"#));
    }

    #[test]
    fn one_without_properties_is_shown_and_published_too() {
        let bare = Letter { properties: json!([]), ..letter(&json!({})) };
        assert!(bare.describe(false).contains("(no message id)"));
        assert_eq!(bare.renewed().publish("q")["properties"], json!({}));
    }
}
