//! A log line as JSON: what the library's own format gives (flat, with the current span), at a third of its cost, because the
//! fields of a span are JSON already and are not parsed to be written again.

use std::fmt::{self, Debug};
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

pub(super) struct Json;

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        line.write_str(r#"{"timestamp":""#)?;
        SystemTime.format_time(&mut line)?;
        write!(line, r#"","level":"{}""#, event.metadata().level())?;
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        write!(line, r#","target":"{}""#, event.metadata().target())?;
        if let Some(span) = context.lookup_current() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>().map_or("{}", |f| f.fields.as_str());
            let fields = fields.strip_suffix('}').unwrap_or("{");
            let comma = if fields.len() > 1 { "," } else { "" };
            write!(line, r#","span":{fields}{comma}"name":"{}"}}"#, span.name())?;
        }
        line.write_str("}\n")
    }
}

/// Writes the fields of an event; what went wrong first stays.
struct Fields<'a, 'w> {
    line: &'a mut Writer<'w>,
    written: fmt::Result,
}

impl Fields<'_, '_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.written.is_ok() {
            self.written = write!(self.line, r#","{}":"#, field.name()).and_then(|()| value(self.line));
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(
            field,
            |line| if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") },
        );
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |line| escaped(line, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, |line| escaped(line, &format!("{value:?}")));
    }
}

fn escaped(line: &mut Writer<'_>, text: &str) -> fmt::Result {
    serde_json::to_writer(Text(line), text).map_err(|_| fmt::Error)
}

/// Where a serializer of bytes meets a line of text.
struct Text<'a, 'w>(&'a mut Writer<'w>);

impl io::Write for Text<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::prelude::*;
    use tracing_subscriber::{fmt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_what_the_library_makes_of_it() {
        let (own, library) = (Lines::default(), Lines::default());
        let (to_own, to_library) = (own.clone(), library.clone());
        let own_layer = fmt::layer().with_writer(move || to_own.clone()).json().event_format(Json);
        let library_layer = fmt::layer()
            .with_writer(move || to_library.clone())
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false);
        tracing::subscriber::with_default(registry().with(own_layer).with(library_layer), || {
            tracing::info!(text = "a \"quoted\"\n line, \u{7}", count = 3_u64, less = -3, "outside");
            let span = tracing::info_span!("request", id = "x\"y", subject = tracing::field::Empty);
            span.in_scope(|| {
                tracing::warn!(error = %"it broke", share = 0.5, none = f64::NAN, yes = true, "inside");
                span.record("subject", "order 1");
                tracing::error!(missing = None::<u64>, some = Some(1.5), list = ?[1, 2], "recorded");
            });
            tracing::info_span!("empty").in_scope(|| tracing::info!("in a span without fields"));
        });
        let parse = |lines: &Lines| -> Vec<Value> {
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            let line = |line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                assert!(line["timestamp"].take().is_string());
                line
            };
            text.lines().map(line).collect()
        };
        assert_eq!(parse(&own), parse(&library));
        assert_eq!(parse(&own)[1]["span"], json!({"name": "request", "id": "x\"y"}));
    }
}
