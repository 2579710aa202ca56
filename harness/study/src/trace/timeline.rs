//! The timeline of a workflow, from the log lines of its hops: order, nesting, idle gaps, and effects that are missing. Times are
//! microseconds; those of a [`Line`] since the Unix epoch, those of a [`Timeline`] since the acceptance.

use std::collections::BTreeSet;

use contract::{calls, campus};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use stack::Mode;

/// A line is written some time after its duration was measured, so a call may seem to begin this much before its caller.
const SLACK: i64 = 1_000;
/// Fields that every line has, or that are shown elsewhere.
const NOT_SAID: [&str; 8] =
    ["timestamp", "level", "target", "message", "span", "spans", "request_id", "traceparent"];

/// One line of a service's log.
pub struct Line {
    pub service: String,
    pub at: i64,
    value: Value,
}

impl Line {
    /// `None` if it is not JSON.
    pub fn parse(service: &str, text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let at = OffsetDateTime::parse(value.get("timestamp")?.as_str()?, &Rfc3339).ok()?;
        let at = i64::try_from(at.unix_timestamp_nanos() / 1000).ok()?;
        Some(Self { service: service.to_owned(), at, value })
    }

    /// Of the line, else of its request or event.
    fn text(&self, name: &str) -> Option<&str> {
        let holders = [Some(&self.value), self.value.get("span")];
        holders.into_iter().flatten().find_map(|holder| holder.get(name)?.as_str())
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.value.get(name)?.as_f64()
    }

    pub fn request_id(&self) -> Option<&str> {
        self.text("request_id")
    }

    /// The entity that its request concerns.
    pub fn subject(&self) -> Option<&str> {
        self.text("subject")
    }

    /// The order that a background task names, outside any request: a number, or a UUID.
    pub fn order(&self) -> Option<String> {
        let id = self.value.get("order_id")?;
        Some(id.as_str().map_or_else(|| id.to_string(), str::to_owned))
    }

    /// The request during which it was written.
    fn request(&self) -> Option<String> {
        let span = self.value.get("span").filter(|span| span["name"] == "request")?;
        let text = |name| span.get(name).and_then(Value::as_str);
        Some(format!("{} {} of {}", text("method")?, text("handler")?, self.service))
    }

    fn what(&self) -> Option<What> {
        let level = self.text("level")?;
        if self.text("target")? != "workflow" {
            let warns = ["WARN", "ERROR"].contains(&level);
            return warns.then(|| self.said(level));
        }
        let text = |name| self.text(name).map(str::to_owned);
        Some(match self.text("message")? {
            "answered" => What::Request {
                method: text("method")?,
                handler: text("handler")?,
                status: self.value.get("status")?.as_u64()?,
            },
            "published" => What::Published { event: text("event")? },
            "handled" => What::Handled { queue: text("queue")?, outcome: text("outcome")? },
            "effect" => What::Effect {
                scenario: text("scenario")?,
                effect: text("effect")?,
                outcome: text("outcome")?,
            },
            _ => self.said(level),
        })
    }

    fn said(&self, level: &str) -> What {
        let fields = self.value.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| !NOT_SAID.contains(&name.as_str()));
        What::Said {
            level: level.to_owned(),
            message: self.text("message").unwrap_or_default().to_owned(),
            fields: fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }
}

/// The kind of a line, with its fields.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Request { method: String, handler: String, status: u64 },
    Published { event: String },
    Handled { queue: String, outcome: String },
    Effect { scenario: String, effect: String, outcome: String },
    Said { level: String, message: String, fields: Map<String, Value> },
}

impl What {
    /// Whether it has a duration; the others are instants.
    pub fn is_work(&self) -> bool {
        matches!(self, Self::Request { .. } | Self::Published { .. } | Self::Handled { .. })
    }
}

#[derive(Clone, Debug)]
pub struct Hop {
    pub service: String,
    pub start: i64,
    pub end: i64,
    /// How long nothing ran before it began, except the hop around it.
    pub gap: Option<i64>,
    /// Number of hops around it.
    pub depth: usize,
    pub what: What,
}

impl Hop {
    fn took(&self) -> i64 {
        self.end - self.start
    }

    /// Whether `inner` ran inside this.
    fn holds(&self, inner: &Hop, mode: Mode) -> bool {
        match (&self.what, &inner.what) {
            (What::Request { .. }, What::Request { .. }) => {
                !mode.has_broker()
                    && self.service != inner.service
                    // Two concurrent calls do not contain each other.
                    && calls_others(&self.service)
                    && self.took() > inner.took()
                    && self.start - SLACK <= inner.start
                    && inner.end <= self.end + SLACK
            }
            (What::Request { .. } | What::Handled { .. }, What::Effect { .. } | What::Said { .. }) => {
                self.service == inner.service && self.start <= inner.start && inner.end <= self.end
            }
            _ => false,
        }
    }
}

