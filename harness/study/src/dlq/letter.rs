//! A dead letter as text for a terminal.

use stack::broker::DeadLetter;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 with microseconds, also where they end in zeros; empty if it is unknown.
pub(super) fn first_failed_at(letter: &DeadLetter) -> String {
    let text = |us: i64| {
        let second = OffsetDateTime::from_unix_timestamp(us.div_euclid(1_000_000)).ok()?;
        let second = second.format(&Rfc3339).ok()?;
        Some(format!("{}.{:06}Z", second.trim_end_matches('Z'), us.rem_euclid(1_000_000)))
    };
    letter.first_failed_us.and_then(text).unwrap_or_default()
}

pub(super) fn reason(letter: &DeadLetter) -> &str {
    letter.reason.as_deref().unwrap_or_default()
}

/// Several lines; the body only on request.
pub fn describe(letter: &DeadLetter, body: bool) -> String {
    let or_dash = |value: &Option<String>| value.as_deref().unwrap_or("-").to_owned();
    let mut lines = vec![
        ("event", or_dash(&letter.event)),
        ("attempts", or_dash(&letter.attempts)),
        ("first failed at", first_failed_at(letter)),
        ("reason", reason(letter).to_owned()),
        ("trace id", or_dash(&letter.trace_id)),
        ("request id", or_dash(&letter.request_id)),
    ];
    if body {
        lines.push(("body", String::from_utf8_lossy(&letter.body).into_owned()));
    }
    let mut text = format!("\n{}\n", printable(letter.id.as_deref().unwrap_or("(no message id)")));
    for (name, value) in lines {
        text += &format!("  {name:<16}{}\n", printable(&value));
    }
    text
}

/// Without line breaks and terminal codes: clients wrote some of it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_of_a_second_also_where_they_end_in_zeros() {
        let text = |us| first_failed_at(&DeadLetter { first_failed_us: us, ..DeadLetter::default() });
        assert_eq!(text(Some(1_500_000)), "1970-01-01T00:00:01.500000Z");
        assert_eq!(text(Some(-1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text(None), "");
    }

    #[test]
    fn the_description_says_what_happened_and_shows_the_body_only_on_request() {
        let some = |text: &str| Some(text.to_owned());
        let letter = DeadLetter {
            id: some("m"),
            event: some("UserRegistered"),
            attempts: some("5"),
            first_failed_us: Some(1_700_000_000_000_000),
            reason: some("no\u{1b}[31m"),
            trace_id: some("abc"),
            request_id: some("w"),
            body: r#"{"a":"ä"}"#.into(),
        };
        let text = describe(&letter, false);
        for part in
            ["m\n", "UserRegistered", "5\n", "2023-11-14T22:13:20.000000Z", "no\u{fffd}[31m", "abc\n", "w\n"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("body"), "{text}");
        assert!(describe(&letter, true).contains(r#"{"a":"ä"}"#));
        assert!(describe(&DeadLetter::default(), false).contains("(no message id)"));
    }
}
