//! A line of a service's log as people read it: `TIME LEVEL message name=value ...` instead of JSON.

use serde_json::{Map, Value};

/// A line without JSON, or with unknown JSON, stays as it is; so does text before the JSON.
pub fn readable(line: &str) -> String {
    let Some(start) = line.find('{') else { return line.to_owned() };
    let (before, json) = line.split_at(start);
    match serde_json::from_str(json) {
        Ok(Value::Object(fields)) => formatted(before, fields).unwrap_or_else(|| line.to_owned()),
        _ => line.to_owned(),
    }
}

fn formatted(before: &str, mut fields: Map<String, Value>) -> Option<String> {
    let (time, level) = (fields.remove("timestamp")?, fields.remove("level")?);
    let message = fields.remove("message").unwrap_or_default();
    let mut text = format!("{before}{} {:>5} {}", plain(&time), plain(&level), plain(&message));
    let span = fields.remove("span");
    // Without the source file.
    fields.remove("target");
    let of_span = span.as_ref().and_then(Value::as_object).into_iter().flatten();
    let of_span = of_span.filter(|(name, _)| *name != "name" && !fields.contains_key(*name));
    for (name, value) in fields.iter().chain(of_span) {
        text += &format!(" {name}={}", plain(value));
    }
    Some(text)
}

/// A string without quotation marks, unless its end would be unclear.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if !text.contains('\n') => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_span() {
        let line = r#"user-1  | {"timestamp":"T","level":"INFO","message":"answered","status":202,"target":"workflow","span":{"handler":"/register","name":"request"}}"#;
        assert_eq!(readable(line), "user-1  | T  INFO answered status=202 handler=/register");
    }

    #[test]
    fn what_others_write_stays_as_it_is() {
        for line in ["LOG:  checkpoint {complete}", r#"{"a":1}"#, "", "{"] {
            assert_eq!(readable(line), line);
        }
    }
}