/// Whether a service, of the study or of the lab, calls others.
fn calls_others(service: &str) -> bool {
    calls::ALL.iter().any(|call| call.caller.name() == service)
        || campus::Stack::ALL.iter().any(|stack| stack.container(campus::Service::Order) == service)
}

/// All that is known of one workflow in one stack.
#[derive(Debug)]
pub struct Timeline {
    /// The name of the stack.
    pub stack: String,
    pub mode: Mode,
    /// `x-request-id`.
    pub workflow: String,
    /// `order 17`; several if a call created another entity.
    pub subjects: Vec<String>,
    /// Of the W3C trace.
    pub trace: Option<String>,
    /// Microseconds since the Unix epoch.
    pub accepted: i64,
    /// Nested ones follow their parent.
    pub hops: Vec<Hop>,
    /// Requests with lines, but without the line of their answer.
    pub unanswered: Vec<String>,
    /// Number of earlier workflows with the same subject: a new database starts its numbers at one.
    pub older: usize,
}

impl Timeline {
    /// `None` without a usable line.
    pub fn of(stack: &str, mode: Mode, workflow: &str, lines: &[Line]) -> Option<Self> {
        let mut lines: Vec<&Line> = lines.iter().collect();
        lines.sort_by_key(|line| line.at);
        let mut accepted = i64::MAX;
        let (mut hops, mut subjects, mut trace) = (Vec::new(), Vec::<String>::new(), None);
        let (mut begun, mut answered) = (BTreeSet::new(), BTreeSet::new());
        for line in lines {
            let Some(what) = line.what() else { continue };
            let seconds = |name| line.number(name).map_or(0, micros);
            let start = line.at - if what.is_work() { seconds("seconds") } else { 0 };
            let age = if matches!(what, What::Effect { .. }) { seconds("age") } else { 0 };
            accepted = accepted.min(start - age);
            trace = trace.or_else(|| Some(line.text("traceparent")?.split('-').nth(1)?.to_owned()));
            let request = if matches!(what, What::Request { .. }) { &mut answered } else { &mut begun };
            request.extend(line.request());
            let about = line.subject().filter(|about| !subjects.iter().any(|known| known == about));
            subjects.extend(about.map(str::to_owned));
            hops.push(Hop { service: line.service.clone(), start, end: line.at, gap: None, depth: 0, what });
        }
        let unanswered = begun.difference(&answered).cloned().collect();
        for hop in &mut hops {
            hop.start -= accepted;
            hop.end -= accepted;
        }
        if hops.is_empty() {
            return None;
        }
        let (workflow, hops) = (workflow.to_owned(), arranged(hops, mode));
        let stack = stack.to_owned();
        Some(Self { stack, mode, workflow, subjects, trace, accepted, hops, unanswered, older: 0 })
    }

    fn any(&self, test: impl Fn(&What) -> bool) -> bool {
        self.hops.iter().any(|hop| test(&hop.what))
    }

    /// The effect that happened last.
    pub fn last_effect(&self) -> Option<&Hop> {
        let effects = self.hops.iter().filter(|hop| matches!(hop.what, What::Effect { .. }));
        effects.max_by_key(|hop| hop.end)
    }

    /// Until the last line of all.
    pub fn whole(&self) -> i64 {
        self.hops.iter().map(|hop| hop.end).max().unwrap_or(0)
    }

    /// How long nothing ran, from the acceptance to `until`.
    pub fn idle(&self, until: i64) -> i64 {
        let outer = self.hops.iter().filter(|hop| hop.depth == 0 && hop.start <= until);
        outer.filter_map(|hop| hop.gap).sum()
    }

    /// Effects that must follow from the lines, and that no line reports.
    pub fn missing(&self) -> Vec<&'static str> {
        let published = |name: &str| self.any(|w| matches!(w, What::Published { event } if event == name));
        let answered = |path: &str, wanted: &dyn Fn(u64) -> bool| {
            self.any(
                |w| matches!(w, What::Request { handler, status, .. } if handler == path && wanted(*status)),
            )
        };
        let well = |status: u64| (200..300).contains(&status);
        let about = |kind: &str| self.subjects.iter().any(|subject| subject.starts_with(kind));
        let mut expected = Vec::new();
        let mut expect = |when: bool, effects: &[&'static str]| {
            if when {
                expected.extend_from_slice(effects);
            }
        };
        if self.mode.has_broker() {
            // An outbox row commits with the effect that it announces. A repeated request gets the same answer, but only the first
            // one has a subject.
            expect(published("UserRegistered"), &["email"]);
            expect(published("ProductUpdated"), &["search", "cache", "analytics"]);
            expect(answered("/track_click", &well), &["click"]);
            let begun = |path, kind, event| published(event) || about(kind) && answered(path, &well);
            expect(begun("/process_payment", "payment ", "PaymentInitiated"), &["payment"]);
            expect(begun("/generate_report", "job ", "GenerateReportJob"), &["report"]);
            expect(begun("/create_order", "order ", "OrderCreated"), &["order"]);
            expect(published("StockReserved"), &["stock"]);
            expect(about("order ") && answered("/order", &well), &["order"]);
            expect(published(campus::topics::RESERVED.key), &["notification"]);
        } else {
            // The answer reports every other effect. The sweeper ends an order that its own request left: after 400 (stock not
            // released yet), or because a peer did not answer.
            let stored = |status| well(status) || [400, 502, 504].contains(&status);
            expect(about("order ") && answered("/create_order", &stored), &["order"]);
            expect(about("order ") && answered("/order", &|status| status != 400), &["order"]);
            expect(answered("/reserve_stock", &well) && about("order "), &["stock"]);
        }
        expected.retain(|name| !self.any(|w| matches!(w, What::Effect { effect, .. } if effect == name)));
        expected
    }

    /// Whether an event was dead-lettered.
    pub fn set_aside(&self) -> bool {
        self.any(|what| matches!(what, What::Said { message, .. } if message == "event is set aside"))
    }

    pub fn accepted_at(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.accepted) * 1000).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
    }

    /// Times in seconds, as in the logs.
    pub fn to_json(&self) -> Value {
        let hops: Vec<Value> = self.hops.iter().map(Hop::to_json).collect();
        json!({
            "stack": self.stack,
            "mode": self.mode,
            "request_id": self.workflow,
            "trace_id": self.trace,
            "subjects": self.subjects,
            "accepted_at": self.accepted_at(),
            "last_effect": self.last_effect().map(|hop| seconds(hop.end)),
            "missing_effects": self.missing(),
            "unanswered": self.unanswered,
            "older": self.older,
            "hops": hops,
        })
    }
}

impl Hop {
    fn to_json(&self) -> Value {
        let mut hop = match &self.what {
            What::Request { method, handler, status } => {
                json!({"kind": "request", "method": method, "handler": handler, "status": status})
            }
            What::Published { event } => json!({"kind": "published", "event": event}),
            What::Handled { queue, outcome } => {
                json!({"kind": "handled", "queue": queue, "outcome": outcome})
            }
            What::Effect { scenario, effect, outcome } => {
                json!({"kind": "effect", "scenario": scenario, "effect": effect, "outcome": outcome})
            }
            What::Said { level, message, fields } => {
                json!({"kind": "said", "level": level, "message": message, "fields": fields})
            }
        };
        hop["service"] = self.service.clone().into();
        hop["start"] = seconds(self.start).into();
        hop["gap"] = self.gap.map(seconds).into();
        hop["seconds"] = seconds(self.took()).into();
        hop["depth"] = self.depth.into();
        hop
    }
}

fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Sorted by start, nested ones after their parent, with gaps.
fn arranged(mut hops: Vec<Hop>, mode: Mode) -> Vec<Hop> {
    // At the same start the longer one first: it may contain the other.
    hops.sort_by_key(|hop| (hop.start, -hop.took()));
    let holder = |index: usize| {
        let holds = |outer: &usize| *outer != index && hops[*outer].holds(&hops[index], mode);
        (0..hops.len()).filter(holds).min_by_key(|outer| hops[*outer].took())
    };
    let holders: Vec<Option<usize>> = (0..hops.len()).map(holder).collect();
    let mut order = Vec::new();
    place(None, 0, 0, &holders, &mut hops, &mut order);
    order.into_iter().map(|index| hops[index].clone()).collect()
}

/// The children of `holder`, which began at `since`, and their descendants.
fn place(
    holder: Option<usize>,
    depth: usize,
    since: i64,
    holders: &[Option<usize>],
    hops: &mut [Hop],
    order: &mut Vec<usize>,
) {
    let mut busy_until = since;
    for index in (0..hops.len()).filter(|index| holders[*index] == holder) {
        let hop = &mut hops[index];
        hop.depth = depth;
        if hop.what.is_work() {
            hop.gap = Some((hop.start - busy_until).max(0));
            busy_until = busy_until.max(hop.end);
        }
        order.push(index);
        let start = hop.start;
        place(Some(index), depth + 1, start, holders, hops, order);
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
